"""Attributes of items: what filters go by, from tables of text to bitmaps stored in a release.

In a release an attribute is three files in `attributes/<domain>/`, of which the first is mapped:

    <name>.bits.npy                     a bitmap a value, (values, V // 8 + 1) bytes; see `bitmaps`
    <name>.text.npy, <name>.ends.npy    the values, ascending, as a table of strings

Shapes: V items, N rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from indexer.bitmaps import Bitmap, Packed, bytes_of, is_sound
from indexer.candidates import NAME
from model.bundle import DomainTables
from model.data.vocabulary import PADDING, StringTable
from model.errors import BadArtifactError, BadDataError
from model.tensor_files import map_array, save_array

MAX_VALUE_BYTES = 512
"""Bytes of UTF-8 in a value, as in an item id: longer text is a mistake, not a category."""

_BITS = ".bits.npy"


class Attribute:
    """The values of one attribute, and the items that have each."""

    def __init__(self, values: Sequence[str], bits: Packed, items: int) -> None:
        """Take values, ascending, each once, and their sound bitmaps of V items.

        Raises:
            ValueError: If the values repeat or are not in order.
        """
        self.values = list(values)
        if any(one >= next_one for one, next_one in pairwise(self.values)):
            raise ValueError("the values are not in ascending order, each once")
        self._places = {value: place for place, value in enumerate(self.values)}
        self._bits = bits
        self._items = items

    def __len__(self) -> int:
        """Count the values."""
        return len(self.values)

    def having(self, values: Sequence[str]) -> Bitmap:
        """Give the items that have at least one of some values; one that no item has adds none."""
        known = {self._places[value] for value in values if value in self._places}
        return Bitmap.union((self._bits[place] for place in known), self._items)

    def write(self, stem: Path) -> None:
        """Write the attribute's files, whose names begin with `stem`."""
        save_array(Path(f"{stem}{_BITS}"), self._bits)
        StringTable.of(self.values).write(stem)


@dataclass(frozen=True, slots=True)
class DomainAttributes:
    """The attributes of one domain, from one file."""

    domain: str
    ids: int
    """Item ids in the file."""
    unknown: int
    """Ids that the domain does not know."""
    attributes: Mapping[str, Attribute]
    """By name, in the file's order."""


def look_up_attributes(domain: DomainTables, path: Path, *, most_values: int) -> DomainAttributes:
    """Read a domain's table of attributes and find its items.

    Args:
        domain: The domain.
        path: The file; see `model.data.attribute_file`.
        most_values: Different values that the known items may have of one attribute.

    Raises:
        BadDataError: If the file cannot be used; line or column are named.
    """
    # polars: a third of a second, of no use to a server or a build without attributes
    from model.data.attribute_file import Column, read_attribute_file  # noqa: PLC0415

    file = read_attribute_file(path, most_value_bytes=MAX_VALUE_BYTES)
    rows = domain.vocabulary.rows(file.item_ids)
    unknown = int((rows == PADDING).sum())
    if unknown == len(rows):
        raise BadDataError(
            f"attribute file {path}: none of its {len(rows)} item ids is known in {domain.name}"
        )

    def attribute(column: Column) -> Attribute:
        where = f"attribute file {path}: column {column.name!r:.80}"
        if not NAME.fullmatch(column.name):
            raise BadDataError(
                f"{where} must be named with 1 to 64 letters, digits, '.', '_' or '-', and begin "
                "with a letter or digit"
            )
        owners = rows[column.items]
        codes, places = np.unique(column.codes[owners != PADDING], return_inverse=True)
        owners = owners[owners != PADDING]
        if not 1 <= len(codes) <= most_values:
            raise BadDataError(
                f"{where} has {len(codes)} different values; there may be 1 to {most_values} "
                "(index.max_attribute_values)"
            )
        bits = np.zeros((len(codes), bytes_of(len(domain.vocabulary))), np.uint8)
        np.bitwise_or.at(bits, (places, owners >> 3), np.uint8(1) << (owners & 7).astype(np.uint8))
        values = [column.values[code] for code in codes.tolist()]
        return Attribute(values, bits, len(domain.vocabulary))

    found = {column.name: attribute(column) for column in file.columns}
    return DomainAttributes(domain.name, len(rows), unknown, found)


def write_attributes(folder: Path, given: Sequence[DomainAttributes]) -> None:
    """Write attributes into a release folder."""
    for each in given:
        place = folder / each.domain
        place.mkdir(parents=True)
        for name, attribute in each.attributes.items():
            attribute.write(place / name)


def read_attributes(folder: Path, items: int) -> dict[str, Attribute]:
    """Read the attributes of one domain, by name in ascending order.

    Args:
        folder: The domain's folder; there is none where the domain has no attributes.
        items: Items of the domain.

    Raises:
        BadArtifactError: If a file is no part of an attribute of this domain; it is named.
    """
    paths = sorted(folder.glob(f"*{_BITS}"))
    return {path.name.removesuffix(_BITS): _read_attribute(path, items) for path in paths}


def _read_attribute(path: Path, items: int) -> Attribute:
    stem = path.with_name(path.name.removesuffix(_BITS))
    values = StringTable.read(stem)
    try:
        bits = np.asarray(map_array(path))  # `np.memmap` itself is slow to take from
    except (OSError, ValueError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None
    if bits.dtype != np.uint8 or bits.shape != (len(values), bytes_of(items)):
        raise BadArtifactError(
            f"{path} does not hold a bitmap of {items} items for each of {len(values)} values"
        )
    if not is_sound(bits, items):
        raise BadArtifactError(f"{path} marks rows that are not between 1 and {items}")
    try:
        return Attribute(values, bits, items)
    except UnicodeDecodeError:
        raise BadArtifactError(f"{stem}.text.npy: a value is not UTF-8") from None
    except ValueError as error:
        raise BadArtifactError(f"{path}: {error}") from None
