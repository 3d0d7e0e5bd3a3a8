"""The same answer for everyone: what is interacted with most.

Shapes: B users, V items of a domain; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from model.baselines.system import Tensors
from model.baselines.tensors import of_domain, stored
from model.bundle import Floats
from model.data.dataset import DomainData, Sequences
from model.data.training_data import TrainingData
from model.evaluation.protocol import History, Users
from model.settings import Settings


class PopularitySettings(Settings):
    """There is nothing to set."""


class Popularity:
    """Scores an item by its share of the training interactions of its domain."""

    def __init__(self, shares: Mapping[str, Floats]) -> None:
        self._shares = dict(shares)

    @classmethod
    def fit(cls, data: TrainingData, settings: PopularitySettings, *, seed: int) -> Self:
        """Count the training rows of both domains; nothing is drawn."""
        return cls({each.name: item_shares(each.training, each.items) for each in data.domains})

    @classmethod
    def restore(cls, data: TrainingData, settings: PopularitySettings, tensors: Tensors) -> Self:
        """Take back the shares; see `Kind.restore`."""
        return cls(
            {
                each.name: stored(tensors, f"{each.name}.shares", (each.items + 1,)).astype(
                    np.float32
                )
                for each in data.domains
            }
        )

    def tensors(self) -> Tensors:
        """Return the shares of both domains."""
        return {f"{name}.shares": shares for name, shares in self._shares.items()}

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); histories do not matter.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        return np.tile(of_domain(self._shares, domain), (len(histories), 1))


def popularity_shares(domain: DomainData) -> Floats:
    """Return the share of the training interactions each item has -> (V + 1,), 0 for padding."""
    return item_shares(domain.training(), len(domain.vocabulary))


def item_shares(training: Sequences, items: int) -> Floats:
    """Return the share of the rows each of V items has -> (V + 1,), 0 for padding."""
    counts = np.bincount(training.rows, minlength=items + 1)
    return (counts / max(int(counts.sum()), 1)).astype(np.float32)
