"""Small systems whose answers are known, and datasets on disk to compare them on."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.arrays import Floats
from model.baselines.system import Tensors
from model.comparison.compare import Comparison, compare
from model.comparison.settings import CompareSettings
from model.comparison.systems import Entry, Fit, Task
from model.data.dataset import Dataset, write_dataset
from model.data.training_data import TrainingData
from model.errors import TrainingError
from model.evaluation.protocol import History, Scorer, Users
from model.files import publishing
from model.settings import Settings

TINY_TRAINING: Mapping[str, Any] = {
    "network.width": 8,
    "network.heads": 1,
    "network.layers": 1,
    "network.feed_forward": 8,
    "network.max_history": 6,
    "network.recent": 6,
    "pre_training.epochs": 1,
    "adversarial.steps": 2,
    "fine_tuning.epochs": 1,
    "fine_tuning.least_steps": 0,
}
"""Settings of a moment's training, by dotted key: it need not learn anything."""
LONGER_TRAINING: Mapping[str, Any] = {
    **TINY_TRAINING,
    "network.width": 16,
    "network.feed_forward": 32,
    "network.dropout": 0.0,
    "pre_training.epochs": 20,
    "fine_tuning.epochs": 40,
    "fine_tuning.learning_rate": 5e-3,
    "fine_tuning.batch_users": 32,
}
"""Settings of a training that learns something."""


class Quality(Settings):
    """How well `Knowing` answers."""

    knows: bool = False
    lift: float = 1.0


class Shares:
    """Scores items by how often they are in training rows."""

    def __init__(self, data: TrainingData) -> None:
        self._counts: Mapping[str, Floats] = {
            each.name: np.bincount(each.training.rows, minlength=each.items + 1).astype(np.float32)
            for each in data.domains
        }

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """See `Scorer`."""
        return np.tile(self._counts[domain], (len(histories), 1))

    def tensors(self) -> Tensors:
        """Return the counts."""
        return dict(self._counts)


class Noise:
    """Scores items at random."""

    def __init__(self, data: TrainingData, seed: int) -> None:
        self._sizes = {each.name: each.items + 1 for each in data.domains}
        self._generator = np.random.default_rng(seed)

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """See `Scorer`."""
        return self._generator.random((len(histories), self._sizes[domain]), np.float32)


class Knowing:
    """Answers as `Shares`; one that knows puts the validation row first and the popular last.

    With a lift below zero it puts that row last.
    """

    def __init__(self, data: TrainingData, settings: Quality) -> None:
        self._shares = Shares(data)
        self._validation = {each.name: each.validation for each in data.domains}
        self._settings = settings

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """See `Scorer`."""
        scores = self._shares.scores(domain, histories)
        if self._settings.knows and users is not None:
            scores = -scores
            known = self._validation[domain][users[domain]]
            scores[np.arange(len(known)), known] = np.float32(1e6) * np.sign(self._settings.lift)
        return scores


class Fits:
    """Remembers what was fitted, as `<system> <seed>`, and the system that came of it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.systems: list[Scorer] = []

    def counted(self, name: str, make: Callable[[Task], Scorer]) -> Fit:
        """Make a fit that is remembered."""

        def fit(task: Task) -> Scorer:
            self.done.append(f"{name} {task.seed}")
            self.systems.append(make(task))
            return self.systems[-1]

        return fit


def registry_of(*entries: Entry) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


def shares(fits: Fits, name: str = "shares") -> Entry:
    fit = fits.counted(name, lambda task: Shares(task.data))
    return Entry(name, name.title(), Quality, fit, seeded=False)


def noise(fits: Fits, name: str = "noise") -> Entry:
    return Entry(
        name, name.title(), Quality, fits.counted(name, lambda task: Noise(task.data, task.seed))
    )


def knowing(fits: Fits) -> Entry:
    def make(task: Task) -> Scorer:
        assert isinstance(task.settings, Quality)
        if task.settings.lift > 1:
            raise TrainingError("it diverged")
        return Knowing(task.data, task.settings)

    return Entry(
        "knowing",
        "Knowing",
        Quality,
        fits.counted("knowing", make),
        space={"knows": [False, True], "lift": [1.0, 2.0]},
    )


def slow(wait_s: float) -> Entry:
    """Make a system that shows in its work folder that its fit has begun, and then waits."""

    def fit(task: Task) -> Scorer:
        (task.work / "begun").touch()
        time.sleep(wait_s)
        return Shares(task.data)

    return Entry("slow", "Slow", Quality, fit)


def write_folder(dataset: Dataset, folder: Path) -> Path:
    with publishing(folder) as place:
        write_dataset(place, dataset.domains, dataset.shared, made={"by": "tests"}, report={})
    return folder


class Comparing:
    """Compares `noise` and `shares` in one folder, again and again."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out
        self.fits = Fits()
        self.said: list[str] = []
        self.registry = registry_of(noise(self.fits), shares(self.fits), knowing(self.fits))

    def __call__(self, *systems: str, **settings: object) -> Comparison:
        """Compare; `settings` are those of `CompareSettings`."""
        self.fits.done.clear()
        self.said.clear()
        values = {"systems": systems, "seeds": (0, 1), "resamples": 100, **settings}
        return compare(
            self.data,
            self.out,
            CompareSettings.model_validate(values),
            say=self.said.append,
            registry=self.registry,
        )
