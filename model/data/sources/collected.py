"""The format `collected`: per user three lists of actions, item ids and times (section 6.3.2).

Either JSON lines, `{"user": ..., "actions": [...], "items": [...], "times": [...]}`, or four
columns separated by tabs, the lists by commas: `user <TAB> actions <TAB> items <TAB> times`.
"""

from collections.abc import Iterator

import polars as pl

from model.data.sources.delimited import Layout, delimited_frames
from model.data.sources.json_lines import is_json_lines, json_frames, keys_of
from model.data.sources.lists import exploded
from model.data.sources.reading import Reading
from model.data.sources.text import first_line
from model.errors import BadDataError

POSITIVE_ACTIONS = ("click", "finish")
"""Actions that count as interest; the paper ignores all others."""

_FIELDS = {"user": "user", "action": "actions", "item": "items", "time": "times"}
_LISTS = ["action", "item", "time"]


def read_collected(reading: Reading) -> Iterator[pl.DataFrame]:
    """Read a file of the format `collected`; `positive` tells whether the action shows interest.

    Raises:
        BadDataError: If the first line has not the fields or columns of the format.
    """
    line = first_line(reading.path)
    frames = _json(reading) if is_json_lines(line) else _tabs(reading, line)
    for frame in frames:
        rows = exploded(frame, _LISTS, reading)
        positive = pl.col("action").fill_null("").is_in(POSITIVE_ACTIONS)
        yield rows.select("user", "item", "time", positive=positive)


def _json(reading: Reading) -> Iterator[pl.DataFrame]:
    missing = set(_FIELDS.values()) - keys_of(reading)
    if missing:
        raise BadDataError(
            f"{reading.path} is not in the format collected:"
            f" its first line has no field {', '.join(sorted(missing))}"
        )
    return json_frames(reading, _FIELDS, lists=frozenset(_LISTS))


def _tabs(reading: Reading, line: str) -> Iterator[pl.DataFrame]:
    width = line.count("\t") + 1
    if width != len(_FIELDS):
        raise BadDataError(
            f"{reading.path} is not in the format collected: its first line is no JSON object and"
            f" has {width} columns separated by tabs, expected user, actions, items, times"
        )
    layout = Layout("\t", width, {name: place for place, name in enumerate(_FIELDS)}, quoted=False)
    for frame in delimited_frames(reading, layout):
        yield frame.with_columns(pl.col(_LISTS).fill_null("").str.split(","))
