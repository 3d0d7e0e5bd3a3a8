"""The sampled negatives against exact probabilities and against drawing one by one."""

import tracemalloc

import numpy as np
import pytest

from model.data.dataset import Sequences
from model.evaluation.negatives import draw_negatives, negative_weights
from model.evaluation.protocol import NEGATIVES, Split, questions
from tests.model.dataset_making import random_dataset, with_other_held_out_rows

USERS = 40_000
WEIGHTS = {
    "even": np.array([0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    "skewed": np.array([0, 0.2, 0.2, 0.2, 0.2, 40.0]),  # repeats leave most users short of draws
    "one absent": np.array([0, 3.0, 0.0, 1.0, 2.0, 6.0]),
}


def _nobody(users: int) -> Sequences:
    return Sequences.of([[] for _ in range(users)])


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_pairs_are_drawn_as_often_as_drawing_without_replacement_says(
    weights: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    drawn = draw_negatives(weights, _nobody(USERS), 2, np.random.default_rng(1))

    chance = weights / weights.sum()
    for first in range(1, 6):
        for second in range(1, 6):
            after = chance[second] / (1 - chance[first]) if first != second else 0
            expected = chance[first] * after * USERS
            found = np.count_nonzero((drawn[:, 0] == first) & (drawn[:, 1] == second))
            assert abs(found - expected) <= 4 * np.sqrt(expected) + 1e-9


def test_items_are_included_as_often_as_when_numpy_draws_one_user_at_a_time() -> None:
    generator = np.random.default_rng(2)
    weights = np.concatenate([[0.0], generator.integers(1, 200, 30) ** 0.75])
    users, count, barred = 4000, 8, [3, 17]
    allowed = np.setdiff1d(np.arange(1, 31), barred)
    chance = weights[allowed] / weights[allowed].sum()

    drawn = draw_negatives(weights, Sequences.of([barred] * users), count, generator)
    slow = np.concatenate(
        [generator.choice(allowed, count, replace=False, p=chance) for _ in range(users)]
    )

    found, expected = (np.bincount(rows.ravel(), minlength=31) for rows in (drawn, slow))
    assert (np.abs(found - expected) <= 5 * np.sqrt(found + expected)).all()
    assert found[barred].tolist() == [0, 0]


def test_weights_are_training_frequencies_to_the_power_three_quarters() -> None:
    weights = negative_weights(Sequences.of([[1, 3, 3], [3], []]), 4)

    assert weights.tolist() == pytest.approx([0, 1, 0, 3**0.75, 0])


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("items", "full"), [(90, False), (3000, True)])
def test_negatives_are_distinct_trained_on_and_none_of_the_users_rows(
    items: int, split: Split, *, full: bool
) -> None:
    dataset = random_dataset(np.random.default_rng(3), users=300, items=items)
    domain = dataset.domain("books")
    trained = set(domain.training().rows.tolist())

    asked = questions(dataset, "books", split=split)

    for user, negatives in zip(asked.users.tolist(), asked.negatives.tolist(), strict=True):
        own = set(domain.sequences[user].tolist())
        real = [row for row in negatives if row]
        eligible = trained - own
        assert len(set(real)) == len(real) == min(NEGATIVES, len(eligible))
        assert negatives[len(real) :] == [0] * (NEGATIVES - len(real))
        assert set(real) <= eligible
        assert (len(real) == NEGATIVES) == full


def test_a_domain_without_training_rows_has_no_negatives() -> None:
    drawn = draw_negatives(np.zeros(5), _nobody(2), 3, np.random.default_rng(0))

    assert drawn.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_other_test_rows_change_a_users_negatives_only_where_they_bar_an_item() -> None:
    generator = np.random.default_rng(6)
    dataset = random_dataset(generator, users=200, items=3000)
    changed = with_other_held_out_rows(dataset, generator)
    before, after = questions(dataset, "films"), questions(changed, "films")

    same = 0
    for row, (old, new) in enumerate(
        zip(before.negatives.tolist(), after.negatives.tolist(), strict=True)
    ):
        if {int(before.targets[row]), int(after.targets[row])}.isdisjoint([*old, *new]):
            assert old == new
            same += 1
    assert same > 50


def test_many_users_are_drawn_for_in_parts_with_the_rows_each_must_not_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.evaluation.negatives._CELLS_TOGETHER", 7 * 31)
    weights = np.concatenate([[0.0], np.ones(30)])
    taken = [list(range(1 + user % 20, 11 + user % 20)) for user in range(40)]

    drawn = draw_negatives(weights, Sequences.of(taken), 20, np.random.default_rng(8))

    for rows, own in zip(drawn.tolist(), taken, strict=True):
        assert sorted(rows + own) == list(range(1, 31))


@pytest.mark.parametrize("items", [9, 999])
def test_memory_is_bounded_for_many_users_of_a_catalogue_of_any_size(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = 20_000
    monkeypatch.setattr("model.evaluation.negatives._CELLS_TOGETHER", cells)
    weights = np.concatenate([[0.0], np.ones(items)])
    taken, generator = _nobody(3000), np.random.default_rng(9)

    tracemalloc.start()
    drawn = draw_negatives(weights, taken, NEGATIVES, generator)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most_bytes - drawn.nbytes < 10 * 8 * cells  # some arrays of 8 bytes a cell at a time
