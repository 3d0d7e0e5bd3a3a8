"""Lines of delimited text as frames: fast where a block is sound, line by line where it is not."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from model.data.sources.reading import LINE, Reading
from model.data.sources.text import Block, blocks


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


def fields_of(line: str, separator: str) -> list[str]:
    """Split one line as a delimited file is split."""
    return next(csv.reader([line], delimiter=separator), [])


def delimited_frames(reading: Reading, layout: Layout) -> Iterator[pl.DataFrame]:
    """Read the wanted columns of a delimited file as text.

    A line with too many columns, or with a quote that is never closed, is counted as unusable; in a
    line with too few the missing ones are null. Blank lines are passed over. After a quoted field
    that holds a line end, line numbers count records.

    Yields:
        Frames with the wanted columns (String, null where empty) and `LINE`.
    """
    for block in blocks(reading, quoted=layout.quoted):
        frame = _parsed(block, layout, reading)
        if layout.header and block.first_line == 1:
            frame = frame[1:]
        reading.records += len(frame)
        yield frame


def _parsed(block: Block, layout: Layout, reading: Reading) -> pl.DataFrame:
    names = {str(place): pl.String() for place in range(layout.width)}
    try:
        frame = pl.read_csv(
            block.content,
            has_header=False,
            separator=layout.separator,
            quote_char='"' if layout.quoted else None,
            schema=names,
            columns=sorted(set(layout.columns.values())),
            row_index_name=LINE,
            row_index_offset=block.first_line,
        )
    except pl.exceptions.PolarsError:
        return _parsed_by_line(block, layout, reading)
    wanted = [pl.col(str(place)).alias(name) for name, place in layout.columns.items()]
    frame = frame.select(LINE, *wanted)
    return frame.filter(~pl.all_horizontal(pl.exclude(LINE).is_null()))


def _parsed_by_line(block: Block, layout: Layout, reading: Reading) -> pl.DataFrame:
    kept: list[list[str | int | None]] = []
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        text = line.decode(errors="replace").removesuffix("\r")
        if not text:
            continue
        fields, problem = _fields(text, layout)
        if problem:
            reading.records += 1
            reading.refuse(number, problem)
        else:
            kept.append([number, *(fields[place] or None for place in layout.columns.values())])
    schema = {LINE: pl.UInt32(), **dict.fromkeys(layout.columns, pl.String())}
    return pl.DataFrame(kept, schema=schema, orient="row")


def _fields(text: str, layout: Layout) -> tuple[list[str], str]:
    """Split a line to the layout's width; where that cannot be done, say why."""
    if not layout.quoted:
        fields = text.split(layout.separator)
    elif text.count('"') % 2:
        return [], "a quote is not closed"
    else:
        try:
            fields = fields_of(text, layout.separator)
        except csv.Error as error:
            return [], str(error)
    if len(fields) > layout.width:
        return [], f"{len(fields)} columns, expected {layout.width}"
    return fields + [""] * (layout.width - len(fields)), ""
