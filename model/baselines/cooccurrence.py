"""Items are alike when the same users have them: neighbourhood models with nothing to train.

`Cooccurrence` knows one domain at a time: a user's most recent rows vote for the items they share
training users with, by the cosine of `model.baselines.likeness`. `CrossCooccurrence` lets the rows
of the other domain vote when the user has none in the target domain; what ties the domains are the
training rows of shared users. Those are few, so an item that gets votes passes them on to the items
that go with it in the target domain.

Shapes: B users, V items of a domain; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from model.arrays import Floats, Places, Rows
from model.baselines.likeness import Likeness
from model.baselines.system import Tensors
from model.baselines.tensors import of_domain, stored
from model.data.dataset import Sequences
from model.data.popularity import item_shares
from model.data.training_data import TrainingData, TrainingDomain
from model.evaluation.protocol import History, Users
from model.settings import Settings

_NOTHING: Rows = np.empty(0, np.int32)
_TIE_BREAK = 1e-3


class CooccurrenceSettings(Settings):
    """Which rows of a history vote, and with what weight."""

    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    """What a row of a history weighs in proportion to the next; 1 looks at no order."""

    last: Annotated[int, Field(ge=1)] | None = 10
    """Most recent rows that vote; none means all."""

    smoothing: Annotated[float, Field(ge=0)] = 30.0
    """Users added to those of every item, so that rare items need more than one user in common."""


class CrossCooccurrenceSettings(CooccurrenceSettings):
    """Which rows of a history, in either domain, vote, and with what weight."""


class Cooccurrence:
    """Scores an item by how like it is to what the user has in the same domain, all added up.

    Where few rows vote, most items tie at nothing; popularity, at so small a weight that it decides
    little else, puts them in order.
    """

    def __init__(
        self,
        likeness: Mapping[str, Likeness],
        shares: Mapping[str, Floats],
        settings: CooccurrenceSettings,
    ) -> None:
        """Put the parts together.

        Args:
            likeness: By domain, that of its items.
            shares: By domain, the popularity of its items, (V + 1,).
            settings: Which rows vote.
        """
        self._likeness = dict(likeness)
        self._shares = dict(shares)
        self._settings = settings

    @classmethod
    def fit(cls, data: TrainingData, settings: CooccurrenceSettings, *, seed: int) -> Self:
        """Count in both domains which items share training users; nothing is drawn."""
        likeness = {
            each.name: Likeness.within(each.training, each.items, smoothing=settings.smoothing)
            for each in data.domains
        }
        return cls(likeness, _shares(data), settings)

    @classmethod
    def restore(cls, data: TrainingData, settings: CooccurrenceSettings, tensors: Tensors) -> Self:
        """Take back the likenesses; see `Kind.restore`."""
        likeness = {each.name: _stored(tensors, each.name, each) for each in data.domains}
        return cls(likeness, _shares(data), settings)

    def tensors(self) -> Tensors:
        """Return the likenesses of both domains."""
        return _put_down(self._likeness)

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); only the domain's own history matters.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        likeness = of_domain(self._likeness, domain)
        voters = _recent(histories, domain, self._settings)
        votes = likeness.votes(voters, len(likeness.ends) - 1, decay=self._settings.decay)
        scores: Floats = votes + np.float32(_TIE_BREAK) * self._shares[domain]
        return scores

    def go_together(self, domain: str, weights: Floats) -> Floats:
        """Score every item by its likeness to items of some weight, (B, V + 1) -> (B, V + 1)."""
        likeness = of_domain(self._likeness, domain)
        return likeness.spread(weights, len(likeness.ends) - 1)


class CrossCooccurrence:
    """Co-occurrence that asks the other domain's rows where the own history is empty."""

    def __init__(
        self,
        within: Cooccurrence,
        across: Mapping[str, Likeness],
        settings: CrossCooccurrenceSettings,
    ) -> None:
        """Put the parts together.

        Args:
            within: For users with a history in the target domain.
            across: By target domain, the likeness of the other domain's items to its own.
            settings: Which rows vote.
        """
        self._within = within
        self._across = dict(across)
        self._settings = settings

    @classmethod
    def fit(cls, data: TrainingData, settings: CrossCooccurrenceSettings, *, seed: int) -> Self:
        """Count which items share training users, within each domain and across; draw nothing."""
        within = Cooccurrence.fit(data, settings, seed=seed)
        across = {}
        for place, target in enumerate(data.domains):
            other = data.domains[1 - place]
            first = _of_users(other.training, data.shared[:, 1 - place])
            second = _of_users(target.training, data.shared[:, place])
            items = other.items, target.items
            across[target.name] = Likeness.across(
                first, second, items, smoothing=settings.smoothing
            )
        return cls(within, across, settings)

    @classmethod
    def restore(
        cls, data: TrainingData, settings: CrossCooccurrenceSettings, tensors: Tensors
    ) -> Self:
        """Take back the likenesses; see `Kind.restore`."""
        within = Cooccurrence.restore(data, settings, tensors)
        across = {
            each.name: _stored(tensors, f"to {each.name}", data.other_than(each))
            for each in data.domains
        }
        return cls(within, across, settings)

    def tensors(self) -> Tensors:
        """Return the likenesses within both domains and across."""
        across = {f"to {name}": likeness for name, likeness in self._across.items()}
        return {**self._within.tensors(), **_put_down(across)}

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1).

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        scores = self._within.scores(domain, histories)
        other = next(name for name in self._across if name != domain)
        new = np.array([not len(history.get(domain, _NOTHING)) for history in histories])
        elsewhere = [
            history if is_new else {} for history, is_new in zip(histories, new, strict=True)
        ]
        voters = _recent(elsewhere, other, self._settings)
        votes = self._across[domain].votes(voters, scores.shape[1] - 1, decay=self._settings.decay)
        passed_on = self._within.go_together(domain, votes)
        total: Floats = scores + votes + passed_on
        return total


def _shares(data: TrainingData) -> dict[str, Floats]:
    return {each.name: item_shares(each.training, each.items) for each in data.domains}


def _recent(histories: Sequence[History], domain: str, settings: CooccurrenceSettings) -> Sequences:
    """Take the rows of each history in a domain that vote."""
    rows = [history.get(domain, _NOTHING) for history in histories]
    last = settings.last
    return Sequences.of(rows if last is None else [each[-last:] for each in rows])


def _of_users(sequences: Sequences, users: Places) -> Sequences:
    return Sequences.of([sequences[int(user)] for user in users])


def _put_down(parts: Mapping[str, Likeness]) -> Tensors:
    return {
        f"{name}.{field}": tensor
        for name, likeness in parts.items()
        for field, tensor in (
            ("ends", likeness.ends),
            ("columns", likeness.columns),
            ("cosines", likeness.cosines),
        )
    }


def _stored(tensors: Tensors, name: str, voters: TrainingDomain) -> Likeness:
    ends = stored(tensors, f"{name}.ends", (voters.items + 1,)).astype(np.int64)
    entries = int(ends[-1])
    return Likeness(
        ends,
        stored(tensors, f"{name}.columns", (entries,)).astype(np.int32),
        stored(tensors, f"{name}.cosines", (entries,)).astype(np.float32),
    )
