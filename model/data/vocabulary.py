"""Strings of the outside world and rows of the inside one; the only place that converts.

Outside ids are strings (`ItemId`, `UserId`). Inside ids are rows: int32, and 0 is padding. Items
take the rows 1..n in ascending order of their id, so order by row is order by id. On disk a table
of strings is two arrays: the UTF-8 text of all of them end to end, and where each one ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NewType, overload

import numpy as np
from numpy.typing import NDArray

from model.arrays import Rows
from model.errors import BadArtifactError
from model.tensor_files import map_array, save_array

ItemId = NewType("ItemId", str)
UserId = NewType("UserId", str)
Row = NewType("Row", int)

PADDING = Row(0)
MAX_ID_BYTES = 512
"""Bytes of UTF-8 in an id: real ones have 10 to 40; no call can name a longer one."""

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
            BadArtifactError: If a file is missing or damaged, or the two do not belong together.
        """
        text_path, ends_path = Path(f"{stem}.text.npy"), Path(f"{stem}.ends.npy")
        text, ends = (
            _numbers(text_path, np.dtype(np.uint8)),
            _numbers(ends_path, np.dtype(np.int64)),
        )
        if (np.diff(ends, prepend=0) < 0).any():
            raise BadArtifactError(f"{ends_path} is damaged: a string ends before it begins")
        last = int(ends[-1]) if len(ends) else 0
        if last != len(text):
            raise BadArtifactError(
                f"{ends_path} does not fit {text_path}: the strings end at {last} of {len(text)} "
                "bytes"
            )
        return cls(text, ends)

    def write(self, stem: Path) -> None:
        """Write the table as `<stem>.text.npy` and `<stem>.ends.npy`."""
        save_array(Path(f"{stem}.text.npy"), self._text)
        save_array(Path(f"{stem}.ends.npy"), self._ends)

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

    def take(self, places: NDArray[np.integer[Any]]) -> list[str]:
        """Return the strings at some places, each from 0 to `len(self) - 1`."""
        starts = np.where(places > 0, self._ends[places - 1], 0).tolist() if len(self) else []
        text = self._text.data
        return [
            str(text[start:end], "utf-8")
            for start, end in zip(starts, self._ends[places].tolist(), strict=True)
        ]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            ends = self._ends[first : first + _CHUNK]
            start = int(self._ends[first - 1]) if first else 0
            block = bytes(self._text[start : int(ends[-1])])
            begin = 0
            for end in (ends - start).tolist():
                yield block[begin:end].decode()
                begin = end


def _numbers(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    """Map a file of numbers of one kind in a row."""
    try:
        numbers = map_array(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadArtifactError(f"{path} cannot be read: {why}") from None
    if numbers.dtype != kind or numbers.ndim != 1:
        raise BadArtifactError(
            f"{path} is damaged: it holds {numbers.dtype} of shape {numbers.shape}, not {kind} "
            "in a row"
        )
    return np.asarray(numbers)  # `np.memmap` itself is slow to take from


class Vocabulary:
    """The items of one domain: id to row, row to id and title. Row 0 is padding and has no id."""

    def __init__(self, ids: StringTable, titles: StringTable | None = None) -> None:
        """Make a vocabulary.

        Args:
            ids: Of the rows from 1 on, in ascending order, each once.
            titles: Of the same rows.

        Raises:
            ValueError: If the ids repeat or are not in order.
        """
        self.ids = ids
        self.titles = titles
        # Ids by their hashes, 12 bytes an item: every process that serves a release holds its own,
        # and a dictionary of a million strings is large.
        hashes = np.fromiter(map(hash, _ascending(ids)), np.int64, len(ids))
        self._by_hash = np.argsort(hashes, kind="stable").astype(np.int32)  # places of ids
        self._hashes = hashes[self._by_hash]

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
            return cls(ids, titles)
        except UnicodeDecodeError:
            text = folder / "items.text.npy"
            raise BadArtifactError(f"{text}: an item id is not UTF-8") from None
        except ValueError as error:
            raise BadArtifactError(f"{folder}: {error}") from None

    def write(self, folder: Path) -> None:
        """Write the vocabulary into a domain's folder."""
        self.ids.write(folder / "items")
        if self.titles is not None:
            self.titles.write(folder / "titles")

    def __len__(self) -> int:
        """Count the items, padding not included."""
        return len(self.ids)

    def __contains__(self, item_id: str) -> bool:
        return bool(self.rows([item_id])[0])

    def rows(self, item_ids: Iterable[str]) -> Rows:
        """Return the row of each id in its order, 0 for an id that is unknown."""
        asked = list(item_ids)
        rows = np.zeros(len(asked), np.int32)
        if not asked or not len(self):
            return rows
        hashes = np.fromiter(map(hash, asked), np.int64, len(asked))
        found = self._hashes.searchsorted(hashes)
        alike = np.flatnonzero(self._hashes.take(found, mode="clip") == hashes)
        places = self._by_hash[found[alike]]
        for at, place, known in zip(
            alike.tolist(), places.tolist(), self.ids.take(places), strict=True
        ):
            same = known == asked[at]
            rows[at] = place + 1 if same else self._row_among(asked[at], int(hashes[at]))
        return rows

    def _row_among(self, item_id: str, hashed: int) -> int:
        """Look through all ids of one hash, of which the first is another."""
        first, last = (self._hashes.searchsorted(hashed, side) for side in ("left", "right"))
        for place in self._by_hash[first:last].tolist():
            if self.ids[place] == item_id:
                return int(place) + 1
        return PADDING

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


def _ascending(ids: StringTable) -> Iterator[str]:
    before = None
    for item_id in ids:
        if before is not None and item_id <= before:
            raise ValueError("the item ids are not in ascending order, each once")
        yield item_id
        before = item_id
