"""Which items are near each other is counted as a slow loop counts it, in however many parts."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from model.data.dataset import Sequences
from model.data.training_data import TrainingData
from model.training import near
from model.training.near import WINDOW, Pairs, near_pairs, near_pairs_by_item, pairs_across
from model.training.neighbours import likest_items
from tests.model.dataset_making import dataset_of

ITEMS = 25  # of which one is never used


def some_histories() -> Sequences:
    """Give thirty users of one to thirty items, items repeated."""
    generator = np.random.default_rng(1)
    return Sequences.of(
        [generator.integers(1, ITEMS, length).astype(np.int32) for length in range(1, 31)]
    )


def as_counter(pairs: Pairs) -> Counter[tuple[int, int]]:
    """Look pairs up by their items."""
    items = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    return Counter(dict(zip(items, pairs.counts.tolist(), strict=True)))


@pytest.mark.parametrize("together", [1, 500, 10**6])
def test_pairs_are_counted_as_a_slow_loop_counts_them(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(near, "_COUNTED_TOGETHER", together)
    sequences = some_histories()
    slow: Counter[tuple[int, int]] = Counter()
    for user in range(len(sequences)):
        rows = sequences[user].tolist()
        for i, j in combinations(range(len(rows)), 2):
            if j - i <= WINDOW and rows[i] != rows[j]:
                slow[rows[i], rows[j]] += 1
                slow[rows[j], rows[i]] += 1

    pairs = near_pairs(sequences, ITEMS)

    assert as_counter(pairs) == slow
    assert (np.diff(pairs.left * (ITEMS + 1) + pairs.right) > 0).all()


def test_a_part_has_all_pairs_of_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_COUNTED_TOGETHER", 1000)

    parts = list(near_pairs_by_item(some_histories(), ITEMS))

    assert len(parts) > 3
    largest = max(2 * WINDOW * np.bincount(some_histories().rows))
    assert max(int(part.counts.sum()) for part in parts) <= 1000 + largest
    assert all(
        one.left.max(initial=0) < other.left.min(initial=ITEMS + 1)
        for one, other in pairwise(parts)
    )


def test_neighbours_are_the_same_in_however_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = likest_items(some_histories(), ITEMS, 4)
    monkeypatch.setattr(near, "_COUNTED_TOGETHER", 300)
    in_parts = likest_items(some_histories(), ITEMS, 4)
    for one, other in zip(at_once, in_parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("lists", [[], [[]], [[3]], [[3, 3, 3]]])
def test_nothing_is_near_anything(lists: list[list[int]]) -> None:
    sequences = Sequences.of([np.array(each, np.int32) for each in lists])
    assert not len(near_pairs(sequences, 3).counts)


def test_pairs_across_domains_are_those_of_the_last_rows_of_shared_users() -> None:
    long = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4]  # two rows are held out: 1 is out of reach once
    data = TrainingData.of(
        dataset_of({"ann": long, "bob": [5, 6, 7]}, {"ann": [1, 2, 3, 3]}, items=(9, 3))
    )
    rows = long[: len(long) - 2][-WINDOW:]
    slow: Counter[tuple[int, int]] = Counter()
    for own in rows:
        for other in (1, 2):
            slow[own, 9 + other] += 1
            slow[9 + other, own] += 1

    assert as_counter(pairs_across(data)) == slow
