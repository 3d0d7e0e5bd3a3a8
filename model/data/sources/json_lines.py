"""Lines of JSON objects as frames: fast where a block is sound, line by line where it is not."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import isfinite

import polars as pl

from model.data.sources.reading import LINE, Reading
from model.data.sources.text import Block, blocks, first_line
from model.errors import BadDataError

_LOOKED_AT = 100
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON can escape one half of a pair alone


def without_halves(text: str) -> str:
    """Replace each half of a pair that stands alone by U+FFFD: no encoding has it."""
    return _HALF_CHARACTER.sub("\ufffd", text)


def is_json_lines(line: str) -> bool:
    """Tell whether a file's first line looks like a JSON object."""
    return line.lstrip().startswith("{")


def keys_of(reading: Reading) -> set[str]:
    """Return the keys of the first JSON object among the first lines of a file.

    Raises:
        BadDataError: If none of the first lines is a JSON object.
    """
    for block in blocks(Reading(reading.path)):
        for line in block.content.split(b"\n", _LOOKED_AT)[:_LOOKED_AT]:
            value, problem = _object(line)
            if not problem:
                return set(value)
        break
    start = first_line(reading.path)
    _, problem = _object(start.encode())
    raise BadDataError(f"{reading.path} is not JSON lines: line 1: {problem or 'blank'}")


def json_frames(
    reading: Reading, columns: Mapping[str, str], *, lists: frozenset[str] = frozenset()
) -> Iterator[pl.DataFrame]:
    """Read the wanted fields of a file of JSON objects, one a line, as text.

    A line that is not a JSON object is counted as unusable; a missing field is null.

    Args:
        reading: The file, and where unusable lines are counted.
        columns: Name of a column to the field it is read from.
        lists: The columns that hold lists of values instead of one.

    Yields:
        Frames with the columns (String, or lists of String) and `LINE`.
    """
    schema = {
        field: pl.List(pl.String()) if name in lists else pl.String()
        for name, field in columns.items()
    }
    for block in blocks(reading):
        frame = _parsed(block, schema)
        if frame is None:
            frame = _parsed_by_line(block, schema, reading)
        reading.records += len(frame)
        for name, field in columns.items():
            if name in lists:
                frame = _with_lists(frame, field, reading)
        yield frame.select(LINE, *(pl.col(field).alias(name) for name, field in columns.items()))


def _parsed(block: Block, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    """Parse a block at once; None where it holds blank lines or lines that are not JSON objects."""
    lines = block.content.count(b"\n") + (not block.content.endswith(b"\n"))
    try:
        frame = pl.read_ndjson(
            block.content,
            schema=dict(schema),
            row_index_name=LINE,
            row_index_offset=block.first_line,
        )
    except pl.exceptions.PolarsError:
        return None
    return frame if len(frame) == lines else None


def _with_lists(frame: pl.DataFrame, field: str, reading: Reading) -> pl.DataFrame:
    """Drop the lines in which a field that should be a list is null or missing."""
    there = frame[field].is_not_null()
    reading.refuse_rows(frame, there, lambda _: f"{field} is not a list")
    return frame.filter(there)


def _parsed_by_line(
    block: Block, schema: Mapping[str, pl.DataType], reading: Reading
) -> pl.DataFrame:
    kept: list[dict[str, object]] = []
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        if not line.strip():
            continue
        value, problem = _object(line)
        values: dict[str, object] = {}
        for key, kind in () if problem else schema.items():
            values[key] = _text(value.get(key))
            if isinstance(kind, pl.List):
                entries = value.get(key)
                if isinstance(entries, list):
                    values[key] = [_text(entry) for entry in entries]
                else:
                    problem = problem or f"{key} is not a list"
        if problem:
            reading.records += 1
            reading.refuse(number, problem)
        else:
            kept.append({LINE: number, **values})
    return pl.DataFrame(kept, schema={LINE: pl.UInt32(), **schema}, strict=False)


def _object(line: bytes) -> tuple[dict[str, object], str]:
    """Parse one line; where it is not a JSON object, say so."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}, "not JSON"
    if not isinstance(value, dict):
        return {}, "not a JSON object"
    return value, ""


def _text(value: object) -> str | None:
    """Spell a JSON value as the fast way does: an id must read the same whichever way it came."""
    if isinstance(value, str):
        return without_halves(value)
    if value is None:
        return None
    if isinstance(value, float):  # 5.0 is 5, and no number has an exponent
        return format(Decimal(repr(value)).normalize(), "f") if isfinite(value) else str(value)
    if isinstance(value, list):
        return f"[{', '.join(_nested(entry) for entry in value)}]"
    if isinstance(value, dict):
        inside = (f"{json.dumps(key, ensure_ascii=False)}: {_nested(value[key])}" for key in value)
        return f"{{{', '.join(inside)}}}"
    return json.dumps(value)


def _nested(value: object) -> str:
    if value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return _text(value) or ""
