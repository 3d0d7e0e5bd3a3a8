"""What a rank is and what it is worth, one relevant item a question.

A rank counts from 1. Rank 0 says that the target could not come up at all: it was excluded, or an
approximate search missed it. It is worth nothing.

Shapes: Q questions, V items of a domain, N candidates; row 0 is padding.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Rows

RankArray = NDArray[np.int64]


def rank_of_target(scores: Floats, targets: Rows) -> RankArray:
    """Rank each question's target among all items of the domain.

    A tie counts against the target: an item that scores the same stands before it. A score of
    minus infinity excludes an item; the padding column is never looked at.

    Args:
        scores: (Q, V + 1), column 0 padding.
        targets: (Q,), each between 1 and V.

    Returns:
        (Q,), 1 to V, or 0 where the target itself is excluded.

    Raises:
        ValueError: If a score is NaN or a target is not a row of an item.
    """
    own = _target_scores(scores, targets)
    if np.isnan(scores[:, 1:]).any():
        raise ValueError("a score is NaN")
    ahead = np.count_nonzero(scores[:, 1:] >= own[:, None], axis=1)  # the target itself included
    return np.where(np.isneginf(own), 0, ahead).astype(np.int64)


def rank_among(scores: Floats, targets: Rows, candidates: Rows) -> RankArray:
    """Rank each question's target among candidates of its own; ties count against the target.

    Args:
        scores: (Q, V + 1), column 0 padding.
        targets: (Q,), each between 1 and V.
        candidates: (Q, N) rows without the target; 0 stands for no candidate.

    Returns:
        (Q,), 1 to N + 1.

    Raises:
        ValueError: If a score that is looked at is NaN or a target is not a row of an item.
    """
    own = _target_scores(scores, targets)
    others = np.take_along_axis(scores, candidates.astype(np.int64), axis=1)  # (Q, N)
    real = candidates > 0
    if np.isnan(own).any() or np.isnan(others[real]).any():
        raise ValueError("a score is NaN")
    ranks: RankArray = 1 + np.count_nonzero(real & (others >= own[:, None]), axis=1).astype(
        np.int64
    )
    return ranks


def hit_rate(ranks: RankArray, k: int) -> float:
    """Return the share of questions whose target is among the first `k`.

    Args:
        ranks: (Q,), Q ≥ 1.
        k: At least 1.

    Raises:
        ValueError: If there is no rank, a rank is negative, or `k` is below 1.
    """
    return _mean(ranks, k, lambda found: np.ones(found.shape))


def ndcg(ranks: RankArray, k: int) -> float:
    """Return the mean normalised discounted cumulative gain of the first `k`, between 0 and 1.

    One item is relevant, so a question is worth 1 / log2(1 + rank) where the rank is at most `k`.

    Args:
        ranks: (Q,), Q ≥ 1.
        k: At least 1.

    Raises:
        ValueError: If there is no rank, a rank is negative, or `k` is below 1.
    """
    return _mean(ranks, k, _gain)


def gains(ranks: RankArray, k: int) -> NDArray[np.float64]:
    """Return what each question adds to `ndcg`, (Q,) -> (Q,), between 0 and 1."""
    found = (ranks >= 1) & (ranks <= k)
    return np.where(found, _gain(np.where(found, ranks, 1).astype(np.float64)), 0.0)


def mean_reciprocal_rank(ranks: RankArray) -> float:
    """Return the mean of 1 / rank over all ranks, however deep, between 0 and 1.

    Args:
        ranks: (Q,), Q ≥ 1.

    Raises:
        ValueError: If there is no rank or a rank is negative.
    """
    return _mean(ranks, int(ranks.max(initial=1)), lambda found: 1 / found)


def _target_scores(scores: Floats, targets: Rows) -> Floats:
    if len(targets) and not 1 <= targets.min() <= targets.max() < scores.shape[1]:
        raise ValueError(f"a target is outside the rows 1..{scores.shape[1] - 1}")
    own: Floats = scores[np.arange(len(targets)), targets]
    return own


def _gain(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / np.log2(1 + ranks)
    return found


def _mean(
    ranks: RankArray, k: int, worth: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not len(ranks) or ranks.min() < 0:
        raise ValueError("there must be at least one rank, and none below 0")
    found = ranks[(ranks >= 1) & (ranks <= k)].astype(np.float64)
    return float(worth(found).sum() / len(ranks))
