"""How alike items are by the users they share, as a sparse matrix.

With X and Y the binary users x items matrices of two sets of training rows of the same users, the
likeness of an item of X to one of Y is the cosine of their columns: the users they share over the
root of the product of the users they have. Smoothing adds a number to the users of each, so that
two items with one user in common, and hardly any other, are not as good as the same. The matrix is
kept sparse: dense, a catalogue of 20,000 items would need 1.6 GB.

Shapes: U users, V items of the first set, W items of the second, E pairs of items that share a
user; row 0 is padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places, Rows
from model.data.dataset import Sequences, ranges

Worths = NDArray[np.floating]

_PAIRS_TOGETHER = 4_000_000


@dataclass(frozen=True, slots=True)
class Likeness:
    """A sparse matrix (V + 1, W + 1) by rows."""

    ends: Places
    """Where each row's entries end, (V + 1,)."""
    columns: Rows
    """(E,)."""
    cosines: Floats
    """(E,), above 0 and at most 1."""

    @classmethod
    def within(cls, training: Sequences, items: int, *, smoothing: float) -> "Likeness":
        """Compare the items of one domain; an item is not compared with itself."""
        baskets = _distinct(training, items + 1)
        keys, shared = _shared_users(baskets, baskets, items + 1)
        unlike = keys // (items + 1) != keys % (items + 1)
        users = np.bincount(baskets.rows, minlength=items + 1) + smoothing
        return cls._of(keys[unlike], shared[unlike], users, users)

    @classmethod
    def across(
        cls, first: Sequences, second: Sequences, items: tuple[int, int], *, smoothing: float
    ) -> "Likeness":
        """Compare items of two domains by the rows that the same U users have in each.

        Args:
            first: The users' rows in one domain.
            second: The same users' rows in the other, in the same order.
            items: V and W.
            smoothing: Users added to those of every item.
        """
        one, other = _distinct(first, items[0] + 1), _distinct(second, items[1] + 1)
        keys, shared = _shared_users(one, other, items[1] + 1)
        return cls._of(
            keys,
            shared,
            np.bincount(one.rows, minlength=items[0] + 1) + smoothing,
            np.bincount(other.rows, minlength=items[1] + 1) + smoothing,
        )

    @classmethod
    def _of(cls, keys: Places, shared: Places, users: Worths, others: Worths) -> "Likeness":
        left, right = keys // len(others), keys % len(others)
        cosines = shared / np.sqrt(users[left] * others[right])
        ends = np.cumsum(np.bincount(left, minlength=len(users)))
        return cls(ends, right.astype(np.int32), cosines.astype(np.float32))

    def votes(self, histories: Sequences, items: int, *, decay: float) -> Floats:
        """Add up the likeness of each history's rows to every item -> (users, W + 1).

        Args:
            histories: The rows that vote, oldest first.
            items: W.
            decay: What a row weighs in proportion to the next.
        """
        ages = np.repeat(histories.ends, histories.lengths) - 1 - np.arange(len(histories.rows))
        askers = np.repeat(np.arange(len(histories)), histories.lengths)
        return self._add_up(histories.rows, askers, decay**ages, (len(histories), items + 1))

    def spread(self, weights: Floats, items: int) -> Floats:
        """Add up the likeness of all items by weights of their own.

        Args:
            weights: What each item weighs, 0 mostly, (users, V + 1).
            items: W.

        Returns:
            (users, W + 1).
        """
        askers, rows = np.nonzero(weights)
        return self._add_up(rows, askers, weights[askers, rows], (len(weights), items + 1))

    def _add_up(
        self, rows: Rows | Places, askers: Places, worth: Worths, shape: tuple[int, int]
    ) -> Floats:
        begins = np.append(0, self.ends)[rows]
        counts = self.ends[rows] - begins
        entries = ranges(begins, counts)
        cells = np.repeat(askers * shape[1], counts) + self.columns[entries]
        worths = self.cosines[entries] * np.repeat(worth, counts)
        totals = np.bincount(cells, worths, shape[0] * shape[1])
        return totals.reshape(shape).astype(np.float32)


def _distinct(sequences: Sequences, size: int) -> Sequences:
    owners = np.repeat(np.arange(len(sequences)), sequences.lengths)
    keys = np.unique(owners * size + sequences.rows)
    lengths = np.bincount(keys // size, minlength=len(sequences))
    return Sequences((keys % size).astype(np.int32), np.cumsum(lengths))


def _shared_users(first: Sequences, second: Sequences, size: int) -> tuple[Places, Places]:
    """Count the users of each pair of rows -> pairs as row * size + other row (E,), counts (E,)."""
    keys, shared = np.empty(0, np.int64), np.empty(0, np.int64)
    for pairs in _pairs(first, second, size):
        found, counts = np.unique(pairs, return_counts=True)
        keys, places = np.unique(np.concatenate([keys, found]), return_inverse=True)
        shared = np.bincount(places, np.concatenate([shared, counts])).astype(np.int64)
    return keys, shared


def _pairs(first: Sequences, second: Sequences, size: int) -> Iterator[Places]:
    """Give each user's pairs of a row in both as first * size + second, in parts."""
    counts = second.lengths
    parts = np.cumsum(first.lengths * counts) // _PAIRS_TOGETHER
    for part in np.unique(parts):
        users = np.flatnonzero(parts == part)
        owner = np.repeat(users, first.lengths[users])  # one for each row of these baskets
        rows = first.take(users).rows
        left = np.repeat(rows, counts[owner])
        right = second.take(owner).rows
        yield left.astype(np.int64) * size + right
