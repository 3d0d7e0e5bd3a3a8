"""Formats that keep one user a line, with lists of items and times, as rows of one interaction."""

from collections.abc import Sequence

import polars as pl

from model.data.sources.reading import LINE, Reading


def exploded(frame: pl.DataFrame, names: list[str], reading: Reading) -> pl.DataFrame:
    """Turn rows of lists into a row for each entry; a line whose lists do not fit is unusable.

    Args:
        frame: `LINE`, `user`, and the lists, of String.
        names: The columns that hold lists; `time` among them becomes Float64.
        reading: Where unusable lines are counted.
    """
    lengths = frame.select(pl.col(names).list.len().fill_null(0))
    good = lengths.select(
        pl.all_horizontal(pl.col(name) == pl.col(names[0]) for name in names)
    ).to_series()
    reading.refuse_rows(frame, good, lambda place: _unequal(names, lengths.row(place)))
    frame = frame.filter(good)
    if "time" in names:
        frame = _with_times(frame, reading)
    return frame.drop(LINE).explode(names, empty_as_null=False)


def _unequal(names: Sequence[str], lengths: Sequence[int]) -> str:
    counted = (f"{length} {name}s" for name, length in zip(names, lengths, strict=True))
    return f"lists of unequal length: {', '.join(counted)}"


def _with_times(frame: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    number = pl.element().str.strip_chars().cast(pl.Float64, strict=False)
    finite = pl.when(number.is_finite()).then(number)
    times = frame["time"].list.eval(finite)
    good = ~times.list.eval(pl.element().is_null()).list.any().fill_null(value=False)
    reading.refuse_rows(frame, good, lambda _: "a time is not a number")
    return frame.with_columns(times.alias("time")).filter(good)
