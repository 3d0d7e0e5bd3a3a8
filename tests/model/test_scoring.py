"""Exact scores are inner products."""

import numpy as np

from model.scoring import exact_scores


def test_each_score_is_the_inner_product_of_a_user_with_an_item() -> None:
    table = np.asarray([[0, 0], [1, 2], [-3, 0.5]], np.float32)
    vectors = np.asarray([[2, 1], [0, -1], [4, 4], [1, 0]], np.float32)
    scores = exact_scores(table, vectors)
    expected = [[0, 4, -5.5], [0, -2, -0.5], [0, 12, -10], [0, 1, -3]]
    assert scores.tolist() == expected
    assert scores.dtype == np.float32


def test_nobody_is_scored_as_an_empty_table() -> None:
    assert exact_scores(np.ones((5, 2), np.float32), np.ones((0, 2), np.float32)).shape == (0, 5)
