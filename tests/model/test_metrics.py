"""Ranks and their worth, against values worked by hand and against ir-measures."""

import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Success, nDCG

from model.metrics import (
    RankArray,
    gains,
    hit_rate,
    mean_reciprocal_rank,
    ndcg,
    rank_among,
    rank_of_target,
)

SCORES = np.array([[9.0, 0.1, 0.5, 0.3, 0.5], [9.0, 2.0, 1.0, -3.0, 0.0]], np.float32)


def _rows(*rows: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(rows, np.int32)


def test_the_rank_counts_what_scores_higher_and_never_the_padding_column() -> None:
    assert rank_of_target(SCORES, _rows(3, 2)).tolist() == [3, 2]


def test_a_tie_counts_against_the_target() -> None:
    assert rank_of_target(SCORES, _rows(2, 1)).tolist() == [2, 1]
    assert rank_of_target(SCORES, _rows(4, 1)).tolist() == [2, 1]


def test_a_constant_scorer_gets_the_worst_rank() -> None:
    assert rank_of_target(np.ones((1, 8), np.float32), _rows(3)).tolist() == [7]


def test_an_excluded_item_stands_before_nothing_and_an_excluded_target_has_no_rank() -> None:
    scores = SCORES.copy()
    scores[0, [2, 4]] = -np.inf

    assert rank_of_target(scores, _rows(3, 1)).tolist() == [1, 1]
    assert rank_of_target(scores, _rows(4, 1)).tolist() == [0, 1]


def test_the_rank_among_candidates_counts_the_real_ones_and_their_ties() -> None:
    candidates = np.array([[2, 1, 0], [3, 0, 0]], np.int32)

    assert rank_among(SCORES, _rows(4, 1), candidates).tolist() == [2, 1]
    assert rank_among(SCORES, _rows(3, 4), candidates).tolist() == [2, 1]


@pytest.mark.parametrize("column", [1, 3])
def test_nan_is_an_error_wherever_it_stands(column: int) -> None:
    scores = SCORES.copy()
    scores[0, column] = np.nan

    with pytest.raises(ValueError, match=r"^a score is NaN$"):
        rank_of_target(scores, _rows(3, 1))
    with pytest.raises(ValueError, match=r"^a score is NaN$"):
        rank_among(scores, _rows(3, 1), np.array([[1], [2]], np.int32))


def test_nan_in_the_padding_column_is_never_looked_at() -> None:
    scores = SCORES.copy()
    scores[:, 0] = np.nan

    assert rank_of_target(scores, _rows(3, 2)).tolist() == [3, 2]
    assert rank_among(scores, _rows(3, 2), np.zeros((2, 4), np.int32)).tolist() == [1, 1]


@pytest.mark.parametrize("row", [0, 5])
def test_a_target_that_is_no_item_is_an_error(row: int) -> None:
    with pytest.raises(ValueError, match=r"^a target is outside the rows 1\.\.4$"):
        rank_of_target(SCORES, _rows(row, 1))


def test_figures_of_ranks_worked_by_hand() -> None:
    ranks = np.array([1, 3, 11, 0])

    assert hit_rate(ranks, 5) == pytest.approx(2 / 4)
    assert hit_rate(ranks, 11) == pytest.approx(3 / 4)
    assert ndcg(ranks, 5) == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert ndcg(ranks, 11) == pytest.approx((1 + 1 / math.log2(4) + 1 / math.log2(12)) / 4)
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 1 / 11) / 4)


def test_only_misses_are_worth_nothing() -> None:
    ranks = np.zeros(3, np.int64)

    assert (hit_rate(ranks, 5), ndcg(ranks, 5), mean_reciprocal_rank(ranks)) == (0, 0, 0)


@pytest.mark.parametrize(
    "figure", [lambda r: hit_rate(r, 5), lambda r: ndcg(r, 5), mean_reciprocal_rank]
)
@pytest.mark.parametrize("ranks", [np.empty(0, np.int64), np.array([1, -1])])
def test_no_ranks_or_negative_ones_are_an_error(
    figure: Callable[[RankArray], float], ranks: RankArray
) -> None:
    with pytest.raises(ValueError, match=r"^there must be at least one rank, and none below 0$"):
        figure(ranks)


def test_a_cutoff_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^k must be at least 1, not 0$"):
        ndcg(np.array([1]), 0)


@pytest.mark.parametrize("k", [5, 10, 20])
def test_figures_agree_with_ir_measures_on_rankings_without_ties(k: int) -> None:
    generator = np.random.default_rng(k)
    users, items = 150, 60
    scores = np.stack([generator.permutation(items + 1) for _ in range(users)]).astype(np.float32)
    targets = generator.integers(1, items + 1, users).astype(np.int32)
    truth = {f"q{user}": {str(target): 1} for user, target in enumerate(targets.tolist())}
    run = {
        f"q{user}": {str(row): float(scores[user, row]) for row in range(1, items + 1)}
        for user in range(users)
    }
    oracle = ir_measures.calc_aggregate([nDCG @ k, Success @ k, RR], truth, run)

    ranks = rank_of_target(scores, targets)

    assert ndcg(ranks, k) == pytest.approx(oracle[nDCG @ k], abs=1e-9)
    assert hit_rate(ranks, k) == pytest.approx(oracle[Success @ k], abs=1e-9)
    assert mean_reciprocal_rank(ranks) == pytest.approx(oracle[RR], abs=1e-9)


def test_a_gain_is_nothing_beyond_the_cut_and_for_a_target_that_cannot_come_up() -> None:
    assert gains(np.array([0, 1, 3, 10, 11]), 10).tolist() == pytest.approx(
        [0, 1, 0.5, 1 / math.log2(11), 0]
    )
