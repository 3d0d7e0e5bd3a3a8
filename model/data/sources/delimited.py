"""Lines of delimited text as frames: fast where a block is sound, else record by record.

polars parses a sound block. It counts quotes to find where a line ends, and would join lines into
one field at a quote that stands inside of a field: only a well quoted block is given to it.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.data.sources.quoted import Record, quoted_records, record_blocks
from model.data.sources.reading import LINE, Reading
from model.data.sources.text import Block, blocks
from model.errors import BadDataError


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a delimited file are laid out."""

    separator: str
    width: int
    """Columns in a line."""
    columns: Mapping[str, int]
    """Name of a column that is wanted to its place in the line, from 0."""
    header: bool = False
    """Whether the first line names the columns."""
    quoted: bool = True
    """Whether double quotes may enclose a field."""


def first_fields(path: Path, line: str, separator: str) -> list[str]:
    """Split the first line of a file as delimited files are split.

    Raises:
        BadDataError: If it is not one line of such a file.
    """
    if "\r" in line:
        raise BadDataError(f"{path}: lines end with \\r alone; end them with \\n")
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise BadDataError(f"{path}: the first line cannot be read: {error}") from None


def delimited_frames(reading: Reading, layout: Layout) -> Iterator[pl.DataFrame]:
    """Read the wanted columns of a delimited file as text.

    A record with too many columns, or with a quote that is not closed, is counted as unusable; in
    one with too few the missing ones are null. One whose fields are all empty is blank and passed
    over. After a quoted field that holds a line end, line numbers may count records.

    Yields:
        Frames with the wanted columns (String, null where empty) and `LINE`.
    """
    for block, sound in _blocks(reading, layout):
        frame = _parsed_whole(block, layout) if sound else None
        if frame is None:
            frame = _parsed_by_record(block, layout, reading)
        if layout.header and block.first_line == 1:
            frame = frame[1:]
        reading.records += len(frame)
        yield frame


def _blocks(reading: Reading, layout: Layout) -> Iterator[tuple[Block, bool]]:
    """Read whole records, each block with whether counting quotes tells what stands in them."""
    if layout.quoted:
        return record_blocks(reading, layout.separator)
    return ((block, True) for block in blocks(reading))


def _parsed_whole(block: Block, layout: Layout) -> pl.DataFrame | None:
    """Parse a block at once; None where that cannot be done."""
    frame = _by_polars(block.content, layout, block.first_line)
    if frame is None:  # for a byte that is not UTF-8, it may be
        readable = block.content.decode(errors="replace").encode()
        frame = _by_polars(readable, layout, block.first_line)
    if frame is None:
        return None
    wanted = [pl.col(str(place)).alias(name) for name, place in layout.columns.items()]
    filled = pl.any_horizontal(pl.exclude(LINE).str.len_bytes() > 0)
    return frame.filter(filled).select(LINE, *wanted)


def _by_polars(content: bytes, layout: Layout, first_line: int) -> pl.DataFrame | None:
    """Parse all columns: polars does not check those that it is not asked for."""
    try:
        return pl.read_csv(
            content,
            has_header=False,
            separator=layout.separator,
            quote_char='"' if layout.quoted else None,
            schema={str(place): pl.String() for place in range(layout.width)},
            row_index_name=LINE,
            row_index_offset=first_line,
        )
    except pl.exceptions.PolarsError:
        return None


def _parsed_by_record(block: Block, layout: Layout, reading: Reading) -> pl.DataFrame:
    lines = io.BytesIO(block.content).readlines()
    records = quoted_records if layout.quoted else _plain_records
    numbers: list[int] = []
    values: dict[str, list[str | None]] = {name: [] for name in layout.columns}
    for record in records(lines, layout.separator):
        number, fields = block.first_line + record.line, record.fields
        if not (record.problem or any(fields)):
            continue
        if record.problem or len(fields) > layout.width:
            problem = record.problem or f"{len(fields)} columns, expected {layout.width}"
            reading.records += 1
            reading.refuse(number, problem)
            continue
        numbers.append(number)
        for name, place in layout.columns.items():
            values[name].append((fields[place] or None) if place < len(fields) else None)
    schema = {LINE: pl.UInt32(), **dict.fromkeys(layout.columns, pl.String())}
    return pl.DataFrame({LINE: numbers, **values}, schema=schema)


def _plain_records(lines: Sequence[bytes], separator: str) -> Iterator[Record]:
    for place, line in enumerate(lines):
        text = line.decode(errors="replace").removesuffix("\n").removesuffix("\r")
        yield Record(place, text.split(separator))
