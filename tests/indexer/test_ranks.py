"""Ranks from float32 products and a few exact scores are those of exact scores alone."""

import numpy as np
import pytest

from indexer.products import exact_products, longest, rounding_bound
from indexer.ranks import ranked, ranked_by_products
from model.arrays import Floats, Rows

ITEMS, WIDTH = 3000, 8


def table_of(kind: str, random: np.random.Generator) -> Floats:
    """Make an item table (V + 1, D), most of whose scores are told apart by their rounding."""
    table = random.standard_normal((ITEMS + 1, WIDTH)).astype(np.float32)
    if kind == "close":  # the last bits of what is nearly the same vector
        table = (1 + 1e-7 * table).astype(np.float32)
    if kind == "few":
        table = table[random.integers(0, 12, len(table))]
    if kind == "alike":
        table[:] = table[1]
    if kind == "far":  # one score is a thousand times those of all the others
        table[7] *= 1000
    table[0] = 0
    return table


def ranks_by_sight(table: Floats, vector: Floats, wanted: Rows, rows: Rows) -> list[int]:
    """Count those that score as high, one pair after the other; 0 for a row not among them."""
    scores = {row: exact_products(table, vector, np.array([row]))[0] for row in rows.tolist()}
    return [
        sum(score >= scores[row] for score in scores.values()) if row in scores else 0
        for row in wanted.tolist()
    ]


@pytest.mark.parametrize("count", [1, 8, 9, 100])
@pytest.mark.parametrize("kind", ["plain", "close", "few", "alike", "far"])
def test_ranks_are_those_of_exact_scores_alone(kind: str, count: int) -> None:
    random = np.random.default_rng(count)
    table = table_of(kind, random)
    vector = random.standard_normal(WIDTH).astype(np.float32)
    rows = np.sort(random.choice(ITEMS, ITEMS // 2, replace=False) + 1).astype(np.int32)
    wanted = random.choice(ITEMS, count, replace=False).astype(np.int32) + 1
    slack = 2 * rounding_bound(WIDTH, float(np.linalg.norm(vector)) * longest(table))
    # As far from the exact ones as any order of summing may bring them.
    noise = random.uniform(-slack / 2, slack / 2, len(rows)).astype(np.float32)
    products = exact_products(table, vector, rows) + noise

    own, ranks = ranked_by_products(table, vector, wanted, rows, products, slack=slack)

    assert ranks.tolist() == ranks_by_sight(table, vector, wanted, rows)
    known = np.isin(wanted, rows)
    assert np.array_equal(own[known], exact_products(table, vector, wanted[known]))
    assert not own[~known].any()
    again = ranked(wanted, rows, exact_products(table, vector, rows))
    assert np.array_equal(own, again[0])
    assert np.array_equal(ranks, again[1])


def test_nothing_ranks_where_nothing_is_allowed() -> None:
    table, nothing = np.ones((3, WIDTH), np.float32), np.empty(0, np.int32)
    wanted, vector = np.array([1, 2], np.int32), np.ones(WIDTH, np.float32)
    products = np.empty(0, np.float32)
    own, ranks = ranked_by_products(table, vector, wanted, nothing, products, slack=1.0)
    assert own.tolist() == [0, 0]
    assert ranks.tolist() == [0, 0]
