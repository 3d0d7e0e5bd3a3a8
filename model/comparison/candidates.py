"""The settings that a system is tried with, before one of them is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.comparison.grid import draw_trials
from model.comparison.settings import CompareSettings, flattened, with_values
from model.comparison.systems import Entry
from model.settings import Settings


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that may be chosen."""

    number: int
    """Its place in the order of trials; 0 are the defaults."""
    changes: Mapping[str, Any]
    """Where it differs from the defaults, by dotted key."""
    settings: Settings


def candidates_of(entry: Entry, settings: CompareSettings) -> list[Candidate]:
    """List the settings a system is tried with, within the comparison's budget.

    Raises:
        BadSettingError: If a value given for the system is refused.
    """
    defaults = entry.defaults(settings.settings.get(entry.name))
    space = settings.spaces.get(entry.name, entry.space)
    known = flattened(defaults.model_dump(mode="json"))
    tries = draw_trials(space, settings.trials, defaults=known, system=entry.name)
    return [
        Candidate(number, changes, with_values(defaults, changes, owner=entry.name))
        for number, changes in enumerate(tries)
    ]
