"""Logs in memory: ids by their order, times as whole ticks."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.log import Log, load, sound_ids


def frames(rows: list[tuple[str, str]], size: int) -> list[pl.DataFrame]:
    frame = pl.DataFrame(
        rows, schema={"user": pl.String(), "item": pl.String()}, orient="row"
    ).with_columns(time=pl.int_range(len(rows)).cast(pl.Float64))
    return [frame[first : first + size] for first in range(0, max(len(rows), 1), size)]


@given(
    rows=st.lists(st.tuples(st.text("aü日😀", max_size=3), st.text("xy", max_size=2))),
    size=st.integers(1, 5),
)
def test_codes_stand_for_the_ids_they_came_from_in_ascending_order(
    rows: list[tuple[str, str]], size: int
) -> None:
    log = load(frames(rows, size))

    assert log.user_ids.to_list() == sorted({user for user, _ in rows})
    assert log.item_ids.to_list() == sorted({item for _, item in rows})
    assert [
        (log.user_ids[int(user)], log.item_ids[int(item)])
        for user, item in zip(log.user, log.item, strict=True)
    ] == rows


@pytest.mark.parametrize(
    ("times", "ticks_per_second", "expected"),
    [
        ([1.4e9, 0.0, 1.5e9], 1, [1_400_000_000, 0, 1_500_000_000]),
        ([1.5, 2.25, 3.0], 1_000_000, [1_500_000, 2_250_000, 3_000_000]),
        ([1588687728923.0, 1588687728924.0, 5.0], 1_000, [1588687728923, 1588687728924, 5]),
        (
            [1.5e15, 1.6e15, 1.7e15],
            1_000_000,
            [1500000000000000, 1600000000000000, 1700000000000000],
        ),
        ([1.5e18, 1.6e18, 1.7e18], 1_000_000_000, [15 * 10**17, 16 * 10**17, 17 * 10**17]),
        ([-5.0, 3.0, 4.0], 1, [-5, 3, 4]),
    ],
)
def test_the_unit_of_times_is_told_from_their_magnitude(
    times: list[float], ticks_per_second: int, expected: list[int]
) -> None:
    log = load([pl.DataFrame({"user": ["u"] * 3, "item": ["i"] * 3, "time": times})])

    assert log.ticks_per_second == ticks_per_second
    assert log.time is not None
    assert log.time.tolist() == expected


def test_one_odd_time_does_not_change_the_unit_of_the_others() -> None:
    times = [1.4e9, 1.5e9, 1.6e9, 9e17]

    log = load([pl.DataFrame({"user": ["u"] * 4, "item": ["i"] * 4, "time": times})])

    assert log.ticks_per_second == 1


def test_marks_keep_their_places() -> None:
    frame = pl.DataFrame(
        {"user": ["b", "a"], "item": ["x", "x"], "rating": [1.5, 4.0], "positive": [True, False]}
    )

    log = load([frame, frame[:1]])

    assert log.marks["rating"].tolist() == [1.5, 4.0, 1.5]
    assert log.marks["positive"].tolist() == [True, False, True]
    assert log.time is None


def test_selecting_keeps_the_columns_together_and_counts_what_is_left() -> None:
    frame = pl.DataFrame(
        {"user": ["a", "b", "b"], "item": ["x", "y", "x"], "time": [3.0, 2.0, 1.0]}
    )
    log = load([frame.with_columns(rating=pl.Series([1.0, 2.0, 3.0]))])

    log.select(np.array([2, 1]))

    assert (log.user.tolist(), log.item.tolist()) == ([1, 1], [0, 1])
    assert log.time is not None
    assert (log.time.tolist(), log.marks["rating"].tolist()) == ([1, 2], [3.0, 2.0])
    assert log.counts() == (1, 2, 2)


def test_an_interaction_takes_sixteen_bytes() -> None:
    log: Log = load([pl.DataFrame({"user": ["u"] * 9, "item": ["i"] * 9, "time": [1.0] * 9})])

    assert log.time is not None
    assert log.user.nbytes + log.item.nbytes + log.time.nbytes == 16 * 9


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("B000", True),
        ("日本", True),
        ("a\tb", True),
        ("a b", True),
        ("", False),
        ("  ", False),
        ("a\x00b", False),
        ("a\nb", False),
        ("\x7f", False),
        ("\x9f", False),
        ("\u00a0a", True),
        ("B\ufffd", False),
        ("ä" * 256, True),
        ("ä" * 256 + "b", False),
    ],
)
def test_empty_garbled_and_overlong_ids_are_told_from_sound_ones(text: str, sound: bool) -> None:
    assert sound_ids(pl.Series([text, "x"])).tolist() == [sound, True]
