"""Tables of attributes: a line an item, a column an attribute, its values parted by `|`.

The file is tab-separated UTF-8, plain or gzip. Its first line names the columns; the first of them
is `item_id`. An empty cell holds no value. Quotes are text like any other. Shapes: L lines that
hold an item, N values of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.arrays import Places
from model.data.sources.delimited import Layout, delimited_frames
from model.data.sources.reading import LINE, Reading
from model.data.sources.text import blocks, first_line
from model.errors import BadDataError

ITEM_ID = "item_id"
_SEPARATOR = "\t"
_PART = "|"
_ITEMS = "0"
_SHOWN_OF_TEXT = 40


@dataclass(frozen=True, slots=True)
class Column:
    """What the items of a file have of one attribute."""

    name: str
    values: Sequence[str]
    """All that occur, ascending, each once."""
    items: Places
    """Place of the item that has a value, (N,), from 0 to L - 1."""
    codes: NDArray[np.int64]
    """Place in `values` of the value it has, (N,)."""


@dataclass(frozen=True, slots=True)
class AttributeFile:
    """The content of a file."""

    item_ids: Sequence[str]
    """(L,), each once."""
    columns: Sequence[Column]
    """At least one."""


def read_attribute_file(path: Path, *, most_value_bytes: int) -> AttributeFile:
    """Read a table of attributes.

    Args:
        path: The file.
        most_value_bytes: Bytes of UTF-8 that a value may have.

    Raises:
        BadDataError: If the file cannot be read, or is not such a table; line or column are named.
    """
    _check_text(path)
    names = _names(path)
    reading = Reading(path)
    places = {str(place): place for place in range(len(names))}
    layout = Layout(_SEPARATOR, len(names), places, header=True, quoted=False)
    frame = pl.concat(delimited_frames(reading, layout))
    if reading.unusable:
        raise BadDataError(f"attribute file {path}: {reading.reasons}")
    _check_items(path, frame)
    columns = [
        _column(path, name, frame.select(LINE, pl.col(str(place)).alias("value")), most_value_bytes)
        for place, name in enumerate(names[1:], start=1)
    ]
    return AttributeFile(frame[_ITEMS].to_list(), columns)


def _check_text(path: Path) -> None:
    for block in blocks(Reading(path)):
        try:
            block.content.decode()
        except UnicodeDecodeError as error:
            line = block.first_line + block.content.count(b"\n", 0, error.start)
            raise BadDataError(f"attribute file {path}: line {line} is not UTF-8") from None


def _names(path: Path) -> list[str]:
    """Read and check the names of the columns."""
    names = first_line(path).split(_SEPARATOR)
    if names[0] != ITEM_ID:
        raise BadDataError(
            f"attribute file {path}: the first column must be {ITEM_ID}, not {_shown(names[0])}; "
            "columns are parted by tabs"
        )
    if len(names) == 1:
        raise BadDataError(f"attribute file {path} has no column beside {ITEM_ID}")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise BadDataError(f"attribute file {path}: column {_shown(name)} stands twice")
    return names


def _check_items(path: Path, frame: pl.DataFrame) -> None:
    """Check that each line has an item, and none has that of another line."""
    nameless = frame.filter(pl.col(_ITEMS).is_null())
    if len(nameless):
        raise BadDataError(f"attribute file {path}: line {nameless[LINE][0]} has no item id")
    repeated = frame.filter(pl.col(_ITEMS).is_duplicated())
    if len(repeated):
        item_id = repeated[_ITEMS][0]
        first, second = repeated.filter(pl.col(_ITEMS) == item_id)[LINE].head(2)
        raise BadDataError(
            f"attribute file {path}: item id {_shown(item_id)} stands in lines {first} and {second}"
        )


def _column(path: Path, name: str, cells: pl.DataFrame, most_value_bytes: int) -> Column:
    """Part the cells of a column into values."""
    parts = (
        cells.with_row_index("item")
        .drop_nulls("value")
        .with_columns(pl.col("value").str.split(_PART))
        .explode("value")
        .filter(pl.col("value") != "")
    )
    long = parts.filter(pl.col("value").str.len_bytes() > most_value_bytes)
    if len(long):
        raise BadDataError(
            f"attribute file {path}: line {long[LINE][0]}, column {_shown(name)}: a value has "
            f"more than {most_value_bytes} bytes"
        )
    values = parts["value"].unique().sort()
    codes = parts["value"].rank("dense").to_numpy().astype(np.int64) - 1
    return Column(name, values.to_list(), parts["item"].to_numpy().astype(np.int64), codes)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_OF_TEXT else text[:_SHOWN_OF_TEXT] + "…")
