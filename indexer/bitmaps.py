"""Sets of rows as bitmaps: a bit an item, packed, so that sets are joined and cut by the byte.

Bit r % 8, counted from the lowest, of byte r // 8 stands for row r. The bits of padding and of what
lies beyond the last item are never set. Shapes: V items, N rows.
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.arrays import Rows

Packed = NDArray[np.uint8]

_FIRST = 4
"""How many times as many rows are looked at as are wanted, and then as before."""


def bytes_of(items: int) -> int:
    """Count the bytes of a bitmap of V items."""
    return items // 8 + 1


def is_sound(packed: Packed, items: int) -> bool:
    """Say whether bitmaps (..., bytes) set no bit but those of the rows 1..V."""
    return not ((packed[..., 0] & 1).any() or (packed[..., -1] & ~_last_byte(items)).any())


class Bitmap:
    """A set of rows of a domain. What it is made of must not change afterwards."""

    __slots__ = ("_items", "packed")

    def __init__(self, packed: Packed, items: int) -> None:
        """Take the bits of the rows 1..V, sound as `is_sound` says."""
        self.packed = packed
        self._items = items

    @classmethod
    def of(cls, rows: Rows, items: int) -> "Bitmap":
        """Make the set of these rows (N,), each from 1 to V."""
        marks = np.zeros(8 * bytes_of(items), bool)
        marks[rows] = True
        return cls(np.packbits(marks, bitorder="little"), items)

    @classmethod
    def union(cls, parts: Iterable[Packed], items: int) -> "Bitmap":
        """Make the set of the rows that are in any of the parts."""
        packed = np.zeros(bytes_of(items), np.uint8)
        for part in parts:
            np.bitwise_or(packed, part, out=packed)
        return cls(packed, items)

    def __len__(self) -> int:
        """Count the rows."""
        return int(np.bitwise_count(self.packed).sum(dtype=np.int64))

    def __and__(self, other: "Bitmap") -> "Bitmap":
        """Make the set of the rows that are in both."""
        return Bitmap(self.packed & other.packed, self._items)

    def __invert__(self) -> "Bitmap":
        """Make the set of all other rows of the domain."""
        packed = ~self.packed
        packed[-1] &= _last_byte(self._items)
        packed[0] &= 0xFE
        return Bitmap(packed, self._items)

    def without(self, rows: Rows) -> "Bitmap":
        """Make the set of the rows that are not among others (N,), from 0 to V."""
        packed = self.packed.copy()
        np.bitwise_and.at(packed, rows >> 3, ~_bit(rows))
        return Bitmap(packed, self._items)

    def holds(self, rows: Rows) -> NDArray[np.bool_]:
        """Mark the rows (N,), from 0 to V, that are in the set -> (N,)."""
        found: NDArray[np.bool_] = (self.packed.take(rows >> 3) & _bit(rows)) != 0
        return found

    def rows(self) -> Rows:
        """List the rows, ascending."""
        marks = np.unpackbits(self.packed, bitorder="little").view(bool)
        return np.flatnonzero(marks).astype(np.int32)

    def first_of(self, order: Rows, count: int) -> Rows:
        """Pick the first `count` rows in an order (V,) of all rows that are in the set."""
        size = len(self)
        depth = _FIRST * count if size else 0
        while True:
            head = order[:depth]
            rows: Rows = head[self.holds(head)][:count]
            if len(rows) == min(count, size):
                return rows
            depth *= _FIRST

    def by_position(self) -> Packed:
        """Give the bits as FAISS counts them: bit p is that of row p + 1."""
        packed: Packed = self.packed >> np.uint8(1)
        packed[:-1] |= self.packed[1:] << np.uint8(7)
        return packed


RowSet: TypeAlias = Rows | Bitmap
"""A set of rows: listed, ascending, or as a bitmap."""


def smaller_of_both(rows: Rows, items: int) -> RowSet:
    """Keep rows of V items, ascending, each once, as they are or as a bitmap, in fewer bytes."""
    return Bitmap.of(rows, items) if bytes_of(items) < rows.nbytes else rows


def _bit(rows: Rows) -> Packed:
    bits: Packed = np.left_shift(1, rows & 7, dtype=np.int32).astype(np.uint8)
    return bits


def _last_byte(items: int) -> np.uint8:
    """Give the bits that the last byte of a bitmap may hold."""
    return np.uint8((1 << items % 8 + 1) - 1)
