"""Which items are used near each other, and how often. Training rows only.

Two items of a user meet where they are unlike and stand near each other.

Shapes: V items, E pairs of items that meet, M meetings.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.arrays import Places, Rows
from model.data.batches import pad_slices
from model.data.dataset import Sequences
from model.data.training_data import TrainingData

WINDOW = 10
"""Steps within which two items of a user count as near."""
_COUNTED_TOGETHER = 2**26  # meetings sorted at once, 16 bytes each; one item's are never split

_Meetings = Iterable[tuple[Rows, Rows]]
"""Who meets, (M,) and (M,), each meeting once; in parts."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which items are near each other and how often; every pair stands both ways round."""

    left: Rows
    """(E,)."""
    right: Rows
    """(E,)."""
    counts: NDArray[np.int64]
    """(E,)."""

    @classmethod
    def joined(cls, parts: Iterable["Pairs"]) -> "Pairs":
        """Put pairs one after the other."""
        found = list(parts)
        return cls(
            np.concatenate([each.left for each in found]),
            np.concatenate([each.right for each in found]),
            np.concatenate([each.counts for each in found]),
        )

    def in_order(self) -> "Pairs":
        """Sort by the item on the left, then by the other."""
        order = np.lexsort((self.right, self.left))
        return Pairs(self.left[order], self.right[order], self.counts[order])

    def shifted(self, by: int) -> "Pairs":
        """Count items on from another number."""
        return Pairs(self.left + np.int32(by), self.right + np.int32(by), self.counts)


def near_pairs(sequences: Sequences, items: int) -> Pairs:
    """Count how often two items are within `WINDOW` steps, both ways round; by item, then other."""
    return Pairs.joined(near_pairs_by_item(sequences, items))


def near_pairs_by_item(sequences: Sequences, items: int) -> Iterator[Pairs]:
    """Give `near_pairs` in parts, which follow each other and have all pairs of their left items.

    Of the meetings, many times the rows, only those of one part are in memory; each part looks
    through all of them.

    Args:
        sequences: The training rows.
        items: V; rows are from 1 to V.
    """
    rows = np.asarray(sequences.rows)
    users = np.repeat(np.arange(len(sequences), dtype=np.int32), sequences.lengths)

    def meetings() -> _Meetings:
        for gap in range(1, min(WINDOW, len(rows) - 1) + 1):
            same = (users[gap:] == users[:-gap]) & (rows[gap:] != rows[:-gap])
            yield rows[:-gap][same], rows[gap:][same]

    yield from _counted(meetings, 2 * WINDOW * np.bincount(rows, minlength=items + 1))


def pairs_across(data: TrainingData) -> Pairs:
    """Count pairs of items of shared users across the domains; the second's rows come last.

    No times are known across domains: each of the last `WINDOW` rows in one is near each of those
    in the other.
    """
    first, second = data.domains
    own = pad_slices(first.training, data.shared[:, 0], longest=WINDOW)
    other = pad_slices(second.training, data.shared[:, 1], longest=WINDOW)
    other[other > 0] += first.items

    def meetings() -> _Meetings:
        for column in own.T:
            real = (column > 0)[:, None] & (other > 0)
            yield np.broadcast_to(column[:, None], other.shape)[real], other[real]

    rows = np.concatenate([own.ravel(), other.ravel()])
    most = WINDOW * np.bincount(rows, minlength=first.items + second.items + 1)
    return Pairs.joined(_counted(meetings, most))


def _counted(meetings: Callable[[], _Meetings], most: Places) -> Iterator[Pairs]:
    """Count pairs both ways round, for some items on the left at a time.

    Args:
        meetings: Gives all of them, whenever it is called.
        most: In how many an item is at most, (V + 1,).
    """
    ends = np.cumsum(most)
    cuts = np.searchsorted(ends, np.arange(_COUNTED_TOGETHER, ends[-1], _COUNTED_TOGETHER))
    for low, high in pairwise(np.unique([0, *cuts, len(most)]).tolist()):
        yield _of_items(meetings(), low, high, size=len(most))


def _of_items(meetings: _Meetings, low: int, high: int, *, size: int) -> Pairs:
    """Count the pairs whose left item is from `low` to before `high`."""
    keys = [np.empty(0, np.int64)]
    for one, other in meetings:
        for left, right in ((one, other), (other, one)):
            here = (left >= low) & (left < high)
            keys.append(left[here].astype(np.int64) * size + right[here])
    met = np.concatenate(keys)
    del keys
    met.sort()
    begins = np.flatnonzero(np.diff(met, prepend=-1))
    pairs = met[begins]
    counts = np.diff(begins, append=len(met))
    return Pairs((pairs // size).astype(np.int32), (pairs % size).astype(np.int32), counts)
