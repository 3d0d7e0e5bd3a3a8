"""The format `table`: a row for each interaction, in CSV, TSV or Parquet, any column names."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from model.data.sources.delimited import Layout, delimited_frames, first_fields
from model.data.sources.reading import LINE, Reading, with_numbers
from model.data.sources.text import check_file, first_line, reading_of
from model.errors import BadDataError

ROWS = 1_000_000
"""Rows of a Parquet file held at a time."""

_PARQUET_MAGIC = b"PAR1"
_SEPARATORS = (",", "\t", ";")
_ID_KINDS = (pl.String, pl.Categorical, pl.Enum)


def read_table(reading: Reading) -> Iterator[pl.DataFrame]:
    """Read a CSV, TSV or Parquet file, told apart by content.

    Raises:
        BadDataError: If a column is missing, or the file is not Parquet although it starts so.
    """
    check_file(reading.path)
    with reading_of(reading.path), reading.path.open("rb") as file:
        parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    numbers = ("time", "rating") if reading.wanted.rating else ("time",)
    for frame in _parquet_frames(reading) if parquet else _text_frames(reading):
        sound = frame
        for name in numbers:
            sound = with_numbers(sound, name, reading)
        yield sound.drop(LINE)


def _text_frames(reading: Reading) -> Iterator[pl.DataFrame]:
    header = first_line(reading.path)
    separator = max(_SEPARATORS, key=header.count)
    names = first_fields(reading.path, header, separator)
    columns = {ours: names.index(theirs) for ours, theirs in _mapped(reading, names).items()}
    return delimited_frames(reading, Layout(separator, len(names), columns, header=True))


def _parquet_frames(reading: Reading) -> Iterator[pl.DataFrame]:
    reading.unit = "row"
    try:
        table = pl.scan_parquet(reading.path, glob=False)  # brackets in a name are its own
        schema = table.collect_schema()
        total = table.select(pl.len()).collect().item()
        columns = _mapped(reading, list(schema))
        wanted = table.select(
            _spelled(reading, ours, name, schema[name]) for ours, name in columns.items()
        )
        size = reading.path.stat().st_size
        for first in range(0, total, ROWS):
            frame = wanted.slice(first, ROWS).collect()
            reading.records += len(frame)
            reading.advance(size * (first + len(frame)) // total - size * first // total)
            yield frame.with_row_index(LINE, offset=first + 1)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).partition("\n")[0]
        raise BadDataError(f"{reading.path} cannot be read as Parquet: {problem}") from None


def _mapped(reading: Reading, names: Sequence[str]) -> Mapping[str, str]:
    """Map our column names to the file's; a rating only where it is needed."""
    needed = (
        ("user", "item", "time", "rating") if reading.wanted.rating else ("user", "item", "time")
    )
    columns = {ours: reading.wanted.columns.get(ours, ours) for ours in needed}
    for ours, theirs in columns.items():
        if theirs not in names:
            raise BadDataError(
                f"{reading.path} has no column {theirs!r} (it has {', '.join(names)});"
                f" say which one to use with --column {ours}=NAME"
            )
    return columns


def _spelled(reading: Reading, ours: str, name: str, kind: pl.DataType) -> pl.Expr:
    """Read a Parquet column as text (ids), seconds (dates and times) or as it is (numbers)."""
    column = pl.col(name).alias(ours)
    if ours in ("user", "item"):
        if not (kind.is_integer() or kind in _ID_KINDS):
            raise BadDataError(
                f"{reading.path}: column {name!r} holds {kind}; ids must be text or whole numbers"
            )
        return column.cast(pl.String)
    if kind in (pl.Date, pl.Datetime):
        return column.dt.epoch("us") / 1e6
    if not (kind.is_numeric() or kind == pl.String):
        raise BadDataError(f"{reading.path}: column {name!r} holds {kind}; {ours} must be a number")
    return column
