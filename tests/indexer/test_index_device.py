"""The index on a GPU, and what of it can be tried without one."""

import faiss
import numpy as np
import pytest

from indexer import device as device_module
from indexer.device import DeviceTable, torch_sees_gpu
from indexer.engine import Engine, resolve_device
from indexer.products import exact_products, longest, rough_products, rounding_bound
from indexer.search import Query
from model.bundle import DomainTables, Floats
from model.data.vocabulary import Rows
from tests.indexer.index_making import (
    clustered,
    faiss_engine,
    index_of,
    skewed_popularity,
    slow_answer,
    slow_ranks,
    tables_of,
)

ITEMS = 5000


class TorchOnCpu:
    """The GPU's way of multiplying, on the CPU."""

    def __init__(self, tables: DomainTables) -> None:
        self._index = faiss_engine(tables)
        self._table = DeviceTable(tables.item_table, "cpu")

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS on the CPU."""
        return self._index.top(vectors, count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with torch on the CPU."""
        return self._table.products(vector, rows)


@pytest.fixture(scope="module")
def tables() -> DomainTables:
    generator = np.random.default_rng(8)
    table = clustered(ITEMS, 16, generator)
    table[generator.permutation(ITEMS)[:300] + 1] = table[17]
    return tables_of("films", table, skewed_popularity(ITEMS, generator))


@pytest.fixture(scope="module")
def queries(tables: DomainTables) -> list[Query]:
    """Ask for all combinations of candidates, exclusions, and k below and above FAISS's limit."""
    generator = np.random.default_rng(9)

    def some(count: int) -> Rows:
        return (generator.permutation(ITEMS)[:count] + 1).astype(np.int32)

    return [
        Query(vector, k=k, candidates=candidates, excluded=some(excluded), ranked=some(3))
        for vector in (
            tables.item_table[17],
            generator.standard_normal(16).astype(np.float32),
            None,
        )
        for k in (1, 40, 2048, 3000)
        for candidates in (None, some(200), some(4000))
        for excluded in (0, 30, 2500)
    ]


def assert_parity(tables: DomainTables, queries: list[Query], engine: Engine) -> None:
    """Compare an engine's answers with those of the CPU and with slow ones."""
    theirs = index_of(tables, engine).search(queries)
    ours = index_of(tables).search(queries)
    for found, expected in zip(theirs, ours, strict=True):
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert found.ranks.tolist() == expected.ranks.tolist()
    for query, found in list(zip(queries, theirs, strict=True))[::7]:
        assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)
        if query.candidates is not None or query.vector is None:
            assert found.ranks.tolist() == slow_ranks(tables, query)


def test_multiplying_with_torch_answers_as_numpy_does(
    tables: DomainTables, queries: list[Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "_GATHERED", 700)
    assert_parity(tables, queries, TorchOnCpu(tables))


def test_rough_products_stay_within_the_bound_that_search_relies_on(tables: DomainTables) -> None:
    generator = np.random.default_rng(10)
    table = tables.item_table
    rows = np.arange(1, ITEMS + 1, dtype=np.int32)
    on_device = DeviceTable(table, "cpu")
    for vector in generator.standard_normal((20, 16)).astype(np.float32):
        truth = table[1:].astype(np.float64) @ vector.astype(np.float64)
        bound = rounding_bound(16, float(np.linalg.norm(vector)) * longest(table))
        assert np.abs(rough_products(table, vector, rows) - truth).max() < bound
        assert np.abs(on_device.products(vector, None) - truth).max() < bound
        rounded = truth.astype(np.float32)
        np.testing.assert_array_max_ulp(exact_products(table, vector, rows), rounded, maxulp=1)
        assert bound < 1e-4 * np.abs(truth).max(), "a loose bound would make every search long"


@pytest.fixture
def gpu() -> None:
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this FAISS is built without GPU support; install the extra [gpu]")
    if not faiss.get_num_gpus():
        pytest.skip("FAISS sees no CUDA device")
    if not torch_sees_gpu():
        pytest.skip("torch sees no CUDA device")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_the_gpu_answers_as_the_cpu_and_numpy_do(
    tables: DomainTables, queries: list[Query]
) -> None:
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert_parity(tables, queries, faiss_engine(tables, "cuda"))


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_two_indexes_on_the_gpu_answer_in_turns(tables: DomainTables) -> None:
    other = tables_of("books", clustered(900, 16, np.random.default_rng(11)))
    for each in (tables, other):
        index = index_of(each, faiss_engine(each, "cuda"))
        for row in range(1, 20):
            query = Query(each.item_table[row], k=15)
            (found,) = index.search([query])
            assert found.rows.tolist() == slow_answer(each, query)[0]
