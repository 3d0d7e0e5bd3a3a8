"""Search among some of the items, from one to all, by every kind: against numpy's own sorting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer import engine
from indexer.bitmaps import Bitmap, smaller_of_both
from indexer.engine import Engine, Proposer, Selective
from indexer.sample import preference_like
from indexer.search import DomainIndex, Found, Query
from indexer.spec import (
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
)
from model.arrays import Floats, Rows
from model.bundle import DomainTables
from tests.indexer.index_making import (
    ContraryEngine,
    curved,
    index_of,
    index_of_kind,
    listed_rows,
    rows_of,
    skewed_popularity,
    tables_of,
)

ITEMS = 4000
WIDTH = 13
SETS = 500

KINDS: dict[str, IndexSpec] = {
    "flat": FlatSpec(),
    "flat-f16": HalfSpec(),
    "flat-int8": ByteSpec(),
    "hnsw": HnswSpec(links=16, effort=256),
    "ivf": IvfSpec(lists=60, probes=30),
    "ivf-int8": IvfByteSpec(lists=60, probes=30, rerank=4),
    "ivf-pq": IvfPqSpec(lists=60, group=1, probes=40, rerank=25),
}


@pytest.fixture(scope="module")
def surface() -> DomainTables:
    generator = np.random.default_rng(31)
    table = curved(ITEMS, WIDTH, generator)
    return tables_of("surface", table, skewed_popularity(ITEMS, generator))


@pytest.fixture(scope="module", params=KINDS)
def searched(request: pytest.FixtureRequest, surface: DomainTables) -> DomainIndex:
    """Return an index of each kind over the surface."""
    return index_of_kind(surface, KINDS[request.param])


def broad_from(index: DomainIndex) -> float:
    """Say from how many rows on an index asks its engine for a set."""
    assert isinstance(index._engine, Selective)
    return index._engine.broad * ITEMS


def test_in_a_large_catalogue_a_set_is_broad_from_a_number_of_rows_on(
    surface: DomainTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, numbers = (index_of_kind(surface, KINDS[kind]) for kind in ("ivf-int8", "ivf"))
    assert broad_from(lists) == broad_from(numbers) == pytest.approx(ITEMS / 10)
    monkeypatch.setattr(engine, "BROAD_ROWS", {"ivf-int8": 100})
    assert broad_from(lists) == pytest.approx(100)
    assert broad_from(numbers) == pytest.approx(ITEMS / 10)


class Eager:
    """An engine that looks for every set in its index, however narrow."""

    broad = 0.0

    def __init__(self, engine: Engine | Proposer) -> None:
        """Take the engine of an index."""
        assert isinstance(engine, Selective)
        self._selective = engine
        self.products = engine.products
        self.select = engine.select
        if isinstance(engine, Proposer):
            self.rerank, self.propose = engine.rerank, engine.propose
        else:
            self.top = engine.top


def eager(index: DomainIndex, tables: DomainTables) -> DomainIndex:
    """Make an index ask its engine for every set."""
    engine = Eager(index._engine)
    assert isinstance(engine, Engine | Proposer)
    return DomainIndex(tables, index.kind, engine, {})


def some_sets(tables: DomainTables, seed: int) -> Iterator[Rows]:
    """Draw sets of one row to all: strewn, side by side in the space, and one after the other."""
    generator = np.random.default_rng(seed)
    yield from (rows_of(), rows_of(ITEMS), np.arange(1, ITEMS + 1, dtype=np.int32))
    for place in range(SETS - 3):
        size = round(ITEMS ** generator.uniform())
        match place % 3:
            case 0:
                rows = generator.permutation(ITEMS)[:size]
            case 1:
                rows = np.argsort(tables.item_table[1:] @ generator.standard_normal(WIDTH))[:size]
            case _:
                rows = np.arange(size) + generator.integers(ITEMS - size + 1)
        yield np.sort(rows + 1).astype(np.int32)


def some_queries(tables: DomainTables, seed: int) -> Iterator[Query]:
    """Ask for few rows or many of each set, leaving some out; one time in eight by popularity."""
    generator = np.random.default_rng(seed)
    vectors = preference_like(tables.item_table, SETS, seed=seed)
    for place, rows in enumerate(some_sets(tables, seed)):
        excluded = generator.integers(0, ITEMS + 1, int(generator.choice([0, 0, 3, 200])))
        yield Query(
            None if generator.random() < 1 / 8 else vectors[place],
            k=int(generator.choice([1, 10, 40, 100, len(rows) + 1])),
            candidates=smaller_of_both(rows, ITEMS),
            excluded=excluded.astype(np.int32),
            ranked=np.append(rows[:2], generator.integers(0, ITEMS + 1, 3)).astype(np.int32),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What numpy answers."""

    allowed: Rows
    rows: Rows
    scores: NDArray[np.float32]
    ranks: list[int]


def sorted_by_numpy(tables: DomainTables, query: Query) -> Answer:
    """Sort the double-precision scores of all allowed rows."""
    assert query.candidates is not None
    allowed = np.setdiff1d(listed_rows(query.candidates), query.excluded)
    if query.vector is None:
        scores = tables.popularity[allowed]
    else:
        wide = tables.item_table[allowed].astype(np.float64)
        scores = (wide @ query.vector.astype(np.float64)).astype(np.float32)
    order = np.lexsort((allowed, -scores))[: query.k]
    own = dict(zip(allowed.tolist(), scores.tolist(), strict=True))
    ranks = [int((scores >= own[row]).sum()) if row in own else 0 for row in query.ranked.tolist()]
    return Answer(allowed, allowed[order], scores[order], ranks)


def assert_equal(found: Found, expected: Answer) -> None:
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    assert found.ranks.tolist() == expected.ranks


def share_found(found: Found, expected: Answer) -> float:
    """Check all of an answer but whether it holds the best; return how many of them it does."""
    rows = found.rows.tolist()
    assert len(set(rows)) == len(rows) == len(expected.rows)
    assert set(rows) <= set(expected.allowed.tolist())
    assert np.lexsort((found.rows, -found.scores)).tolist() == list(range(len(rows)))
    assert found.ranks.tolist() == expected.ranks
    return len(np.intersect1d(found.rows, expected.rows)) / max(1, len(rows))


def test_any_set_is_searched_exactly_up_to_the_size_from_which_an_index_is_asked(
    searched: DomainIndex, surface: DomainTables
) -> None:
    queries = list(some_queries(surface, seed=1))
    shares = []
    for query, found in zip(queries, searched.search(queries), strict=True):
        expected = sorted_by_numpy(surface, query)
        exact = searched.kind == "flat" or query.vector is None
        if exact or len(expected.allowed) < broad_from(searched):
            assert_equal(found, expected)
        else:
            shares.append(share_found(found, expected))
    assert len(shares) > 40 or searched.kind == "flat"
    assert np.mean(shares or [1]) >= 0.98


def test_an_index_that_is_asked_for_any_set_still_answers_with_all_it_can(
    searched: DomainIndex, surface: DomainTables
) -> None:
    queries = list(some_queries(surface, seed=2))
    for query, found in zip(queries, eager(searched, surface).search(queries), strict=True):
        expected = sorted_by_numpy(surface, query)
        if searched.kind == "flat":
            assert_equal(found, expected)
        else:
            share_found(found, expected)


def test_a_batch_of_restricted_queries_is_answered_as_each_alone(
    searched: DomainIndex, surface: DomainTables
) -> None:
    queries = list(some_queries(surface, seed=3))[:100]
    for query, together in zip(queries, searched.search(queries), strict=True):
        (alone,) = searched.search([query])
        assert together.rows.tolist() == alone.rows.tolist()
        assert together.scores.tolist() == alone.scores.tolist()
        assert together.ranks.tolist() == alone.ranks.tolist()


def test_rows_and_bitmap_of_a_set_get_the_same_answer(
    searched: DomainIndex, surface: DomainTables
) -> None:
    vector = preference_like(surface.item_table, 1, seed=4)[0]
    rows = np.arange(3, round(broad_from(searched)), dtype=np.int32)
    shuffled = np.random.default_rng(4).permutation(rows)

    answers = [
        searched.search([Query(vector, 25, candidates=each, ranked=rows_of(9, 1, ITEMS))])[0]
        for each in (rows, shuffled, Bitmap.of(rows, ITEMS))
    ]

    assert {tuple(found.rows.tolist()) for found in answers} == {tuple(answers[0].rows.tolist())}
    assert {tuple(found.ranks.tolist()) for found in answers} == {tuple(answers[0].ranks.tolist())}


class ContrarySelecting(ContraryEngine):
    """Is as far off as it may be among a set's rows, too; the last of equals first."""

    broad = 0.0

    def select(
        self, vector: Floats, count: int, among: Bitmap, *, effort: int
    ) -> tuple[Floats, Rows]:
        """Sort the rows of the set by products that are off."""
        rows = among.rows()
        products = self.products(vector, None)[rows - 1]
        order = np.lexsort((rows, products))[::-1][:count]
        return products[order], rows[order]


@pytest.mark.parametrize("make", [ContrarySelecting, None], ids=["contrary", "faiss"])
def test_ties_at_the_cut_are_broken_by_row_in_every_set(
    make: Callable[[Floats], Engine] | None,
) -> None:
    generator = np.random.default_rng(5)
    table = np.zeros((ITEMS + 1, 3), np.float32)
    table[1:] = generator.integers(-1, 2, (ITEMS, 3))  # products are few, and mostly tied
    tables = tables_of("tied", table)
    index = index_of(tables)
    index = index_of(tables, make(table)) if make else eager(index, tables)
    for size in (30, 64, 65, 500, 2000, ITEMS):
        rows = np.sort(generator.permutation(ITEMS)[:size] + 1).astype(np.int32)
        for k in (1, 10, 63, 64, 300, size):
            query = Query(
                generator.integers(-2, 3, 3).astype(np.float32),
                k,
                candidates=Bitmap.of(rows, ITEMS),
                excluded=rows[::7],
                ranked=rows[:9],
            )
            (found,) = index.search([query])
            assert_equal(found, sorted_by_numpy(tables, query))


class StingySelecting:
    """An approximate engine that finds few of a set's rows."""

    rerank = 1.0
    broad = 0.5

    def __init__(self, table: Floats, few: int) -> None:
        """Take an item table and how many rows are found."""
        self._table = table
        self._few = few
        self.efforts: list[int] = []

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Find nothing."""
        return np.zeros((len(vectors), count), np.int32)

    def select(
        self, vector: Floats, count: int, among: Bitmap, *, effort: int
    ) -> tuple[Floats, Rows]:
        """Find the last rows of the set."""
        self.efforts.append(effort)
        rows = np.zeros(count, np.int32)
        few = min(count, self._few)
        rows[:few] = among.rows()[-few:]
        return np.zeros(count, np.float32), rows

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply."""
        products = self._table[1:] @ vector
        return products if rows is None else products[rows - 1]


def test_an_engine_that_finds_too_few_of_a_set_is_not_relied_on(surface: DomainTables) -> None:
    vector = preference_like(surface.item_table, 1, seed=6)[0]
    narrow, broad = (
        np.arange(9, 9 + size, dtype=np.int32) for size in (ITEMS // 2 - 1, ITEMS // 2)
    )
    for few, asked in ((63, "stingy"), (64, "generous")):
        engine = StingySelecting(surface.item_table, few)
        index = DomainIndex(surface, asked, engine, {})
        for rows in (narrow, broad):
            query = Query(vector, 10, candidates=Bitmap.of(rows, ITEMS))
            (found,) = index.search([query])
            if asked == "generous" and rows is broad:
                assert set(found.rows.tolist()) <= set(rows[-64:].tolist())
            else:
                assert_equal(found, sorted_by_numpy(surface, query))
        assert engine.efforts == [2], "an index is asked for the broad set alone"


def test_what_leaves_nothing_gets_nothing(searched: DomainIndex, surface: DomainTables) -> None:
    vector = preference_like(surface.item_table, 1, seed=7)[0]
    rows = np.arange(1, ITEMS + 1, dtype=np.int32)
    for index in (searched, eager(searched, surface)):
        for among, excluded in ((rows_of(), rows_of()), (rows, rows)):
            for asked in (vector, None):
                query = Query(
                    asked, 5, candidates=Bitmap.of(among, ITEMS), excluded=excluded, ranked=rows[:2]
                )
                (found,) = index.search([query])
                assert (len(found.rows), found.ranks.tolist()) == (0, [0, 0])
