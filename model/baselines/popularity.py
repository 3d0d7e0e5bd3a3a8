"""The same answer for everyone, or for everyone who comes from the other domain.

Shapes: B users, V items of a domain; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from model.arrays import Floats, Places
from model.baselines.system import Tensors
from model.baselines.tensors import of_domain, stored
from model.data.dataset import Sequences
from model.data.popularity import item_shares
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
        return cls(_stored(data, tensors, "shares"))

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


class LatestPopularitySettings(Settings):
    """Which interactions count."""

    last: Annotated[int, Field(ge=1)] = 3
    """The latest training rows of each user."""


class LatestPopularity:
    """Scores an item by its share of the latest interactions of those whom the user is like.

    Who is known in the other domain alone is like the shared users; everyone else like everyone.
    """

    def __init__(
        self,
        others: Mapping[str, str],
        everyone: Mapping[str, Floats],
        shared: Mapping[str, Floats],
    ) -> None:
        self._others = dict(others)
        self._everyone = dict(everyone)
        self._shared = dict(shared)

    @classmethod
    def fit(cls, data: TrainingData, settings: LatestPopularitySettings, *, seed: int) -> Self:
        """Count the latest training rows of both domains; nothing is drawn."""
        everyone, shared = {}, {}
        for place, each in enumerate(data.domains):
            all_users = np.arange(len(each.training))
            shares = item_shares(_latest(each.training, all_users, settings.last), each.items)
            of_shared = _latest(each.training, data.shared[:, place], settings.last)
            everyone[each.name] = shares
            # Everyone is one more row: among items that no shared user has, theirs decide.
            votes = item_shares(of_shared, each.items) * len(of_shared.rows) + shares
            shared[each.name] = np.asarray(votes / (len(of_shared.rows) + 1), np.float32)
        return cls(_others(data), everyone, shared)

    @classmethod
    def restore(
        cls, data: TrainingData, settings: LatestPopularitySettings, tensors: Tensors
    ) -> Self:
        """Take back the shares; see `Kind.restore`."""
        everyone, shared = (_stored(data, tensors, name) for name in ("everyone", "shared"))
        return cls(_others(data), everyone, shared)

    def tensors(self) -> Tensors:
        """Return the shares of both domains, among everyone and among shared users."""
        return {
            f"{domain}.{name}": shares
            for name, of in (("everyone", self._everyone), ("shared", self._shared))
            for domain, shares in of.items()
        }

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1), by which histories there are.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        everyone, other = of_domain(self._everyone, domain), self._others[domain]
        new = [
            len(each.get(domain, ())) == 0 and len(each.get(other, ())) > 0 for each in histories
        ]
        return np.where(np.array(new, np.bool_)[:, None], self._shared[domain], everyone)


def _stored(data: TrainingData, tensors: Tensors, name: str) -> dict[str, Floats]:
    return {
        each.name: stored(tensors, f"{each.name}.{name}", (each.items + 1,)).astype(np.float32)
        for each in data.domains
    }


def _latest(training: Sequences, users: Places, last: int) -> Sequences:
    return Sequences.of([training[int(user)][-last:] for user in users])


def _others(data: TrainingData) -> dict[str, str]:
    return {each.name: data.other_than(each).name for each in data.domains}
