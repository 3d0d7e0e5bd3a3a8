"""What every reader of a log file shares: what it is asked for, what it yields, what it may skip.

A reader yields frames with the columns `user` and `item` (String), `time` (Float64, in whatever
unit the file has) where the format states one, and, where asked for, `rating` (Float64),
`verified` and `positive` (Boolean). Rows stand in the file's order. A null or empty id is left in:
the steps drop it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from model.errors import BadDataError

LINE: Final = "line"
"""The column that holds a row's line in its file, from 1, until the row has been checked."""

MOST_UNUSABLE = 0.01
"""Share of a file's lines that may be unusable; beyond, the file is refused."""

_REASONS_SHOWN = 3
_SHOWN_OF_VALUE = 40
_LARGEST_NUMBER = 1e19


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a reader beyond users, items and times."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column (`user`, `item`, `time`, `rating`) to the name the caller gave for it."""
    rating: bool = False
    """Whether ratings are needed."""
    verified: bool = False
    """Whether it is needed that a purchase was verified."""


@dataclass(slots=True)
class Reading:
    """One file being read: how many records it had and which could not be used."""

    path: Path
    wanted: Wanted = field(default_factory=Wanted)
    advance: Callable[[int], None] = lambda _: None
    """Told how many bytes of the file were read since the last call."""
    unit: str = "line"
    """What a record of the file is called."""
    records: int = 0
    unusable: int = 0
    notes: list[str] = field(default_factory=list)
    """What the reader found out about the file that its owner should know."""
    _refused: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, record: int, reason: str) -> None:
        """Count one record as unusable; the first ones of the file are kept for `reasons`."""
        self.unusable += 1
        self._refused.append((record, reason))
        self._refused.sort()
        del self._refused[_REASONS_SHOWN:]

    def refuse_rows(
        self, frame: pl.DataFrame, good: pl.Series, reason: Callable[[int], str]
    ) -> None:
        """Count a frame's rows that are not good; `reason` says why for a place in it."""
        places = (~good).arg_true()
        for place in places.head(_REASONS_SHOWN).to_list():
            self.refuse(int(frame[LINE][place]), reason(place))
        self.unusable += max(0, len(places) - _REASONS_SHOWN)

    @property
    def reasons(self) -> str:
        """Name the first records that could not be used, and why."""
        return "; ".join(f"{self.unit} {record}: {reason}" for record, reason in self._refused)

    @property
    def warnings(self) -> list[str]:
        """Say how many records could not be used, if any, and which were the first."""
        said = (
            f"{self.path.name}: {self.unusable} of {self.records} {self.unit}s cannot be used"
            f" and are left out: {self.reasons}"
        )
        return [said] if self.unusable else []

    def finish(self) -> None:
        """Check the whole file once it has been read.

        Raises:
            BadDataError: If it held no record, or more than `MOST_UNUSABLE` of them are unusable.
        """
        if not self.records:
            raise BadDataError(f"{self.path} holds no interactions")
        if self.unusable > MOST_UNUSABLE * self.records:
            raise BadDataError(
                f"{self.path}: {self.unusable} of {self.records} {self.unit}s cannot be used,"
                f" more than {MOST_UNUSABLE:.0%}: {self.reasons}"
            )


Reader = Callable[[Reading], Iterator[pl.DataFrame]]


def with_numbers(frame: pl.DataFrame, name: str, reading: Reading) -> pl.DataFrame:
    """Turn a column of text into Float64 and drop the rows where it is not a finite number.

    Args:
        frame: Rows with the columns `name` and `LINE`.
        name: The column to convert.
        reading: Where the dropped rows are counted, with their line and text.
    """
    raw = frame[name]
    numbers = raw.cast(pl.Float64, strict=False)
    if raw.dtype == pl.String and numbers.null_count():
        numbers = raw.str.strip_chars().cast(pl.Float64, strict=False)
    good = (numbers.is_finite() & (numbers.abs() < _LARGEST_NUMBER)).fill_null(value=False)
    reading.refuse_rows(frame, good, lambda place: _not_a_number(name, raw[place]))
    frame = frame.with_columns(numbers.alias(name))
    return frame if good.all() else frame.filter(good)


def _not_a_number(name: str, value: object) -> str:
    if value is None or value == "":
        return f"no {name}"
    return f"{name} {str(value)[:_SHOWN_OF_VALUE]!r} is not a number"
