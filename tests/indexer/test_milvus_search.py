"""Search through a collection of Milvus: held to what indexes of FAISS are held to."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from indexer.milvus_api import MOST_ROWS, Milvus
from indexer.milvus_build import NewCollections
from indexer.milvus_engine import MilvusEngine
from indexer.recall import recall
from indexer.sample import preference_like
from indexer.search import DomainIndex, Query
from indexer.spec import MilvusSpec, MilvusStructure
from model.bundle import DomainTables
from model.errors import UnavailableIndexError
from tests.indexer import test_restricted_search as restricted
from tests.indexer.index_making import (
    clustered,
    curved,
    rows_of,
    skewed_popularity,
    slow_allowed,
    slow_answer,
    slow_ranks,
    tables_of,
)
from tests.indexer.test_kinds import TABLES, assert_sound
from tests.milvus_process import READY_S, MilvusProcess, milvus_in

ITEMS, WIDTH = restricted.ITEMS, restricted.WIDTH


@dataclass(frozen=True, slots=True)
class Shelf:
    """Makes collections in a running Milvus."""

    milvus: MilvusProcess
    folder: Path

    def index_of(self, tables: DomainTables, structure: MilvusStructure) -> DomainIndex:
        """Fill a collection with a domain -> its index."""
        spec = MilvusSpec(
            collection="_", alias="_", items=1, structure=structure, links=16, effort=256
        )
        made = NewCollections(self.milvus.settings())
        named = made.add_to_spec(self.folder, tables, "b" * 64, spec)
        connection = Milvus(self.milvus.settings())
        engine = MilvusEngine(connection, named, tables.item_table, threads=1)
        return DomainIndex(tables, named.kind, engine, {})


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with milvus_in(tmp_path_factory.mktemp("milvus")) as running:
        yield Shelf(running, tmp_path_factory.mktemp("specs"))


@pytest.fixture(scope="module")
def surface() -> DomainTables:
    generator = np.random.default_rng(31)
    table = curved(ITEMS, WIDTH, generator)
    return tables_of("surface", table, skewed_popularity(ITEMS, generator))


@pytest.fixture(scope="module", params=["hnsw", pytest.param("flat", marks=pytest.mark.slow)])
def searched(request: pytest.FixtureRequest, shelf: Shelf, surface: DomainTables) -> DomainIndex:
    """Return an index of each structure over the surface."""
    return shelf.index_of(surface, request.param)


def test_it_finds_enough_and_scores_it_exactly(
    searched: DomainIndex, surface: DomainTables
) -> None:
    vectors = preference_like(surface.item_table, 60, seed=5)

    found = recall(searched, vectors, k=10)

    assert found >= 0.98
    answers = searched.search([Query(vector, 10) for vector in vectors])
    for vector, answer in zip(vectors, answers, strict=True):
        assert_sound(surface, Query(vector, 10), answer)


def test_collections_are_asked_and_not_the_table_alone(shelf: Shelf, surface: DomainTables) -> None:
    lazy = MilvusSpec(collection="_", alias="_", items=1, links=4, build_effort=4, effort=1)
    named = NewCollections(shelf.milvus.settings()).add_to_spec(shelf.folder, surface, "b", lazy)
    engine = MilvusEngine(Milvus(shelf.milvus.settings()), named, surface.item_table, threads=1)

    found = recall(
        DomainIndex(surface, "milvus", engine, {}),
        preference_like(surface.item_table, 60, seed=5),
        k=10,
    )

    assert found < 0.98, "or it is not searched as its spec says"


def test_vectors_of_unlike_length_are_found_by_their_products(
    shelf: Shelf, surface: DomainTables
) -> None:
    generator = np.random.default_rng(3)
    table = surface.item_table * generator.uniform(0.5, 2, (ITEMS + 1, 1)).astype(np.float32)
    tables = tables_of("unlike", table)

    index = shelf.index_of(tables, "hnsw")
    found = recall(index, preference_like(table, 60, seed=5), k=10)

    assert found >= 0.95
    engine = index._engine
    assert isinstance(engine, MilvusEngine)
    stored = shelf.milvus.client().get(
        engine._spec.collection, ids=[1, 700, ITEMS], output_fields=["row", "vector"]
    )
    vectors = {each["row"]: np.array(each["vector"]) for each in stored}
    lengths = [np.linalg.norm(vector) for vector in vectors.values()]
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)  # else links lead to the longest
    ratio = vectors[700][:WIDTH] / table[700]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_any_set_is_searched_exactly(searched: DomainIndex, surface: DomainTables) -> None:
    queries = list(restricted.some_queries(surface, seed=1))
    assert len(queries) == 500
    for query, found in zip(queries, searched.search(queries), strict=True):
        restricted.assert_equal(found, restricted.sorted_by_numpy(surface, query))


def test_popularity_and_ranks_are_exact(searched: DomainIndex, surface: DomainTables) -> None:
    generator = np.random.default_rng(6)
    vector = preference_like(surface.item_table, 1, seed=9)[0]
    some = (generator.permutation(ITEMS)[:300] + 1).astype(np.int32)
    ranked = rows_of(5, 0, *some[:3].tolist())

    (found,) = searched.search([Query(None, 20, excluded=some, ranked=ranked)])
    (near,) = searched.search([Query(vector, 3, ranked=ranked)])

    popular = Query(None, 20, excluded=some, ranked=ranked)
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(surface, popular)
    assert found.ranks.tolist() == slow_ranks(surface, popular)
    assert near.ranks.tolist() == slow_ranks(surface, Query(vector, 3, ranked=ranked))


def test_a_batch_of_unlike_queries_is_answered_as_each_alone(
    searched: DomainIndex, surface: DomainTables
) -> None:
    generator = np.random.default_rng(7)
    queries = [
        Query(
            vector,
            k=int(generator.choice([1, 5, 10, 40])),
            excluded=(generator.permutation(ITEMS)[: generator.integers(30)] + 1).astype(np.int32),
        )
        for vector in preference_like(surface.item_table, 25, seed=3)
    ]
    for query, together in zip(queries, searched.search(queries), strict=True):
        (alone,) = searched.search([query])
        assert together.rows.tolist() == alone.rows.tolist()
        assert together.scores.tolist() == alone.scores.tolist()
        assert set(together.rows.tolist()) <= slow_allowed(surface, query)


@pytest.mark.parametrize(
    "drawn",
    ["huge", *(pytest.param(each, marks=pytest.mark.slow) for each in TABLES if each != "huge")],
)
def test_whatever_a_domain_holds_each_query_gets_all_it_can(shelf: Shelf, drawn: str) -> None:
    for items in (5, 320):
        tables = tables_of(drawn, TABLES[drawn](items))
        index = shelf.index_of(tables, "hnsw")
        for k in (1, 7, items + 3):
            query = Query(np.ones(5, np.float32), k, excluded=rows_of(0, 1))
            (found,) = index.search([query])
            assert_sound(tables, query, found)


def test_more_rows_than_milvus_finds_are_looked_for_in_the_table(shelf: Shelf) -> None:
    tables = tables_of("many", clustered(400, 5, np.random.default_rng(1)))
    engine = shelf.index_of(tables, "flat")._engine
    assert isinstance(engine, MilvusEngine)

    found = engine.propose(np.ones((2, 5), np.float32), MOST_ROWS + 1, effort=1)

    assert found.shape == (2, MOST_ROWS + 1)
    assert not found.any()


def broken(act: Callable[[], object]) -> str:
    """Return what a search says that is not answered."""
    with pytest.raises(UnavailableIndexError) as failed:
        act()
    return str(failed.value)


def test_a_search_that_is_not_answered_says_nothing_of_why_and_heals(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    tables = tables_of("healing", clustered(400, 5, np.random.default_rng(1)))
    index = shelf.index_of(tables, "hnsw")
    query = Query(np.ones(5, np.float32), 3)
    (before,) = index.search([query])

    shelf.milvus.kill()
    said = {broken(lambda: index.search([query])) for _ in range(3)}
    logged = [record for record in caplog.records if "search failed" in record.getMessage()]
    shelf.milvus.start()

    assert said == {"the engine that keeps the index does not answer; try again later"}
    assert len(logged) == 1, "others fail at once for a while"
    assert f"http://127.0.0.1:{shelf.milvus.port}" in logged[0].getMessage()
    deadline_s = time.monotonic() + READY_S
    while True:
        try:
            (after,) = index.search([query])
        except UnavailableIndexError:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        else:
            break
    assert after.rows.tolist() == before.rows.tolist()
