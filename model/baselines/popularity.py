"""The same answer for everyone: what is interacted with most.

Shapes: B users, V items of a domain; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from model.bundle import Floats
from model.data.dataset import Dataset, DomainData
from model.errors import NotFoundError
from model.evaluation.protocol import History, Users


class Popularity:
    """Scores an item by its share of the training interactions of its domain."""

    def __init__(self, shares: Mapping[str, Floats]) -> None:
        self._shares = dict(shares)

    @classmethod
    def fit(cls, dataset: Dataset) -> Self:
        """Count the training rows of both domains."""
        return cls({domain.name: popularity_shares(domain) for domain in dataset.domains})

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); histories do not matter.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        if domain not in self._shares:
            known = ", ".join(self._shares)
            raise NotFoundError(f"domain {domain!r} is not in the dataset; it has {known}")
        return np.tile(self._shares[domain], (len(histories), 1))


def popularity_shares(domain: DomainData) -> Floats:
    """Return the share of the training interactions each item has -> (V + 1,), 0 for padding."""
    counts = np.bincount(domain.training().rows, minlength=len(domain.vocabulary) + 1)
    return (counts / max(int(counts.sum()), 1)).astype(np.float32)
