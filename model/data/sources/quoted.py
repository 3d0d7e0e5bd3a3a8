"""Records of delimited text whose fields may stand between double quotes, line ends among them."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import methodcaller
from typing import NamedTuple

import numpy as np

from model.data.sources.reading import Reading
from model.data.sources.text import Block, blocks, line_ends

_DECODED = methodcaller("decode", errors="replace")
_QUOTE, _LINE_END, _CARRIAGE_RETURN = b'"\n\r'


class Record(NamedTuple):
    """What stands in one line, or in several that a quoted field joins."""

    line: int
    """Its first one, counted from 0."""
    fields: list[str]
    problem: str = ""
    """Why it has no fields."""
    cut_off: bool = False
    """Whether that is because the lines end before it does."""


def record_blocks(reading: Reading, separator: str) -> Iterator[tuple[Block, bool]]:
    """Read a text file block by block, each of whole records.

    Yields:
        The blocks, each with whether it is well quoted: its quotes enclose whole fields, and are
        doubled inside of them. Then what stands between them can be told by counting quotes.

    Raises:
        BadDataError: As `blocks` does.
    """
    line, rest = 1, b""
    for block in blocks(reading):
        content = rest + block.content
        end, sound = _end_of_records(content, separator)
        rest = content[end:]
        if end:
            content = content[:end]
            yield Block(line, content), sound
            line += line_ends(content)
    if rest:
        yield Block(line, rest), _well_quoted(rest, separator)


def quoted_records(lines: Sequence[bytes], separator: str) -> Iterator[Record]:
    """Form records; where one cannot be, its first line is wrong and the next begins another.

    A field has at most `csv.field_size_limit` characters: a longer one was never closed.
    """
    begin = 0
    while begin < len(lines):
        over: list[bool] = []
        rest = map(_DECODED, map(lines.__getitem__, range(begin, len(lines))))
        reader = csv.reader(chain(rest, _noted(over)), delimiter=separator, strict=True)
        first = begin
        try:
            for fields in reader:
                yield Record(first, fields)
                first = begin + reader.line_num
        except csv.Error as error:
            # It may be closed where another was to open, in a line further down.
            unclosed = begin + reader.line_num - first > 1 or lines[first].count(_QUOTE) % 2
            problem = "a quote is not closed" if unclosed else str(error)
            yield Record(first, [], problem, cut_off=bool(over))
        begin = first + 1


def _noted(over: list[bool]) -> Iterator[str]:
    """Give nothing, and note that it was asked for."""
    over.append(True)
    yield from ()


def _end_of_records(content: bytes, separator: str) -> tuple[int, bool]:
    """Find where the last whole record ends, 0 if none does, and whether all is well quoted."""
    end = _last_even_line_end(content)
    if end and _well_quoted(content[:end], separator):
        return end, True
    lines = io.BytesIO(content).readlines()
    records = quoted_records(lines, separator)
    cut_off = next((record.line for record in records if record.cut_off), len(lines))
    return sum(map(len, lines[:cut_off])), False


def _last_even_line_end(content: bytes) -> int:
    """Find the last line end with an even number of quotes before it; 0 if there is none."""
    end = content.rfind(b"\n") + 1
    odd = b'"' in content and content.count(b'"', 0, end) % 2
    while odd and end:
        earlier = content.rfind(b"\n", 0, end - 1) + 1
        odd = (odd + content.count(b'"', earlier, end)) % 2
        end = earlier
    return end


def _well_quoted(content: bytes, separator: str) -> bool:
    if b'"' not in content:
        return True
    text = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    doubled = closing[:-1] + 1 == opening[1:]
    before, after = text[opening - 1], text[closing + 1]
    begins = (before == _LINE_END) | (before == ord(separator))
    ends = (after == _LINE_END) | (after == ord(separator)) | (after == _CARRIAGE_RETURN)
    begins[1:] |= doubled
    ends[:-1] |= doubled
    return bool(begins.all() and ends.all())
