"""Items are alike when the same users have them: a neighbourhood model with nothing to train.

With X the binary users x items matrix of the training rows, the likeness of two items is the cosine
of their columns, and a user's scores are one product of the user's history with the matrix of
likenesses. That is kept sparse: dense, a catalogue of 20,000 items would need 1.6 GB.

Shapes: B users, V items of a domain, E pairs of items that share a user; row 0 is padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.bundle import Floats
from model.data.dataset import Dataset, DomainData, Sequences
from model.data.vocabulary import Rows
from model.errors import BadSettingError, NotFoundError
from model.evaluation.protocol import History, Users

Places = NDArray[np.int64]

_PAIRS_TOGETHER = 4_000_000
_NOTHING: Rows = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Likeness:
    """A symmetric sparse matrix (V + 1, V + 1) by rows, its diagonal empty."""

    ends: Places
    """Where each row's entries end, (V + 1,)."""
    columns: Rows
    """(E,)."""
    cosines: Floats
    """(E,), above 0 and at most 1."""


class Cooccurrence:
    """Scores an item by how like it is to what the user has in the same domain, all added up."""

    def __init__(self, likeness: Mapping[str, Likeness], *, decay: float) -> None:
        self._likeness = dict(likeness)
        self._decay = decay

    @classmethod
    def fit(cls, dataset: Dataset, *, decay: float = 1.0) -> Self:
        """Count in both domains which items share training users.

        Args:
            dataset: Whose training rows to count.
            decay: What a row of a history weighs in proportion to the next, above 0 and at most 1.
                1, the default, is the plain matrix product that looks at no order; 0.6 is about
                best on Amazon reviews.

        Raises:
            BadSettingError: If `decay` is out of range.
        """
        if not 0 < decay <= 1:
            raise BadSettingError(f"decay must be above 0 and at most 1, not {decay}")
        likeness = {domain.name: cosine_likeness(domain) for domain in dataset.domains}
        return cls(likeness, decay=decay)

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); only the domain's own history matters.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        if domain not in self._likeness:
            known = ", ".join(self._likeness)
            raise NotFoundError(f"domain {domain!r} is not in the dataset; it has {known}")
        likeness = self._likeness[domain]
        own = Sequences.of([history.get(domain, _NOTHING) for history in histories])
        ages = np.repeat(own.ends, own.lengths) - 1 - np.arange(len(own.rows))
        begins = np.append(0, likeness.ends)[own.rows]
        counts = likeness.ends[own.rows] - begins
        entries = _ranges(begins, counts)
        size = len(likeness.ends)
        askers = np.repeat(np.arange(len(own)), own.lengths)
        cells = np.repeat(askers * size, counts) + likeness.columns[entries]
        worth = likeness.cosines[entries] * np.repeat(self._decay**ages, counts)
        totals = np.bincount(cells, worth, len(own) * size)
        return totals.reshape(len(own), size).astype(np.float32)


def cosine_likeness(domain: DomainData) -> Likeness:
    """Compare the items of a domain by the training users they share."""
    size = len(domain.vocabulary) + 1
    baskets = _distinct(domain.training(), size)
    users_of = np.bincount(baskets.rows, minlength=size)
    keys, shared = np.empty(0, np.int64), np.empty(0, np.int64)
    for pairs in _pairs(baskets, size):
        found, counts = np.unique(pairs, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, found]), return_inverse=True)
        shared = np.bincount(places, np.concatenate([shared, counts])).astype(np.int64)
    first, second = keys // size, keys % size
    cosines = shared / np.sqrt(users_of[first] * users_of[second])
    ends = np.cumsum(np.bincount(first, minlength=size))
    return Likeness(ends, second.astype(np.int32), cosines.astype(np.float32))


def _distinct(sequences: Sequences, size: int) -> Sequences:
    owners = np.repeat(np.arange(len(sequences)), sequences.lengths)
    keys = np.unique(owners * size + sequences.rows)
    lengths = np.bincount(keys // size, minlength=len(sequences))
    return Sequences((keys % size).astype(np.int32), np.cumsum(lengths))


def _pairs(baskets: Sequences, size: int) -> Iterator[Places]:
    """Give the ordered pairs of unlike rows within a basket as first * size + second, in parts."""
    lengths, starts = baskets.lengths, baskets.starts
    parts = np.cumsum(lengths**2) // _PAIRS_TOGETHER
    for part in np.unique(parts):
        users = np.flatnonzero(parts == part)
        owner = np.repeat(users, lengths[users])  # one for each row of these baskets
        first = np.repeat(baskets.rows[_ranges(starts[users], lengths[users])], lengths[owner])
        second = baskets.rows[_ranges(starts[owner], lengths[owner])]
        unlike = first != second
        yield first[unlike].astype(np.int64) * size + second[unlike]


def _ranges(starts: Places, lengths: Places) -> Places:
    """Put the ranges start..start + length - 1 end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    ranges: Places = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return ranges
