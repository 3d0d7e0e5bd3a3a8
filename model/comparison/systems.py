"""What a comparison knows of a system: how it is called, set, fitted and tuned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.comparison.grid import Space
from model.comparison.settings import ABLATIONS, ALL, Values, flattened, with_values
from model.data.training_data import TrainingData
from model.errors import NotFoundError
from model.evaluation.protocol import Scorer
from model.settings import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """All that a system is given to be fitted."""

    data: TrainingData
    folder: Path
    """The dataset folder, for a training that opens it itself; nothing else of it may be read."""
    settings: Settings
    seed: int
    work: Path
    """A folder of this run alone. What an interrupted fit left there is found again by the next."""
    device: str
    alignment: dict[str, float] = field(default_factory=dict)
    """For a fit to fill that learns GURs: the last figures of `model.training.alignment`."""


Fit = Callable[[Task], Scorer]
"""Learns from a task; returns what answers."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One system of the registry."""

    name: str
    title: str
    """What tables call it."""
    settings: Callable[[], Settings]
    """Makes its settings before `changes`."""
    fit: Fit
    changes: Values = field(default_factory=dict)
    """Default values of this row by dotted key, where they are not those of the settings."""
    space: Space = field(default_factory=dict)
    """What it is tuned over."""
    ours: bool = False
    """Whether it is of the RecGURU family; every other system is a baseline."""
    seeded: bool = True
    """Whether a fit draws anything: with another seed, it comes out another."""
    on_device: bool = False
    """Whether it can train on a GPU."""
    ablation: bool = False
    """Whether it is RecGURU without one of its parts; `all` leaves it out."""

    def defaults(self, given: Mapping[str, Any] | None = None) -> Settings:
        """Make its settings; `given` nested values replace the defaults.

        Raises:
            BadSettingError: If a key is unknown or a value is refused.
        """
        values = {**self.changes, **flattened(given or {})}
        return with_values(self.settings(), values, given_in=f"compare.settings.{self.name}")


def find(names: Sequence[str], registry: Mapping[str, Entry]) -> list[Entry]:
    """Look systems up by name, each once, in the order of the names.

    `all` is every one but the ablations, `ablations` are those.

    Raises:
        NotFoundError: If a name is unknown; the message lists those that are known.
    """
    wanted: dict[str, Entry] = {}
    groups = {
        ALL: {each: entry for each, entry in registry.items() if not entry.ablation},
        ABLATIONS: {each: entry for each, entry in registry.items() if entry.ablation},
    }
    for name in names:
        if name in groups:
            wanted |= {each: entry for each, entry in groups[name].items() if each not in wanted}
        elif name in registry:
            wanted[name] = registry[name]
        else:
            known = ", ".join(registry)
            raise NotFoundError(f"system {name!r} is unknown; there are {known}, all and ablations")
    return list(wanted.values())
