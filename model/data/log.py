"""The interactions of one domain in memory: integers from the first block on, 16 bytes each.

Ids become places in their ascending order, so nothing later depends on how threads met them.
Shapes: n interactions, U users, V items.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.arrays import Flags
from model.data.vocabulary import MAX_ID_BYTES

Codes = NDArray[np.uint32]
"""Places of ids, half as long as `Places`."""

Times = NDArray[np.int64]

_GARBLED = r"[\x00-\x08\x0a-\x1f\x7f-\x{9f}\x{fffd}]"
"""Control characters other than the tab, and what stands where text could not be decoded."""

_TICKS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (np.inf, 1_000_000_000))
"""Times below the first number are in units of which the second number make a second."""

_LOOKED_AT = 1_000_000


@dataclass(slots=True)
class Log:
    """The interactions of one domain, column by column."""

    user_ids: pl.Series
    """User ids in ascending order, (U,)."""
    item_ids: pl.Series
    """Item ids in ascending order, (V,)."""
    user: Codes
    """Each interaction's place in `user_ids`, (n,)."""
    item: Codes
    """Each interaction's place in `item_ids`, (n,)."""
    time: Times | None
    """When it happened, in ticks since 1970, (n,); None where the file's order is all there is."""
    ticks_per_second: int = 1
    marks: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What filters look at: `rating` (n,) float32, `verified` and `positive` (n,) bool."""

    def __len__(self) -> int:
        return len(self.user)

    def select(self, which: Flags | NDArray[np.intp]) -> None:
        """Keep the interactions of a mask (n,), or those at the places given, in that order."""
        self.user = self.user[which]  # one column is copied at a time
        self.item = self.item[which]
        if self.time is not None:
            self.time = self.time[which]
        for name in self.marks:
            self.marks[name] = self.marks[name][which]

    def counts(self) -> tuple[int, int, int]:
        """Count the users, items and interactions."""
        users, items = self.used_users(), self.used_items()
        return int(users.sum()), int(items.sum()), len(self)

    def used_users(self) -> Flags:
        """Tell which users have an interaction, (U,)."""
        return _used(self.user, len(self.user_ids))

    def used_items(self) -> Flags:
        """Tell which items have an interaction, (V,)."""
        return _used(self.item, len(self.item_ids))


def load(frames: Iterable[pl.DataFrame]) -> Log:
    """Take in the frames of a reader (see `model.data.sources.reading`), one after the other."""
    users, items = _Dictionary("user"), _Dictionary("item")
    columns: dict[str, list[NDArray[Any]]] = {}
    for frame in frames:
        others = [name for name in frame.columns if name not in ("user", "item")]
        coded = frame.select(
            users.codes,
            items.codes,
            *(pl.col(name).cast(pl.Float32) if name == "rating" else name for name in others),
        )
        for name in coded.columns:
            columns.setdefault(name, []).append(coded[name].to_numpy())
    joined = {name: _joined(columns.pop(name)) for name in list(columns)}
    user_ids, user = users.ordered(joined.pop("user"))
    item_ids, item = items.ordered(joined.pop("item"))
    time, ticks_per_second = _ticks(joined.pop("time", None))
    return Log(user_ids, item_ids, user, item, time, ticks_per_second, joined)


def sound_ids(ids: pl.Series) -> Flags:
    """Tell which ids are neither empty, garbled nor too long."""
    short = ids.str.len_bytes() <= MAX_ID_BYTES
    return (short & ~ids.str.contains(_GARBLED) & (ids.str.strip_chars() != "")).to_numpy()


class _Dictionary:
    """The codes of one column's ids, in whatever order polars meets them."""

    def __init__(self, name: str) -> None:
        self._kind = pl.Categorical(pl.Categories.random())
        self._keeper = pl.Series(name, [], self._kind)  # polars forgets categories no series uses
        self.codes = pl.col(name).fill_null("").cast(self._kind).to_physical()

    def ordered(self, codes: Codes) -> tuple[pl.Series, Codes]:
        """Return the ids in ascending order, and their places there instead of the codes."""
        known = pl.int_range(int(codes.max()) + 1 if len(codes) else 0, dtype=pl.UInt32)
        ids = pl.select(known.cat.to(self._kind).cast(pl.String)).to_series()
        order = ids.arg_sort()
        places = np.empty(len(ids), np.uint32)
        places[order.to_numpy()] = np.arange(len(ids), dtype=np.uint32)
        return ids.gather(order), places[codes]


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    whole = np.empty(sum(map(len, parts)), parts[0].dtype)
    end = len(whole)
    while parts:  # from the back, so that each part is freed once it is copied
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _ticks(time: NDArray[np.float64] | None) -> tuple[Times | None, int]:
    """Turn times into whole ticks; seconds, milli-, micro- or nanoseconds by their magnitude."""
    if time is None or not len(time):
        return None, 1
    middle = float(np.median(np.abs(time[:: 1 + len(time) // _LOOKED_AT])))
    ticks_per_second = next(ticks for bound, ticks in _TICKS if middle < bound)
    if ticks_per_second == 1 and (time != np.floor(time)).any():
        ticks_per_second = 1_000_000
        time *= ticks_per_second
    np.clip(np.floor(time, out=time), -(2.0**62), 2.0**62, out=time)
    return time.astype(np.int64), ticks_per_second


def _used(places: Codes, total: int) -> Flags:
    used = np.zeros(total, np.bool_)
    used[places] = True
    return used
