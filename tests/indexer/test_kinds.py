"""Indexes of every kind: what they find, and that what they answer is exact in all but that."""

from collections.abc import Callable

import numpy as np
import pytest

from indexer.builders import levelled
from indexer.recall import exact_top, recall
from indexer.sample import preference_like
from indexer.search import DomainIndex, Found, Query
from indexer.spec import (
    ApproximateSpec,
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
    ListedSpec,
)
from model.arrays import Floats, Rows
from model.bundle import DomainTables
from tests.indexer.index_making import (
    clustered,
    curved,
    index_of_kind,
    rows_of,
    skewed_popularity,
    slow_allowed,
    slow_answer,
    slow_ranks,
    slow_scores,
    tables_of,
)

ITEMS = 4000
WIDTH = 13  # odd, so that groups of numbers do not come out even

MakeSpec = Callable[[int], IndexSpec]

APPROXIMATE: dict[str, Callable[[int], ApproximateSpec]] = {
    "flat-f16": lambda _: HalfSpec(),
    "flat-int8": lambda _: ByteSpec(),
    "hnsw": lambda _: HnswSpec(links=16, effort=256),
    "ivf": lambda items: IvfSpec(lists=min(60, items), probes=30),
    "ivf-int8": lambda items: IvfByteSpec(lists=min(60, items), probes=30, rerank=4),
    "ivf-pq": lambda items: IvfPqSpec(lists=min(60, items), group=1, probes=40, rerank=25),
}
KINDS: dict[str, MakeSpec] = {"flat": lambda _: FlatSpec(), **APPROXIMATE}


@pytest.fixture(scope="module")
def surface() -> DomainTables:
    generator = np.random.default_rng(21)
    table = curved(ITEMS, WIDTH, generator)
    return tables_of("surface", table, skewed_popularity(ITEMS, generator))


@pytest.fixture(scope="module", params=KINDS)
def searched(request: pytest.FixtureRequest, surface: DomainTables) -> DomainIndex:
    """Return an index of each kind over the surface."""
    return index_of_kind(surface, KINDS[request.param](ITEMS))


def assert_sound(tables: DomainTables, query: Query, found: Found) -> None:
    """Check all of an answer but whether it holds the best: number, rows, scores and order."""
    allowed = slow_allowed(tables, query)
    rows = found.rows.tolist()
    assert len(rows) == len(set(rows)) == min(query.k, len(allowed))
    assert set(rows) <= allowed
    scores = slow_scores(tables, query)
    assert found.scores.tolist() == [scores[row] for row in rows]
    assert rows == sorted(rows, key=lambda row: (-scores[row], row))


def test_every_kind_finds_enough_and_scores_it_exactly(
    searched: DomainIndex, surface: DomainTables
) -> None:
    vectors = preference_like(surface.item_table, 60, seed=5)

    found = recall(searched, vectors, k=10)

    assert found == 1 if searched.kind == "flat" else found >= 0.98
    for vector, answer in zip(
        vectors, searched.search([Query(v, 10) for v in vectors]), strict=True
    ):
        assert_sound(surface, Query(vector, 10), answer)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivf-int8", "ivf-pq"])
def test_searching_harder_finds_more(kind: str, surface: DomainTables) -> None:
    lazy: dict[str, IndexSpec] = {
        "hnsw": HnswSpec(links=4, effort=1, rerank=1),
        "ivf": IvfSpec(lists=60, probes=1),
        "ivf-int8": IvfByteSpec(lists=60, probes=1),
        "ivf-pq": IvfPqSpec(lists=60, probes=1, rerank=4),
    }
    vectors = preference_like(surface.item_table, 60, seed=5)

    few = recall(index_of_kind(surface, lazy[kind]), vectors, k=10)

    assert few < 0.95, "or the index is not asked what its spec says"
    assert few < recall(index_of_kind(surface, APPROXIMATE[kind](ITEMS)), vectors, k=10)


def test_the_largest_products_are_found_where_vectors_are_of_unlike_length(
    surface: DomainTables,
) -> None:
    generator = np.random.default_rng(3)
    table = surface.item_table * generator.uniform(0.5, 2, (ITEMS + 1, 1)).astype(np.float32)
    tables = tables_of("unlike", table)
    vectors = preference_like(table, 60, seed=5)
    for kind in ("ivf", "hnsw"):
        assert recall(index_of_kind(tables, APPROXIMATE[kind](ITEMS)), vectors, k=10) >= 0.95


@pytest.mark.parametrize(("group", "columns"), [(1, 7), (4, 12)])
def test_near_means_a_large_product_once_vectors_are_levelled(group: int, columns: int) -> None:
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((50, 6)).astype(np.float32)
    vectors *= generator.uniform(1, 9, (50, 1)).astype(np.float32)

    longer = levelled(vectors, group)

    assert longer.shape == (50, columns)
    lengths = np.linalg.norm(longer, axis=1)
    np.testing.assert_allclose(lengths, lengths.max(), rtol=1e-6)
    query = np.zeros(longer.shape[1], np.float32)
    query[:6] = generator.standard_normal(6)
    scale = 2 ** round(float(np.log2(vectors[0, 0] / longer[0, 0])))
    np.testing.assert_array_equal(scale * longer[:, :6], vectors)
    np.testing.assert_allclose(scale * (longer @ query), vectors @ query[:6], rtol=1e-4, atol=1e-5)


def test_candidates_popularity_and_ranks_are_exact_for_every_kind(
    searched: DomainIndex, surface: DomainTables
) -> None:
    generator = np.random.default_rng(6)
    vector = preference_like(surface.item_table, 1, seed=9)[0]
    some = (generator.permutation(ITEMS)[:300] + 1).astype(np.int32)
    ranked = rows_of(5, 0, *some[:3].tolist())
    for query in (
        Query(vector, 20, candidates=some, excluded=some[:7], ranked=ranked),
        Query(None, 20, candidates=some, excluded=some[:7], ranked=ranked),
        Query(None, 20, excluded=some, ranked=ranked),
    ):
        (found,) = searched.search([query])
        assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(surface, query)
        assert found.ranks.tolist() == slow_ranks(surface, query)
    (found,) = searched.search([Query(vector, 3, ranked=ranked)])
    assert found.ranks.tolist() == slow_ranks(surface, Query(vector, 3, ranked=ranked))


def test_a_batch_of_unlike_queries_is_answered_as_each_alone(
    searched: DomainIndex, surface: DomainTables
) -> None:
    generator = np.random.default_rng(7)
    vectors = preference_like(surface.item_table, 90, seed=3)
    queries = [
        Query(
            vector,
            k=int(generator.choice([1, 5, 10, 40])),
            excluded=(generator.permutation(ITEMS)[: generator.integers(30)] + 1).astype(np.int32),
        )
        for vector in vectors
    ]
    for query, together in zip(queries, searched.search(queries), strict=True):
        (alone,) = searched.search([query])
        assert together.rows.tolist() == alone.rows.tolist()
        assert together.scores.tolist() == alone.scores.tolist()
        assert not set(together.rows.tolist()) & set(query.excluded.tolist())


TABLES: dict[str, Callable[[int], Floats]] = {
    "clustered": lambda items: clustered(items, 5, np.random.default_rng(items)),
    "zeros": lambda items: np.zeros((items + 1, 5), np.float32),
    "twins": lambda items: np.vstack([np.zeros((1, 5)), np.ones((items, 5))]).astype(np.float32),
    "huge": lambda items: np.float32(3e37) * np.sign(clustered(items, 5, np.random.default_rng(2))),
    "tiny": lambda items: np.float32(1e-37) * clustered(items, 5, np.random.default_rng(2)),
}


@pytest.mark.parametrize("drawn", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_domain_holds_each_query_gets_all_it_can(kind: str, drawn: str) -> None:
    for items in (1, 2, 3, 5, 17, 320):
        tables = tables_of("any", TABLES[drawn](items))
        spec = KINDS[kind](items)
        if isinstance(spec, ListedSpec):
            spec = spec.model_copy(update={"probes": 1})
        index = index_of_kind(tables, spec)
        vectors = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
        vectors[2] = 0
        for vector in vectors:
            for k, excluded in ((1, ()), (7, (1, 0)), (items, (2,)), (items + 3, (1, 3))):
                query = Query(
                    vector, k, excluded=rows_of(*(row for row in excluded if row <= items))
                )
                (found,) = index.search([query])
                assert_sound(tables, query, found)


class Stingy:
    """An approximate engine that finds few rows, more when it is asked to try harder."""

    rerank = 2.0

    def __init__(self, table: Floats, found: dict[int, int]) -> None:
        """Take an item table and how many rows are found at each effort."""
        self._table = table
        self._found = found
        self.asked: list[tuple[int, int]] = []

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Find the true best, as many as it may, between places where nothing is found."""
        self.asked.append((count, effort))
        rows = np.zeros((len(vectors), count), np.int32)
        few = min(count, self._found.get(effort, 0))
        rows[:, count - few :] = exact_top(self._table, vectors, few) if few else 0
        return rows

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply."""
        products = self._table[1:] @ vector
        return products if rows is None else products[rows - 1]


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        ({1: 40}, [(48, 1)]),
        ({1: 21, 4: 24}, [(48, 1), (48, 4)]),  # two of the best are excluded
        ({1: 10, 4: 10}, [(48, 1), (48, 4)]),
        ({}, [(48, 1), (48, 4)]),
    ],
)
def test_too_few_proposals_are_asked_for_again_and_in_the_end_all_items_are_scored(
    surface: DomainTables, found: dict[int, int], asked: list[tuple[int, int]]
) -> None:
    engine = Stingy(surface.item_table, found)
    index = DomainIndex(surface, "stingy", engine, {})
    vector = preference_like(surface.item_table, 1, seed=2)[0]
    best = exact_top(surface.item_table, vector[np.newaxis], 3)[0]
    query = Query(vector, 20, excluded=best[1:])

    (answer,) = index.search([query])

    assert (answer.rows.tolist(), answer.scores.tolist()) == slow_answer(surface, query)
    assert engine.asked == asked


def test_what_is_asked_for_grows_with_k_exclusions_and_the_spec(surface: DomainTables) -> None:
    engine = Stingy(surface.item_table, {1: ITEMS})
    index = DomainIndex(surface, "stingy", engine, {})
    vector = preference_like(surface.item_table, 1, seed=2)[0]

    for k, excluded in ((1, 0), (8, 0), (9, 0), (10, 30), (100, 0)):
        index.search([Query(vector, k, excluded=np.arange(1, excluded + 1, dtype=np.int32))])
    index.search([Query(vector, ITEMS // 2)])

    assert engine.asked == [(12, 1), (16, 1), (24, 1), (96, 1), (256, 1)], "beyond, all are scored"


def test_vectors_beyond_the_range_of_float32_products_are_answered_by_every_kind() -> None:
    table = np.float32(1e30) * clustered(400, 5, np.random.default_rng(1))
    tables = tables_of("vast", table)
    for make in KINDS.values():
        query = Query(np.float32(1e15) * np.ones(5, np.float32), 9)
        (found,) = index_of_kind(tables, make(400)).search([query])
        assert len(found.rows) == 9
        assert np.isfinite(found.scores).all()
