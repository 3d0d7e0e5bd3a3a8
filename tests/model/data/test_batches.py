"""Batches hold what they should, against slow Python that says the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.batches import alike, pad_lists, pad_slices, shuffled_batches
from model.data.dataset import Sequences

Lists = list[list[int]]
lists_of_rows = st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=7)
seeds = st.integers(0, 2**32 - 1)


def padded_slowly(lists: Lists, longest: int) -> Lists:
    kept = [rows[-longest:] for rows in lists]
    steps = max([1, *(len(rows) for rows in kept)])
    return [[0] * (steps - len(rows)) + rows for rows in kept]


@given(lists=lists_of_rows, longest=st.integers(1, 10))
def test_lists_are_cut_at_the_front_and_padded_on_the_left(lists: Lists, longest: int) -> None:
    padded = pad_lists([np.asarray(rows, np.int32) for rows in lists], longest=longest)
    assert padded.dtype == np.int32
    assert padded.tolist() == padded_slowly(lists, longest)


@given(lists=lists_of_rows, longest=st.integers(1, 10), seed=seeds)
def test_users_are_stacked_in_the_order_asked_for_and_may_repeat(
    lists: Lists, longest: int, seed: int
) -> None:
    users = np.random.default_rng(seed).integers(0, len(lists), 5)
    padded = pad_slices(Sequences.of(lists), users, longest=longest)
    assert padded.tolist() == padded_slowly([lists[user] for user in users], longest)


@given(lists=lists_of_rows, longest=st.integers(1, 10), seed=seeds)
def test_a_count_ends_a_users_rows_early(lists: Lists, longest: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    users = generator.permutation(len(lists))
    counts = generator.integers(0, np.asarray([len(lists[user]) + 1 for user in users]))
    padded = pad_slices(Sequences.of(lists), users, longest=longest, counts=counts)
    prefixes = [lists[user][:count] for user, count in zip(users, counts, strict=True)]
    assert padded.tolist() == padded_slowly(prefixes, longest)


def test_nobody_at_all_makes_an_empty_batch() -> None:
    assert pad_lists([], longest=3).shape == (0, 1)


def test_users_without_any_row_are_one_step_of_padding() -> None:
    nothing = np.empty(0, np.int32)
    assert pad_lists([nothing, nothing], longest=3).tolist() == [[0], [0]]


@given(
    lengths=st.lists(st.integers(0, 100), max_size=300),
    batch_size=st.integers(1, 20),
    seed=seeds,
)
def test_shuffled_batches_hold_every_user_once(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    batches = shuffled_batches(
        np.asarray(lengths, np.int64), batch_size, np.random.default_rng(seed)
    )
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    users = np.concatenate([np.empty(0, np.int64), *batches])
    assert np.sort(users).tolist() == list(range(len(lengths)))


def test_the_same_generator_gives_the_same_batches_and_another_gives_others() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, 500)
    first, again, other = (
        np.concatenate(shuffled_batches(lengths, 8, np.random.default_rng(seed))).tolist()
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_batches_of_like_lengths_need_little_padding_and_come_in_no_order_of_length() -> None:
    lengths = np.random.default_rng(1).integers(1, 101, 4096)
    batches = shuffled_batches(lengths, 32, np.random.default_rng(2))
    steps = sum(lengths[batch].max() * len(batch) for batch in batches)
    at_random = sum(lengths[i : i + 32].max() * 32 for i in range(0, len(lengths), 32))
    assert steps < 1.15 * lengths.sum() < at_random / 1.5
    means = [float(lengths[batch].mean()) for batch in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3  # neighbours are strangers


@given(lengths=st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_groups_of_alike_users_hold_every_user_once_and_at_most_double_the_steps(
    lengths: list[int],
) -> None:
    array = np.asarray(lengths, np.int64)
    groups = alike(array)
    assert np.sort(np.concatenate(groups)).tolist() == list(range(len(lengths)))
    longest = [int(array[group].max()) for group in groups]
    assert longest == sorted(longest)
    for group, most in zip(groups, longest, strict=True):
        assert most <= max(2 * array[group].min(), 8)


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [([3, 100, 8, 9, 1], [[0, 2, 4], [3], [1]]), ([16, 17, 32, 33], [[0], [1, 2], [3]])],
)
def test_groups_split_at_the_powers_of_two(lengths: list[int], groups: Lists) -> None:
    assert [group.tolist() for group in alike(np.asarray(lengths, np.int64))] == groups


@pytest.mark.parametrize(
    ("pass_steps", "groups"),
    [
        (9, [[0, 3], [2, 4], [1]]),  # two users of 8 steps would be padded to 13
        (10, [[0, 2, 3, 4], [1]]),
        (87 * 4 - 1, [[0, 2, 3, 4], [1]]),  # and then four of 13 to 100
        (87 * 4, [[0, 1, 2, 3, 4]]),
    ],
)
def test_a_group_joins_the_next_where_that_pads_less_than_a_pass_costs(
    pass_steps: int, groups: Lists
) -> None:
    lengths = np.asarray([3, 100, 13, 8, 9], np.int64)
    found = alike(lengths, pass_steps=pass_steps)
    assert [sorted(group.tolist()) for group in found] == groups
