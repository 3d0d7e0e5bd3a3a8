"""Titles of items: `items.tsv` (id, tab, title) or the Amazon metadata files (JSON lines)."""

import ast
import html
import json
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from model.data.sources.json_lines import is_json_lines, without_halves
from model.data.sources.reading import Reading
from model.data.sources.text import blocks, first_line
from model.errors import BadDataError

_METADATA_ID = re.compile(rb"""["'](?:parent_asin|asin)["']\s*:\s*["']([^"']+)["']""")


def read_titles(reading: Reading, wanted: AbstractSet[str]) -> dict[str, str]:
    """Read the titles of the items wanted; the first one of an item counts, empty ones do not.

    Args:
        reading: The file, plain or gzip, and where unusable lines are counted.
        wanted: Ids of the items whose titles are needed.

    Raises:
        BadDataError: If the file is missing or empty, or lines of it are not in its format: more
            than 1 % of those that matter.
    """
    pair = _metadata if is_json_lines(first_line(reading.path)) else _tabs
    titles: dict[str, str] = {}
    for number, line in _lines(reading):
        reading.records += 1
        try:
            item_id, title = pair(line, wanted)
        except ValueError as error:
            reading.refuse(number, str(error))
            continue
        if title and item_id in wanted:
            titles.setdefault(item_id, title)
    if not reading.records:
        raise BadDataError(f"{reading.path} holds no titles")
    reading.finish()
    return titles


def _lines(reading: Reading) -> Iterator[tuple[int, bytes]]:
    for block in blocks(reading):
        for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
            if line.strip():
                yield number, line


def _tabs(line: bytes, _: AbstractSet[str]) -> tuple[str, str]:
    item_id, tab, title = line.decode(errors="replace").partition("\t")
    if not tab:
        raise ValueError("no tab between id and title")
    return item_id, " ".join(title.split())


def _metadata(line: bytes, wanted: AbstractSet[str]) -> tuple[str, str]:
    """Parse a metadata line, unless a glance shows that its item is not wanted."""
    found = _METADATA_ID.search(line)
    if found is None:
        raise ValueError("no asin")
    if found[1].decode(errors="replace") not in wanted:
        return "", ""
    record = _record(line)
    item_id = record.get("parent_asin") or record.get("asin")
    title = html.unescape(without_halves(str(record.get("title") or "")))
    return str(item_id), " ".join(title.split())


def _record(line: bytes) -> dict[str, object]:
    """Parse a line of JSON or, as in the 2014 release, of Python's own notation."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(line.decode(errors="replace").strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError("neither JSON nor a Python literal") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004  # a bad line of a file, not a wrong type
    return value
