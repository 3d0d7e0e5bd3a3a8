"""What is to become of the items of a domain, read from files; every mistake is told by its line.

    add           JSON lines: {"item_id": "new", "title": "A title", "like": ["old", ...]}
                  or {"item_id": "new", "vector": [0.5, ...]}; the title may be missing
    remove        one item id a line
    rename        an id, a tab and what it is from now on; all at once, so ids may change places
    popularity    an item id, a tab and how often it was interacted with

All are UTF-8; empty lines are passed over. Shapes: D width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import FiniteFloat, ValidationError

from model.arrays import Rows
from model.bundle import DomainTables
from model.data.vocabulary import MAX_ID_BYTES, PADDING
from model.derived import AddedItem, ItemChanges, scored_vector
from model.errors import BadDataError
from model.records import Record

_MOST = 2.0**53  # whole numbers up to here are exact in float64
_CONTROL = {"\t", "\n", "\r"}
_SHOWN = 40  # characters of an id in a message
_RENAMED = "is renamed"
_NAME = "is what another is renamed to"

Role = Literal["add", "remove", "rename", "popularity"]


class _Added(Record):
    """A line of a file of items to add."""

    item_id: str
    title: str = ""
    vector: list[FiniteFloat] | None = None
    like: list[str] | None = None


@dataclass(frozen=True, slots=True)
class ReadChanges:
    """The changes of one domain."""

    changes: ItemChanges
    unknown_like: int
    """Ids in `like` that the domain does not have, beside others that it has."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a file."""

    where: str
    """The file and its number, as messages name it."""
    text: str

    def refused(self, why: str) -> BadDataError:
        """Say why the line cannot be used."""
        return BadDataError(f"{self.where}: {why}")


class _Reader:
    """Reads the files of one domain; knows which ids have had a part already."""

    def __init__(self, tables: DomainTables, *, cosine: bool) -> None:
        self._tables = tables
        self._cosine = cosine
        self._parts: dict[str, str] = {}
        self.unknown_like = 0

    def added(self, path: Path) -> tuple[AddedItem, ...]:
        """Read a file of items to add."""
        return tuple(self._added_item(line) for line in _lines("add", path))

    def removed(self, path: Path) -> tuple[str, ...]:
        """Read a file of items to remove."""
        ids = []
        for line in _lines("remove", path):
            self._take(line, line.text, "is removed", there=True)
            ids.append(line.text)
        return tuple(ids)

    def renamed(self, path: Path) -> dict[str, str]:
        """Read a file of items to rename."""
        names = {}
        lines = []
        for line in _lines("rename", path):
            before, after = _two(line, "the old id and the new one")
            if before == after:
                raise line.refused(f"item {_shown(before)} is renamed to what it is")
            self._take(line, before, _RENAMED, there=True)
            names[before] = after
            lines.append(line)
        for line, after in zip(lines, names.values(), strict=True):
            if self._parts.get(after) == _RENAMED:  # which sets it free for one other
                self._parts[after] = _NAME
            else:
                self._take(line, after, _NAME, there=False)
        return names

    def popularity(self, path: Path, changes: ItemChanges) -> dict[str, float]:
        """Read a file of popularity, whose ids are those after the changes."""
        new = {*changes.renamed.values(), *(each.item_id for each in changes.added)}
        gone = {*changes.renamed, *changes.removed}
        counts: dict[str, float] = {}
        for line in _lines("popularity", path):
            item_id, count = _two(line, "an item id and a count")
            if item_id not in new and (item_id in gone or not self._knows(item_id)):
                raise line.refused(f"item {_shown(item_id)} is not in {self._tables.name}")
            if item_id in counts:
                raise line.refused(f"item {_shown(item_id)} stands twice")
            counts[item_id] = _count(line, count)
        if not any(counts.values()):
            raise BadDataError(f"popularity file {path}: no item has a count above 0")
        return counts

    def _added_item(self, line: _Line) -> AddedItem:
        try:
            item = _Added.model_validate_json(line.text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            why = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise line.refused(why.replace(" at line 1 column ", " at column ")) from None
        if not item.item_id or len(item.item_id.encode()) > MAX_ID_BYTES:
            raise line.refused(f"an item id has 1 to {MAX_ID_BYTES} bytes of UTF-8")
        if _CONTROL & {*item.item_id}:
            raise line.refused("an item id holds no tab and no end of line")
        self._take(line, item.item_id, "is added", there=False)
        rows = self._like(line, item)
        vectors = np.array([item.vector]) if item.vector else self._tables.item_table[rows]
        try:
            vector = scored_vector(vectors, cosine=self._cosine)
        except ValueError as error:
            raise line.refused(str(error)) from None
        return AddedItem(item.item_id, item.title, vector, rows)

    def _like(self, line: _Line, item: _Added) -> Rows:
        """Find the items that one is like; none where it has a vector, which must fit."""
        if bool(item.vector) == bool(item.like):
            raise line.refused("an item to add has either a vector or what it is like")
        width = self._tables.item_table.shape[1]
        if item.vector and len(item.vector) != width:
            raise line.refused(
                f"the vector has {len(item.vector)} numbers; those of {self._tables.name} "
                f"have {width}"
            )
        rows = self._tables.vocabulary.rows(item.like or [])
        known: Rows = rows[rows != PADDING]
        if item.like and not len(known):
            raise line.refused(f"none of the items in like is in {self._tables.name}")
        self.unknown_like += len(rows) - len(known)
        return known

    def _take(self, line: _Line, item_id: str, part: str, *, there: bool) -> None:
        """Give an id its one part in the changes; it must be there already, or must not be."""
        if item_id in self._parts:
            before = self._parts[item_id]
            again = "twice" if before == part else f"and {part}"
            raise line.refused(f"item {_shown(item_id)} {before} {again}: an id has one part")
        if there != self._knows(item_id):
            state = "not" if there else "already"
            raise line.refused(f"item {_shown(item_id)} is {state} in {self._tables.name}")
        self._parts[item_id] = part

    def _knows(self, item_id: str) -> bool:
        return item_id in self._tables.vocabulary


def read_changes(tables: DomainTables, files: Mapping[Role, Path], *, cosine: bool) -> ReadChanges:
    """Read what is to become of the items of one domain.

    Args:
        tables: The domain as it is.
        files: At most one file of each role.
        cosine: Whether its items are scored by direction alone.

    Raises:
        BadDataError: If a file cannot be read or a line cannot be used; the line is named. If no
            item would be left.
    """
    reader = _Reader(tables, cosine=cosine)
    removed = reader.removed(files["remove"]) if "remove" in files else ()
    renamed = reader.renamed(files["rename"]) if "rename" in files else {}
    added = reader.added(files["add"]) if "add" in files else ()
    if len(removed) == len(tables.vocabulary) and not added:
        raise BadDataError(f"remove file {files['remove']}: no item would be left in {tables.name}")
    changes = ItemChanges(added, removed, renamed)
    if "popularity" in files:
        counts = reader.popularity(files["popularity"], changes)
        changes = ItemChanges(added, removed, renamed, counts)
    return ReadChanges(changes, reader.unknown_like)


def _lines(role: Role, path: Path) -> Iterator[_Line]:
    """Give the lines of a file that hold something."""
    name = f"{role} file {path}"
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise BadDataError(f"{name}: {error.strerror}") from None
    for number, line in enumerate(content.split(b"\n"), start=1):
        where = f"{name}: line {number}"
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise BadDataError(f"{where} is not UTF-8") from None
        if text:
            yield _Line(where, text)


def _two(line: _Line, what: str) -> tuple[str, str]:
    """Part a line at its tab."""
    first, tab, second = line.text.partition("\t")
    if not (first and tab and second) or "\t" in second:
        raise line.refused(f"it is to hold {what}, parted by one tab")
    for item_id in (first, second):
        if len(item_id.encode()) > MAX_ID_BYTES:
            raise line.refused(f"an item id has 1 to {MAX_ID_BYTES} bytes of UTF-8")
    return first, second


def _count(line: _Line, text: str) -> float:
    try:
        count = float(text)
    except ValueError:
        raise line.refused(f"the count {_shown(text)} is no number") from None
    if not 0 <= count <= _MOST:  # a NaN is neither
        raise line.refused(f"the count {_shown(text)} is not between 0 and {_MOST:.0f}")
    return count


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
