"""The sequences of a domain once its filters are done, and the users that two domains share.

Shapes: U users, S shared users, T rows of all users.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.arrays import Flags
from model.data.dataset import Sequences
from model.data.log import Log
from model.data.ordering import hashes
from model.errors import BadSettingError

_HIGHEST_BIT = np.uint64(63)


@dataclass(frozen=True, slots=True)
class Histories:
    """One domain's sequences; every user and every item in it is used."""

    user_ids: pl.Series
    """Ascending, (U,)."""
    item_ids: pl.Series
    """Ascending; the item of row r is at place r - 1."""
    sequences: Sequences

    @classmethod
    def of(cls, log: Log) -> "Histories":
        """Re-code a log that is sorted by user and time: items from 1, in ascending order."""
        users, items = log.used_users(), log.used_items()
        rows = np.cumsum(items, dtype=np.int32)[log.item]
        ends = np.cumsum(np.bincount(log.user, minlength=len(users))[users])
        return cls(log.user_ids.filter(users), log.item_ids.filter(items), Sequences(rows, ends))

    def of_users(self, mask: Flags) -> "Histories":
        """Keep the users of a mask (U,) and the items they have."""
        lengths = self.sequences.lengths
        rows = self.sequences.rows[np.repeat(mask, lengths)]
        used = np.zeros(len(self.item_ids), np.bool_)
        used[rows - 1] = True
        sequences = Sequences(np.cumsum(used, dtype=np.int32)[rows - 1], np.cumsum(lengths[mask]))
        return Histories(self.user_ids.filter(mask), self.item_ids.filter(used), sequences)


def shared_places(first: pl.Series, second: pl.Series) -> NDArray[np.int32]:
    """Find the ids that stand in both series: their places in each, (S, 2), ascending."""
    left, right = (
        pl.DataFrame({"id": ids}).with_row_index("place", offset=0) for ids in (first, second)
    )
    both = left.join(right, on="id", how="inner").select("place", "place_right").sort("place")
    return both.to_numpy().astype(np.int32, order="C")


def resampled(
    first: Histories, second: Histories, rate: float, *, seed: int
) -> tuple[Histories, Histories]:
    """Unlink shared users until so many are left as the rate says (section 6.3.2).

    An unlinked user keeps the sequence of one domain, chosen at random, and loses the other. The
    rate is of the first domain's users before any is unlinked, as in table 4 of the paper and the
    published code. The same seed keeps, at a lower rate, a part of those it keeps at a higher one.

    Raises:
        BadSettingError: If there are fewer shared users than that.
    """
    shared = shared_places(first.user_ids, second.user_ids)
    users = len(first.user_ids)
    kept = round(rate * users)
    if kept > len(shared):
        highest = np.floor(1e4 * len(shared) / users) / 1e4
        raise BadSettingError(
            f"setting data.shared_rate: {rate:g} asks for {kept} shared users of {users},"
            f" but only {len(shared)} are shared; the highest rate possible is {highest:g}"
        )
    draws = hashes(first.user_ids.gather(shared[:, 0]), seed)
    unlinked = np.argsort(draws, kind="stable")[kept:]
    sides = (hashes(first.user_ids.gather(shared[unlinked, 0]), seed + 1) >> _HIGHEST_BIT).astype(
        bool
    )
    masks = [np.ones(len(histories.user_ids), np.bool_) for histories in (first, second)]
    masks[0][shared[unlinked[sides], 0]] = False
    masks[1][shared[unlinked[~sides], 1]] = False
    return first.of_users(masks[0]), second.of_users(masks[1])
