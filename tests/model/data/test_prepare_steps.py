"""Each step against a slow, obvious version of it."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.log import Log, load
from model.data.ordering import hashes, repeated_events, repeated_items, sort
from model.data.prepare_settings import PrepareSettings, with_defaults
from model.data.steps import Account, core, narrow
from model.errors import BadDataError, BadSettingError

Event = tuple[str, str, int]

events = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("uvwxyz"), st.integers(0, 4)), max_size=40
)


def log_of(rows: Iterable[Event]) -> Log:
    schema = {"user": pl.String(), "item": pl.String(), "time": pl.Float64()}
    return load([pl.DataFrame(list(rows), schema=schema, orient="row", strict=False)])


def rows_of(log: Log) -> list[Event]:
    times = [0] * len(log) if log.time is None else log.time.tolist()
    return [
        (log.user_ids[int(user)], log.item_ids[int(item)], time)
        for user, item, time in zip(log.user, log.item, times, strict=True)
    ]


def slow_core(rows: list[Event], least: int) -> list[Event]:
    while True:
        users = Counter(user for user, _, _ in rows)
        items = Counter(item for _, item, _ in rows)
        kept = [row for row in rows if users[row[0]] >= least and items[row[1]] >= least]
        if kept == rows:
            return rows
        rows = kept


@settings(max_examples=150)
@given(rows=events, least=st.integers(1, 5))
def test_the_stable_core_is_what_removing_the_rare_one_round_at_a_time_leaves(
    rows: list[Event], least: int
) -> None:
    log = log_of(rows)

    log.select(core(log, least, single=False))

    assert rows_of(log) == slow_core(rows, least)


@settings(max_examples=50)
@given(rows=events, least=st.integers(1, 5))
def test_the_single_pass_counts_items_first_and_then_users_once(
    rows: list[Event], least: int
) -> None:
    items = Counter(item for _, item, _ in rows)
    kept = [row for row in rows if items[row[1]] >= least]
    users = Counter(user for user, _, _ in kept)
    log = log_of(rows)

    log.select(core(log, least, single=True))

    assert rows_of(log) == [row for row in kept if users[row[0]] >= least]


def test_the_single_pass_leaves_more_than_the_stable_core() -> None:
    rows = [("a", "u", 0), ("a", "v", 1), ("b", "u", 0), ("b", "v", 1), ("c", "v", 0)]
    log = log_of([*rows, ("c", "w", 0), ("d", "w", 0)])

    single, stable = (int(core(log, 2, single=single).sum()) for single in (True, False))

    assert (single, stable) == (6, 4)


@settings(max_examples=50)
@given(rows=events, seed=st.integers(0, 3))
def test_sorting_goes_by_user_and_time_and_loses_nothing(rows: list[Event], seed: int) -> None:
    log = log_of(rows)

    sort(log, seed=seed, stated=False)

    keys = [(user, time) for user, _, time in rows_of(log)]
    assert keys == sorted(keys)
    assert Counter(rows_of(log)) == Counter(rows)


@settings(max_examples=50)
@given(rows=events, seed=st.integers(0, 3), data=st.data())
def test_the_order_of_the_lines_does_not_matter_where_the_hash_decides(
    rows: list[Event], seed: int, data: st.DataObject
) -> None:
    logs = log_of(rows), log_of(data.draw(st.permutations(rows)))

    for log in logs:
        sort(log, seed=seed, stated=False)

    assert rows_of(logs[0]) == rows_of(logs[1])


@settings(max_examples=50)
@given(rows=events)
def test_the_order_of_the_file_decides_ties_where_it_is_stated(rows: list[Event]) -> None:
    log = log_of(rows)

    sort(log, seed=1, stated=True)

    assert rows_of(log) == sorted(rows, key=lambda row: (row[0], row[2]))


@pytest.mark.parametrize("spread", [1, 2**40, 2**61])
def test_times_too_far_apart_for_one_key_sort_the_same(spread: int) -> None:
    generator = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{item}", int(time) * spread)
        for user, item, time in zip(
            generator.integers(0, 9, 200),
            generator.integers(0, 9, 200),
            generator.integers(-2, 3, 200),
            strict=True,
        )
    ]
    log = log_of(rows)
    assert log.time is not None
    log.time = np.array([time for _, _, time in rows])

    sort(log, seed=0, stated=True)

    assert rows_of(log) == sorted(rows, key=lambda row: (row[0], row[2]))


def test_another_seed_gives_ties_another_order_and_the_same_one_the_same() -> None:
    rows = [("a", f"i{item}", 0) for item in range(20)]
    orders = []
    for seed in (1, 1, 2):
        log = log_of(rows)
        sort(log, seed=seed, stated=False)
        orders.append(rows_of(log))

    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("of", ["users", "moments"])
def test_ties_have_no_order_that_holds_for_all(of: str) -> None:
    count = 1000
    log = log_of(
        (f"u{each}", item, 0) if of == "users" else ("u", item, each)
        for each in range(count)
        for item in "xy"
    )

    sort(log, seed=0, stated=False)

    x_first = sum(item == "x" for _, item, _ in rows_of(log)[::2])
    assert abs(x_first - count / 2) < 3 * (count / 4) ** 0.5


@settings(max_examples=50)
@given(rows=events, stated=st.booleans())
def test_of_equal_events_the_first_one_stays(rows: list[Event], stated: bool) -> None:
    log = log_of(rows)
    sort(log, seed=0, stated=stated)
    before = rows_of(log)

    log.select(~repeated_events(log))

    assert rows_of(log) == list(dict.fromkeys(before))


@settings(max_examples=50)
@given(rows=events)
def test_repeats_in_a_row_collapse_to_one(rows: list[Event]) -> None:
    log = log_of(rows)
    sort(log, seed=0, stated=True)
    expected: list[Event] = []
    for row in rows_of(log):
        if not expected or expected[-1][:2] != row[:2]:
            expected.append(row)

    log.select(~repeated_items(log))

    assert rows_of(log) == expected


def test_hashes_never_change() -> None:
    # Other values would silently give every dataset made before another order among its ties.
    assert hashes(["user", ""], 7).tolist() == [8006719804484170806, 7288634180533250744]
    assert hashes([], 7).tolist() == []
    assert hashes(["user"], 2**63).tolist() != hashes(["user"], 7).tolist()


def settings_of(**options: object) -> PrepareSettings:
    return with_defaults(PrepareSettings.model_validate({"format": "table", **options}))


def narrowed(rows: list[Event], **options: object) -> tuple[list[Event], dict[str, int], Account]:
    log = log_of(rows)
    account = Account("shop", log)
    narrow(log, account, settings_of(**options))
    removed = {step["name"]: step["removed"]["interactions"] for step in account.steps()}
    return rows_of(log), removed, account


DAY = 86_400
START = 1_577_836_800  # 2020-01-01


def test_the_window_keeps_its_first_moment_and_not_its_last() -> None:
    rows = [("a", item, START + day * DAY) for day, item in enumerate("uvwx")]

    kept, removed, _ = narrowed(rows, since="2020-01-02", until="2020-01-04")

    assert [item for _, item, _ in kept] == ["v", "w"]
    assert (removed["since"], removed["until"]) == (1, 1)


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000])
def test_the_window_holds_in_every_unit_of_time(scale: int) -> None:
    rows = [("a", item, (START + day * DAY) * scale) for day, item in enumerate("uvwx")]

    kept, _, _ = narrowed(rows, since=str(START + DAY), until="2020-01-04T00:00:00+00:00")

    assert [item for _, item, _ in kept] == ["v", "w"]


def test_the_papers_window_applies_to_amazon_files_that_reach_beyond_it() -> None:
    before, after = 1_506_902_399, 1_506_902_400  # 2017-10-01T23:59:59, 2017-10-02
    off = {"format": "amazon", "core": 0}

    kept, removed, account = narrowed([("a", "u", before), ("a", "v", after)], **off)
    assert ([item for _, item, _ in kept], removed["since"]) == (["v"], 1)
    assert account.notes == []

    kept, removed, account = narrowed([("a", "u", before)], **off)
    assert (len(kept), "since" in removed) == (1, False)
    assert account.notes == ["shop ends before 2017-10-02; no time window is applied"]

    kept, _, _ = narrowed([("a", "u", before), ("a", "v", after)], since="none", **off)
    assert len(kept) == 2


def test_lengths_are_those_after_all_other_steps() -> None:
    rows = [("a", item, place) for place, item in enumerate("uuvvww")]
    rows += [("b", item, place) for place, item in enumerate("uvwx")]

    kept, removed, _ = narrowed(rows, collapse_repeats=True, min_length=4)

    assert {user for user, _, _ in kept} == {"b"}
    assert removed == {"read": 0, "bad ids": 0, "duplicates": 0, "repeats": 3, "length": 3}


def test_the_account_says_what_each_step_left() -> None:
    rows = [("a", "u", 0), ("a", "u", 0), ("a", "v", 1), ("", "u", 2), ("b", "w", 3)]

    _, _, account = narrowed(rows, min_length=2)

    assert account.steps() == [
        {
            "name": "read",
            "rule": "",
            "removed": {"users": 0, "items": 0, "interactions": 0},
            "left": {"users": 3, "items": 3, "interactions": 5},
        },
        {
            "name": "bad ids",
            "rule": "neither empty, garbled nor longer than 512 bytes",
            "removed": {"users": 1, "items": 0, "interactions": 1},
            "left": {"users": 2, "items": 3, "interactions": 4},
        },
        {
            "name": "duplicates",
            "rule": "one of the same user, item and time",
            "removed": {"users": 0, "items": 0, "interactions": 1},
            "left": {"users": 2, "items": 3, "interactions": 3},
        },
        {
            "name": "length",
            "rule": "2 or more",
            "removed": {"users": 1, "items": 1, "interactions": 1},
            "left": {"users": 1, "items": 2, "interactions": 2},
        },
    ]


def test_a_domain_that_the_steps_empty_is_refused_with_their_counts() -> None:
    rows = [("a", "u", 0), ("b", "v", 1), ("b", "v", 1), ("c", "", 2)]

    with pytest.raises(BadDataError) as caught:
        narrowed(rows, core=2)

    assert str(caught.value) == (
        "domain shop: nothing is left of 4 interactions read:"
        " bad ids (neither empty, garbled nor longer than 512 bytes) removed 1;"
        " duplicates (one of the same user, item and time) removed 1;"
        " k-core (2 each, stable) removed 2"
    )


def test_a_window_on_a_log_without_times_is_refused() -> None:
    log = log_of([("a", "u", 0)])
    log.time = None

    with pytest.raises(BadSettingError) as caught:
        narrow(log, Account("shop", log), settings_of(since="2020-01-01"))

    assert str(caught.value) == "setting data.since, data.until: the log of shop states no times"
