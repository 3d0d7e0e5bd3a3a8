"""The format `amazon`: reviews and ratings files of the 2014, 2018 and 2023 releases.

Review files are JSON lines; 2014 and 2018 name the fields `reviewerID, asin, overall,
unixReviewTime`, 2023 `user_id, parent_asin, rating, timestamp` (milliseconds). Ratings files are
CSV: 2023 with a header; 2014 without one as `user,item,rating,time`, 2018 as
`item,user,rating,time`. Which of the two it is, is told from the shape of the ids, never from the
order of the columns; where the shapes leave doubt the caller has to say.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import polars as pl

from model.data.sources.delimited import Layout, delimited_frames, first_fields
from model.data.sources.json_lines import is_json_lines, json_frames, keys_of
from model.data.sources.reading import LINE, Reading, with_numbers
from model.data.sources.text import first_line
from model.errors import BadDataError

ITEM_SHAPE: Final = r"^(B[0-9A-Z]{9}|[0-9]{9}[0-9X])$"
"""An ASIN: ten characters, from B on, or an ISBN."""

USER_SHAPE: Final = r"^A[0-9A-Z]{11,}$"
"""A reviewer: from A on, 12 to 14 characters until 2018 and 28 and more in 2023."""

_RELEASES: tuple[Mapping[str, str], ...] = tuple(
    MappingProxyType(dict(zip(("user", "item", "rating", "time", "verified"), names, strict=True)))
    for names in (
        ("reviewerID", "asin", "overall", "unixReviewTime", "verified"),
        ("user_id", "parent_asin", "rating", "timestamp", "verified_purchase"),
    )
)
_NEEDED = ("user", "item", "rating", "time")
_RATINGS_WIDTH = 4
_LOOKED_AT = 10_000
_SURE = 0.9
_PLACES = ("1", "2")


def read_amazon(reading: Reading) -> Iterator[pl.DataFrame]:
    """Read a review or ratings file, told apart by content.

    Raises:
        BadDataError: If fields are missing, or users and items of a ratings file cannot be told
            apart.
    """
    line = first_line(reading.path)
    frames = _reviews(reading) if is_json_lines(line) else _ratings(reading, line)
    for frame in frames:
        sound = with_numbers(with_numbers(frame, "time", reading), "rating", reading)
        if "verified" in sound.columns:
            said = pl.col("verified").fill_null("").str.to_lowercase()
            sound = sound.with_columns(said == "true")
        yield sound.drop(LINE)


def _reviews(reading: Reading) -> Iterator[pl.DataFrame]:
    _refuse_columns(reading, "names its fields")
    return json_frames(reading, _names(reading, keys_of(reading), "field"))


def _ratings(reading: Reading, line: str) -> Iterator[pl.DataFrame]:
    fields = first_fields(reading.path, line, ",")
    if any(release["user"] in fields for release in _RELEASES):
        _refuse_columns(reading, "names its columns")
        names = _names(reading, set(fields), "column")
        columns = {ours: fields.index(theirs) for ours, theirs in names.items()}
        return delimited_frames(reading, Layout(",", len(fields), columns, header=True))
    if reading.wanted.verified:
        raise BadDataError(f"{reading.path} does not say which purchases were verified")
    if len(fields) != _RATINGS_WIDTH:
        raise BadDataError(
            f"{reading.path} is not an Amazon file: its first line is no JSON object, and has"
            f" {len(fields)} columns where a ratings file has {_RATINGS_WIDTH}"
        )
    user, item = _stated(reading) or _told_apart(reading)
    columns = {"user": user, "item": item, "rating": 2, "time": 3}
    return delimited_frames(reading, Layout(",", _RATINGS_WIDTH, columns))


def _names(reading: Reading, found: set[str], what: str) -> Mapping[str, str]:
    """Map our columns to the names of the release that a file is of."""
    needed = (*_NEEDED, "verified") if reading.wanted.verified else _NEEDED
    release = next((names for names in _RELEASES if names["user"] in found), None)
    if release is None:
        known = " or ".join(names["user"] for names in _RELEASES)
        raise BadDataError(f"{reading.path} is not an Amazon file: it has no {what} {known}")
    missing = [release[ours] for ours in needed if release[ours] not in found]
    if missing:
        raise BadDataError(f"{reading.path} has no {what} {', '.join(missing)}")
    return {ours: release[ours] for ours in needed}


def _refuse_columns(reading: Reading, why: str) -> None:
    if reading.wanted.columns:
        raise BadDataError(
            f"{reading.path} {why}; --column is for ratings files without a header,"
            " or use --format table"
        )


def _stated(reading: Reading) -> tuple[int, int] | None:
    """Return the places of users and items that the caller gave, from 0; None if none was given."""
    columns = reading.wanted.columns
    if not columns:
        return None
    if set(columns) != {"user", "item"} or sorted(columns.values()) != list(_PLACES):
        raise BadDataError(
            f"{reading.path} has no header: give both places, --column user=1 --column item=2"
            " or --column user=2 --column item=1"
        )
    return int(columns["user"]) - 1, int(columns["item"]) - 1


def _told_apart(reading: Reading) -> tuple[int, int]:
    """Return the places of users and items as the shapes of the ids tell them, from 0."""
    columns = {"0": 0, "1": 1}
    frames = delimited_frames(Reading(reading.path), Layout(",", _RATINGS_WIDTH, columns))
    sample = next(frames).head(_LOOKED_AT)
    items, users = (
        [_share(sample[name], shape) for name in columns] for shape in (ITEM_SHAPE, USER_SHAPE)
    )
    for user, item in ((0, 1), (1, 0)):
        if _sure(users, items, user) and _sure(items, users, item):
            order = ("user,item", "item,user")[user]
            reading.notes.append(f"{reading.path.name}: column order {order}, from the ids' shape")
            return user, item
    raise BadDataError(
        f"{reading.path} has no header, and its ids do not show which of the first two columns"
        " holds users and which items; say it with --column user=1 --column item=2 (2014 release)"
        " or --column user=2 --column item=1 (2018 release)"
    )


def _share(ids: pl.Series, shape: str) -> float:
    return int(ids.str.contains(shape).fill_null(value=False).sum()) / max(len(ids), 1)


def _sure(own: Sequence[float], other: Sequence[float], place: int) -> bool:
    """Tell whether a column has the one shape nearly always and the other one hardly ever."""
    return own[place] >= _SURE and other[place] <= 1 - _SURE
