"""Matrix products of many queries with all items, against sorting every product."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer import blas, blocks, engine
from indexer.blocks import best_products
from indexer.products import longest, rounding_bound
from indexer.search import Query
from model.arrays import Floats, Rows
from tests.indexer.index_making import (
    clustered,
    faiss_engine,
    index_of,
    rows_of,
    slow_answer,
    tables_of,
)


def assert_best(table: Floats, vectors: Floats, count: int) -> None:
    """Compare with all products in double precision, up to what rounding may do at the cut."""
    products, rows = best_products(table, vectors, count)
    assert products.shape == rows.shape == (len(vectors), count)
    truth = vectors.astype(np.float64) @ table[1:].astype(np.float64).T
    bound = rounding_bound(
        table.shape[1], longest(table) * float(np.linalg.norm(vectors, axis=1).max())
    )
    for found, own, exact in zip(rows, products, truth, strict=True):
        assert len(set(found.tolist())) == count
        assert (np.diff(own) <= 0).all()
        np.testing.assert_allclose(own, exact[found - 1], atol=bound)
        cut = np.sort(exact)[-count]
        assert exact[found - 1].min() >= cut - 2 * bound


@pytest.mark.parametrize("items", [1, 7, 8, 9, 63, 64, 100, 513, 1000])
@pytest.mark.parametrize("block", [16, 64, 8192])
def test_the_best_are_found_however_the_table_is_parted(
    items: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_ROWS", block)
    monkeypatch.setattr(blocks, "_QUERIES", 5)
    monkeypatch.setattr(blocks, "_GROUPS", 8)
    generator = np.random.default_rng(items)
    table = clustered(items, 6, generator)
    vectors = generator.standard_normal((13, 6)).astype(np.float32)
    for count in sorted({1, min(3, items), min(64, items), items}):
        assert_best(table, vectors, count)


def test_the_best_are_found_where_they_come_last_first_or_all_at_once() -> None:
    rising = np.linspace(-1, 1, 20_001, dtype=np.float32)[:, np.newaxis]
    vectors = np.array([[1], [-1], [0.5], [0]] * 3, np.float32)
    for table in (rising, np.ones_like(rising), np.zeros_like(rising)):
        assert_best(table, vectors, 64)


def test_a_batch_that_is_multiplied_answers_to_the_bit_as_single_queries_that_faiss_answers() -> (
    None
):
    generator = np.random.default_rng(3)
    table = clustered(3000, 16, generator)
    table[generator.permutation(3000)[:200] + 1] = table[9]
    tables = tables_of("films", table)
    index = index_of(tables, faiss_engine(tables))
    queries = [
        Query(vector, k=int(generator.integers(1, 300)), excluded=rows_of(9, 10))
        for vector in [*generator.standard_normal((40, 16)).astype(np.float32), table[9]]
    ]
    for query, together in zip(queries, index.search(queries), strict=True):
        (alone,) = index.search([query])
        assert together.rows.tolist() == alone.rows.tolist()
        assert together.scores.tobytes() == alone.scores.tobytes()
    assert together.rows.tolist() == slow_answer(tables, queries[-1])[0]


def test_of_a_large_table_few_queries_are_multiplied_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = tables_of("films", clustered(3000, 16, np.random.default_rng(3)))
    asked: list[int] = []

    def counted(table: Floats, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        asked.append(len(vectors))
        return best_products(table, vectors, count)

    monkeypatch.setattr(engine, "best_products", counted)
    for large, batches in ((tables.item_table.nbytes, [3]), (tables.item_table.nbytes + 1, [])):
        monkeypatch.setattr(engine, "_LARGE", large)
        index = index_of(tables, faiss_engine(tables))
        for queries in (1, 2, 3):
            index.search([Query(tables.item_table[row], k=5) for row in range(1, queries + 1)])
        assert asked == batches
        asked.clear()


THREADS = """
import os
import numpy as np
from indexer import blas
from pathlib import Path

def ticks():
    spent = 0
    for task in Path('/proc/self/task').iterdir():
        if task.name != str(os.getpid()):
            used = task.joinpath('stat').read_text().rpartition(')')[2].split()
            spent += int(used[11]) + int(used[12])
    return spent

left = np.ones((1500, 1500), np.float32)
def multiply():
    before = ticks()
    for _ in range(8):
        left @ left
    print(ticks() - before)

with blas.threads(1):
    multiply()
multiply()
"""


def test_numpy_multiplies_with_no_more_threads_than_it_is_told() -> None:
    assert blas.can_limit(), "numpy's wheels multiply by OpenBLAS"
    environment = {key: value for key, value in os.environ.items() if not key.endswith("THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        cwd=Path(__file__).parents[2],
        env=environment | {"OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told, free = map(int, done.stdout.split())
    # Hundredths of a second that other threads than the caller's worked: some 80 where they may,
    # mostly 0 where not; 4 were seen once, on a busy machine.
    assert free >= 10, "or the test could not tell"
    assert told < free / 4


def test_the_number_of_threads_is_put_back_also_after_a_failure() -> None:
    controls = blas._controls()
    assert controls is not None
    tell, change = controls
    before = tell()
    change(2)
    try:
        with pytest.raises(ZeroDivisionError), blas.threads(1):
            1 / (tell() - 1)
        assert tell() == 2
        with blas.threads(None):
            assert tell() == 2
    finally:
        change(before)
