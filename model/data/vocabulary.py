"""Strings of the outside world and rows of the inside one; the only place that converts.

Outside ids are strings (`ItemId`, `UserId`). Inside ids are rows: int32, and 0 is padding. Items
take the rows 1..n in ascending order of their id, so order by row is order by id. On disk a table
of strings is two arrays: the UTF-8 text of all of them end to end, and where each one ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NewType, overload

import numpy as np
from numpy.typing import NDArray

from model.errors import BadArtifactError

ItemId = NewType("ItemId", str)
UserId = NewType("UserId", str)
Row = NewType("Row", int)

Rows = NDArray[np.int32]
PADDING = Row(0)
_CHUNK = 100_000


class StringTable(Sequence[str]):
    """Strings by position: one block of UTF-8 and its ends, memory-mapped when read from disk."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text = text
        self._ends = ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> "StringTable":
        """Make a table of the strings given, in their order."""
        text, ends, total = bytearray(), [], 0
        for string in strings:
            encoded = string.encode()
            text += encoded
            total += len(encoded)
            ends.append(total)
        return cls(np.frombuffer(bytes(text), np.uint8), np.asarray(ends, np.int64))

    @classmethod
    def read(cls, stem: Path) -> "StringTable":
        """Open the table written at `stem` (`<stem>.text.npy`, `<stem>.ends.npy`).

        Raises:
            BadArtifactError: If a file is missing or the two do not belong together.
        """
        try:
            text = np.load(f"{stem}.text.npy", mmap_mode="r", allow_pickle=False)
            ends = np.load(f"{stem}.ends.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadArtifactError(f"string table {stem} cannot be read: {error}") from None
        fits = text.dtype == np.uint8 and ends.dtype == np.int64 and text.ndim == ends.ndim == 1
        fits = fits and (ends[-1] if len(ends) else 0) == len(text)
        if not fits or (np.diff(ends, prepend=0) < 0).any():
            raise BadArtifactError(f"string table {stem} is damaged: ends and text do not fit")
        return cls(text, ends)

    def write(self, stem: Path) -> None:
        """Write the table as `<stem>.text.npy` and `<stem>.ends.npy`."""
        np.save(f"{stem}.text.npy", self._text)
        np.save(f"{stem}.ends.npy", self._ends)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        start = int(self._ends[index - 1]) if index else 0
        return bytes(self._text[start : int(self._ends[index])]).decode()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            ends = self._ends[first : first + _CHUNK]
            start = int(self._ends[first - 1]) if first else 0
            block = bytes(self._text[start : int(ends[-1])])
            begin = 0
            for end in (ends - start).tolist():
                yield block[begin:end].decode()
                begin = end


class Vocabulary:
    """The items of one domain: id to row, row to id and title. Row 0 is padding and has no id."""

    def __init__(self, ids: StringTable, titles: StringTable | None = None) -> None:
        self.ids = ids
        self.titles = titles
        self._rows: dict[str, int] = {item_id: row for row, item_id in enumerate(ids, start=1)}

    @classmethod
    def read(cls, folder: Path) -> "Vocabulary":
        """Open the vocabulary in a domain's folder: `items.*.npy` and, where known, `titles.*.npy`.

        Raises:
            BadArtifactError: If a file is missing or damaged, or ids repeat or are not in order.
        """
        ids = StringTable.read(folder / "items")
        titles = None
        if (folder / "titles.ends.npy").exists():
            titles = StringTable.read(folder / "titles")
            if len(titles) != len(ids):
                raise BadArtifactError(f"{folder}: {len(titles)} titles for {len(ids)} items")
        try:
            vocabulary = cls(ids, titles)
        except UnicodeDecodeError:
            raise BadArtifactError(f"{folder}: an item id is not UTF-8") from None
        once = len(vocabulary._rows) == len(ids)
        if not once or not all(before < after for before, after in pairwise(vocabulary._rows)):
            raise BadArtifactError(f"{folder}: the item ids are not in ascending order, each once")
        return vocabulary

    def write(self, folder: Path) -> None:
        """Write the vocabulary into a domain's folder."""
        self.ids.write(folder / "items")
        if self.titles is not None:
            self.titles.write(folder / "titles")

    def __len__(self) -> int:
        """Count the items, padding not included."""
        return len(self.ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Return the row of each id in its order, 0 for an id that is unknown."""
        lookup = self._rows.get
        return np.fromiter((lookup(item_id, PADDING) for item_id in item_ids), np.int32)

    def item_id(self, row: int) -> ItemId:
        """Return the id of a row from 1 to `len(self)`."""
        if not 1 <= row <= len(self):
            raise IndexError(f"row {row} is outside 1..{len(self)}")
        return ItemId(self.ids[row - 1])

    def title(self, row: int) -> str:
        """Return the title of a row, or an empty string where none is known."""
        if not 1 <= row <= len(self):
            raise IndexError(f"row {row} is outside 1..{len(self)}")
        return "" if self.titles is None else self.titles[row - 1]
