"""The format `sequences`: user, items, and optionally times, a line for each user.

    user <TAB> item,item,... [<TAB> time,time,...]

Oldest first. Without times the order of the file is the order of time. Ids can hold neither tabs
nor commas; a user may stand on several lines, which are joined in their order.
"""

from collections.abc import Iterator

import polars as pl

from model.data.sources.delimited import Layout, delimited_frames
from model.data.sources.lists import exploded
from model.data.sources.reading import Reading
from model.data.sources.text import first_line
from model.errors import BadDataError

_COLUMNS = ("user", "item", "time")


def read_sequences(reading: Reading) -> Iterator[pl.DataFrame]:
    """Read a file of the format `sequences`.

    Raises:
        BadDataError: If the first line has neither two nor three columns.
    """
    line = first_line(reading.path)
    width = line.count("\t") + 1
    if not 1 < width <= len(_COLUMNS):
        raise BadDataError(
            f"{reading.path} is not in the format sequences: its first line has {width} columns"
            " separated by tabs, expected user, items and, where known, times"
        )
    names = _COLUMNS[:width]
    layout = Layout("\t", width, {name: names.index(name) for name in names}, quoted=False)
    for frame in delimited_frames(reading, layout):
        split = frame.with_columns(pl.col(names[1:]).fill_null("").str.split(","))
        yield exploded(split, list(names[1:]), reading)
