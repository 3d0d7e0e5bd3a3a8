"""Sequences re-coded from 1, shared users, and their resampling."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.dataset import Sequences
from model.data.histories import Histories, resampled, shared_places
from model.data.log import load
from model.errors import BadSettingError


def histories_of(users: dict[str, list[str]]) -> Histories:
    rows = [(user, item) for user in sorted(users) for item in users[user]]
    return Histories.of(load([pl.DataFrame(rows, schema=["user", "item"], orient="row")]))


def lists_of(histories: Histories) -> dict[str, list[str]]:
    return {
        user: [histories.item_ids[int(row) - 1] for row in histories.sequences[place]]
        for place, user in enumerate(histories.user_ids)
    }


some_users = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=5),
    min_size=1,
)


@settings(max_examples=50)
@given(users=some_users, data=st.data())
def test_users_that_go_take_along_the_items_only_they_had(
    users: dict[str, list[str]], data: st.DataObject
) -> None:
    histories = histories_of(users)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(users), max_size=len(users))))

    left = histories.of_users(mask)

    expected = {
        user: items for (user, items), kept in zip(sorted(users.items()), mask, strict=True) if kept
    }
    assert lists_of(histories) == users
    assert lists_of(left) == expected
    assert left.item_ids.to_list() == sorted({i for items in expected.values() for i in items})


@settings(max_examples=50)
@given(first=some_users, second=some_users)
def test_shared_users_are_those_whose_id_stands_in_both(
    first: dict[str, list[str]], second: dict[str, list[str]]
) -> None:
    left, right = histories_of(first), histories_of(second)

    shared = shared_places(left.user_ids, right.user_ids)

    assert shared.dtype == np.int32
    names = sorted(first.keys() & second.keys())
    assert [left.user_ids[int(place)] for place in shared[:, 0]] == names
    assert [right.user_ids[int(place)] for place in shared[:, 1]] == names


def two_domains(own: int = 40, shared: int = 60) -> tuple[Histories, Histories]:
    """Make domains of `own + shared` and `shared` users, each with an item of their own."""
    ids = [f"u{number:03d}" for number in range(own + shared)]
    first, second = ids, ids[own:]
    return (
        Histories(pl.Series(first), pl.Series(first), sequences_of(len(first))),
        Histories(pl.Series(second), pl.Series(second), sequences_of(len(second))),
    )


def sequences_of(users: int) -> Sequences:
    return Sequences.of([[user + 1] for user in range(users)])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.6])
def test_the_rate_is_of_the_first_domains_users_before_any_is_unlinked(rate: float) -> None:
    first, second = two_domains()

    left, right = resampled(first, second, rate, seed=3)

    assert len(shared_places(left.user_ids, right.user_ids)) == round(rate * 100)


def test_an_unlinked_user_keeps_the_sequence_of_one_domain_and_loses_the_other() -> None:
    first, second = two_domains(own=10, shared=1000)

    left, right = resampled(first, second, 0.5, seed=3)

    before, kept = set(second.user_ids), set(left.user_ids) & set(right.user_ids)
    assert set(left.user_ids) | set(right.user_ids) == set(first.user_ids)
    in_first = len(before & set(left.user_ids) - kept)
    in_second = len(before & set(right.user_ids) - kept)
    assert in_first + in_second == 1000 - len(kept) == 495
    assert abs(in_first - in_second) < 3 * 495**0.5
    for side in (left, right):  # the items of lost sequences are lost too
        assert side.item_ids.to_list() == side.user_ids.to_list()


def test_a_lower_rate_keeps_a_part_of_what_a_higher_one_keeps() -> None:
    first, second = two_domains()
    kept = []
    for rate in (0.1, 0.3):
        left, right = resampled(first, second, rate, seed=3)
        kept.append(set(left.user_ids) & set(right.user_ids))

    assert kept[0] < kept[1]


def test_the_seed_decides_who_stays_shared() -> None:
    first, second = two_domains()

    once, again, other = (
        resampled(first, second, 0.3, seed=seed)[0].user_ids.to_list() for seed in (1, 1, 2)
    )

    assert once == again != other


def test_more_shared_users_than_there_are_cannot_be_had() -> None:
    first, second = two_domains()

    with pytest.raises(BadSettingError) as caught:
        resampled(first, second, 0.75, seed=3)

    assert str(caught.value) == (
        "setting data.shared_rate: 0.75 asks for 75 shared users of 100,"
        " but only 60 are shared; the highest rate possible is 0.6"
    )
