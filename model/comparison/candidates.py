"""The settings that a system is tried with, before one of them is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.comparison.grid import draw_trials
from model.comparison.settings import CompareSettings, flattened, with_values
from model.comparison.systems import Entry
from model.errors import BadSettingError
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
        BadSettingError: If a value given for the system is refused, or a seed is given.
    """
    given, spaces = settings.settings.get(entry.name, {}), settings.spaces
    for table, keys in (("settings", given), ("spaces", spaces.get(entry.name, {}))):
        if "seed" in keys:
            raise BadSettingError(
                f"setting compare.{table}.{entry.name}.seed: seeds are those of compare.seeds"
            )
    defaults = entry.defaults(given)
    space = spaces.get(entry.name, entry.space)
    known = flattened(defaults.model_dump(mode="json"))
    tries = draw_trials(space, settings.trials, defaults=known, system=entry.name)
    return [
        Candidate(
            number, changes, with_values(defaults, changes, given_in=f"compare.spaces.{entry.name}")
        )
        for number, changes in enumerate(tries)
    ]
