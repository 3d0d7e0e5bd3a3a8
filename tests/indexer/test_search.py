"""Search against a slow answer that sorts every score, made in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.engine import Engine
from indexer.search import DEPTHS, Query
from model.arrays import Floats
from model.bundle import DomainTables
from model.errors import InvalidInputError
from tests.indexer.index_making import (
    ContraryEngine,
    clustered,
    faiss_engine,
    floats_of,
    index_of,
    rows_of,
    skewed_popularity,
    slow_answer,
    slow_ranks,
    tables_of,
)

ITEMS = 3 * DEPTHS[-1]


@pytest.fixture(scope="module")
def large() -> DomainTables:
    """Return a domain larger than the last depth of a search."""
    generator = np.random.default_rng(3)
    return tables_of("large", clustered(ITEMS, 16, generator), skewed_popularity(ITEMS, generator))


def integers_table(items: int, width: int, generator: np.random.Generator) -> Floats:
    """Draw vectors of few small whole numbers: products are exact and mostly tied."""
    table = np.zeros((items + 1, width), np.float32)
    table[1:] = generator.integers(-1, 2, (items, width))
    return table


@st.composite
def questions(draw: st.DrawFn, items: int, width: int) -> Query:
    rows = st.lists(st.integers(1, items), max_size=items, unique=True)
    vector = draw(st.none() | st.lists(st.integers(-2, 2), min_size=width, max_size=width))
    candidates = draw(st.none() | rows)
    return Query(
        vector=None if vector is None else floats_of(*vector),
        k=draw(st.integers(1, items + 3)),
        candidates=None if candidates is None else rows_of(*candidates),
        excluded=rows_of(*draw(st.lists(st.integers(0, items), max_size=items + 1))),
        ranked=rows_of(*draw(st.lists(st.integers(0, items), max_size=4))),
    )


def assert_answers(tables: DomainTables, queries: list[Query], engine: Engine) -> None:
    """Compare the answers to a batch with the slow ones, and with those to each query alone."""
    index = index_of(tables, engine)
    for query, found in zip(queries, index.search(queries), strict=True):
        rows, scores = slow_answer(tables, query)
        assert found.rows.tolist() == rows
        assert found.scores.tolist() == scores
        assert found.ranks.tolist() == slow_ranks(tables, query)
        (alone,) = index.search([query])
        assert alone.rows.tolist() == rows
        assert alone.ranks.tolist() == found.ranks.tolist()


@pytest.mark.parametrize("engine", ["faiss", "contrary"])
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), items=st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_a_batch_of_any_queries_is_answered_as_by_sorting_everything(
    data: st.DataObject, engine: str, seed: int, items: int
) -> None:
    generator = np.random.default_rng(seed)
    table = integers_table(items, 3, generator)
    tables = tables_of("tied", table, skewed_popularity(items, generator))
    contrary = engine == "contrary"
    chosen = ContraryEngine(table) if contrary else faiss_engine(tables)
    assert_answers(tables, data.draw(st.lists(questions(items, 3), max_size=5)), chosen)


@pytest.mark.parametrize("k", [1, 10, 63, 64, 255, 1023, 1024, 1500, ITEMS, ITEMS + 5])
@pytest.mark.parametrize("excluded", [0, 1, 60, 1000, ITEMS - 1, ITEMS])
def test_any_k_with_any_number_of_exclusions_is_exact(
    large: DomainTables, k: int, excluded: int
) -> None:
    generator = np.random.default_rng(k + excluded)
    queries = [
        Query(
            vector=generator.standard_normal(16).astype(np.float32),
            k=k,
            excluded=(generator.permutation(ITEMS)[:excluded] + 1).astype(np.int32),
        )
        for _ in range(3)
    ]
    exact = large.item_table.astype(np.float64)
    for query, found in zip(queries, index_of(large).search(queries), strict=True):
        assert query.vector is not None
        scores = (exact @ query.vector.astype(np.float64)).astype(np.float32)
        allowed = np.setdiff1d(np.arange(1, ITEMS + 1), query.excluded)
        best = allowed[np.lexsort((allowed, -scores[allowed]))][:k]
        assert found.rows.tolist() == best.tolist()


@pytest.mark.parametrize("size", [0, 1, 200, ITEMS])
def test_candidates_in_any_order_and_number_are_exact(large: DomainTables, size: int) -> None:
    generator = np.random.default_rng(size)
    candidates = (generator.permutation(ITEMS)[:size] + 1).astype(np.int32)
    vector = generator.standard_normal(16).astype(np.float32)
    query = Query(
        vector, k=25, candidates=candidates, excluded=candidates[:5], ranked=candidates[:9]
    )

    (found,) = index_of(large).search([query])

    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(large, query)
    assert found.ranks.tolist() == slow_ranks(large, query)
    assert found.ranks[:5].tolist() == [0] * min(5, size)


@pytest.mark.parametrize("contrary", [False, True])
@pytest.mark.parametrize("k", [5, 64, 200, 256, 1200])
def test_equal_vectors_score_equal_wherever_they_stand_and_come_in_order_of_their_row(
    k: int, *, contrary: bool
) -> None:
    generator = np.random.default_rng(5)
    table = clustered(ITEMS, 16, generator)
    twins = np.sort(generator.permutation(ITEMS)[:1400] + 1)
    table[twins] = 3 * table[twins[0]]
    vector = table[twins[0]].copy()
    tables = tables_of("twins", table)

    engine = ContraryEngine(table) if contrary else None

    (found,) = index_of(tables, engine).search([Query(vector, k=k)])

    assert found.rows.tolist() == twins[:k].tolist()
    assert len(np.unique(found.scores)) == 1


def test_scores_closer_than_float32_can_sum_are_still_ordered_as_they_truly_are() -> None:
    # Sums of 64 products of both signs whose true values differ by less than float32's rounding.
    generator = np.random.default_rng(6)
    width, items = 64, 400
    table = np.zeros((items + 1, width), np.float32)
    table[1:] = generator.standard_normal(width)
    table[1:, 0] += generator.integers(-3, 4, items) * np.float32(2.0**-22)
    vector = 100 * generator.standard_normal(width).astype(np.float32)
    tables = tables_of("close", table)
    query = Query(vector, k=20, excluded=rows_of(7, 8))

    (found,) = index_of(tables).search([query])
    (among,) = index_of(tables).search(
        [Query(vector, k=20, candidates=np.arange(1, 401, dtype=np.int32), excluded=rows_of(7, 8))]
    )

    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)
    assert among.rows.tolist() == found.rows.tolist()


@pytest.mark.filterwarnings("error")
def test_vectors_beyond_the_range_of_float32_products_are_answered_without_harm() -> None:
    table = np.zeros((5, 2), np.float32)
    table[1:] = [[3e38, 0.0], [0.5, 0.0], [-3e38, 2.0], [3e38, 1.0]]
    tables = tables_of("huge", table)
    ranked = rows_of(1, 2, 3, 4)

    (found,) = index_of(tables).search([Query(floats_of(3e38, 3e38), k=4, ranked=ranked)])

    assert found.rows.tolist() == [1, 4, 2, 3]
    assert found.ranks.tolist() == [2, 3, 4, 2]
    assert np.isfinite(found.scores).all()


def test_a_domain_of_one_item_and_a_table_of_zeros_are_answered() -> None:
    tables = tables_of("zeros", np.zeros((2, 3), np.float32))

    (found,) = index_of(tables).search([Query(floats_of(1, 2, 3), k=5, ranked=rows_of(1, 0))])

    assert found.rows.tolist() == [1]
    assert found.scores.tolist() == [0]
    assert found.ranks.tolist() == [1, 0]


@pytest.mark.parametrize("batch", [1, 2, 9, 30])
@pytest.mark.parametrize("items", [70, 1025])
def test_ranks_are_of_the_exact_scores_in_any_batch(items: int, batch: int) -> None:
    # Equal vectors, and others that differ by less than float32 products do from true ones.
    generator = np.random.default_rng(5)
    table = np.zeros((items + 1, 64), np.float32)
    table[1:] = generator.standard_normal((items, 64))[generator.integers(0, items // 3, items)]
    table[1 : items // 2] += 1e-7 * generator.standard_normal((items // 2 - 1, 64))
    index = index_of(tables_of("ranks", table))
    wanted = np.arange(1, items + 1, 3, dtype=np.int32)
    queries = [
        Query(vector.astype(np.float32), k=5, excluded=rows_of(4, 7), ranked=wanted)
        for vector in generator.standard_normal((batch, 64))
    ]

    for query, found in zip(queries, index.search(queries), strict=True):
        assert query.vector is not None
        products = table.astype(np.float64) @ query.vector.astype(np.float64)
        scores = products.astype(np.float32)
        allowed = np.setdiff1d(np.arange(1, items + 1), query.excluded)
        ahead = [
            np.count_nonzero(scores[allowed] >= scores[row]) if row in allowed else 0
            for row in wanted
        ]
        assert found.ranks.tolist() == ahead


def test_ranked_rows_count_ties_against_themselves_and_leave_the_excluded_out() -> None:
    table = np.zeros((6, 1), np.float32)
    table[1:, 0] = [5, 5, 4, 5, 1]
    query = Query(floats_of(1), k=1, excluded=rows_of(2), ranked=rows_of(1, 2, 3, 5, 0))

    (found,) = index_of(tables_of("ranks", table)).search([query])

    assert found.ranks.tolist() == [2, 0, 3, 4, 0]
    assert found.ranked_scores.tolist() == [5, 0, 4, 1, 0]


def test_popularity_answers_where_there_is_no_vector_by_the_same_rules() -> None:
    popularity = floats_of(0, 0.1, 0.4, 0.1, 0.4, 0)
    tables = tables_of("popular", np.ones((6, 2), np.float32), popularity)
    index = index_of(tables)

    whole, part = index.search(
        [
            Query(None, k=3, excluded=rows_of(2, 0), ranked=rows_of(3, 2)),
            Query(None, k=3, candidates=rows_of(5, 3, 1), excluded=rows_of(1)),
        ]
    )

    assert whole.rows.tolist() == [4, 1, 3]
    assert whole.scores.tolist() == pytest.approx([0.4, 0.1, 0.1])
    assert whole.ranks.tolist() == [3, 0]
    assert part.rows.tolist() == [3, 5]


def test_an_empty_batch_has_no_answers(large: DomainTables) -> None:
    assert index_of(large).search([]) == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(floats_of(1, float("nan")), k=1), "the query vector holds a number that is not fin"),
        (Query(floats_of(1, float("inf")), k=1), "the query vector holds a number that is not fin"),
        (Query(floats_of(1, 2, 3), k=1), r"the query vector has shape \(3,\), not \(2,\)"),
        (Query(floats_of(1, 2), k=0), "k is 0; it must be at least 1"),
        (Query(None, k=-4), "k is -4; it must be at least 1"),
        (
            Query(None, k=1, candidates=rows_of(0, 3)),
            r"candidates holds rows from 0 to 3, outside 1\.\.4",
        ),
        (
            Query(None, k=1, excluded=rows_of(5)),
            r"excluded holds rows from 5 to 5, outside 0\.\.4",
        ),
        (
            Query(None, k=1, ranked=rows_of(-1)),
            r"ranked holds rows from -1 to -1, outside 0\.\.4",
        ),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(query: Query, message: str) -> None:
    index = index_of(tables_of("small", np.ones((5, 2), np.float32)))
    with pytest.raises(InvalidInputError, match=message):
        index.search([query])
