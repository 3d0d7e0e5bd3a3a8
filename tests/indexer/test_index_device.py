"""Multiplying with torch, from an item table in the memory of one device or of several."""

import numpy as np
import pytest

from indexer import device as device_module
from indexer.device import DeviceTable
from indexer.products import exact_products, longest, rough_products, rounding_bound
from indexer.search import Query
from model.arrays import Floats, Rows
from model.bundle import DomainTables
from tests.indexer.index_making import faiss_engine, index_of, rows_of
from tests.indexer.parity import EVERY, ITEMS, WIDTH, all_questions, assert_exact, tables_with_ties


class TorchOnCpu:
    """The GPU's way of multiplying, on the CPU as so many devices."""

    def __init__(self, tables: DomainTables, devices: int) -> None:
        self._index = faiss_engine(tables)
        self._table = DeviceTable(tables.item_table, ["cpu"] * devices)

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS on the CPU."""
        return self._index.top(vectors, count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with torch on the CPU."""
        return self._table.products(vector, rows)


@pytest.fixture(scope="module")
def tables() -> DomainTables:
    return tables_with_ties(300)


@pytest.fixture(scope="module")
def queries(tables: DomainTables) -> list[Query]:
    return all_questions(tables)[::EVERY]


@pytest.mark.parametrize("devices", [1, 3])
def test_multiplying_with_torch_answers_as_numpy_does(
    devices: int, tables: DomainTables, queries: list[Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "_GATHERED", 700)
    assert_exact(index_of(tables, TorchOnCpu(tables, devices)), tables, queries)


@pytest.mark.parametrize("devices", [1, 2, 3, 7])
def test_products_stay_within_the_bound_that_search_relies_on(
    devices: int, tables: DomainTables
) -> None:
    generator = np.random.default_rng(10)
    table = tables.item_table
    rows = generator.permutation(ITEMS)[:900].astype(np.int32) + 1
    rows[5] = rows[300]  # out of order, and one twice
    on_device = DeviceTable(table, ["cpu"] * devices)
    for vector in generator.standard_normal((5, WIDTH)).astype(np.float32):
        truth = table[1:].astype(np.float64) @ vector.astype(np.float64)
        bound = rounding_bound(WIDTH, float(np.linalg.norm(vector)) * longest(table))
        assert np.abs(rough_products(table, vector, rows) - truth[rows - 1]).max() < bound
        assert np.abs(on_device.products(vector, None) - truth).max() < bound
        assert np.abs(on_device.products(vector, rows) - truth[rows - 1]).max() < bound
        rounded = truth.astype(np.float32)[rows - 1]
        np.testing.assert_array_max_ulp(exact_products(table, vector, rows), rounded, maxulp=1)
        assert bound < 1e-4 * np.abs(truth).max(), "a loose bound would make every search long"


def test_a_table_smaller_than_the_devices_are_many_is_multiplied_all_the_same() -> None:
    table = np.array([[0, 0], [1, 2], [3, 4]], np.float32)
    on_devices = DeviceTable(table, ["cpu"] * 5)
    vector = np.array([10, 1], np.float32)
    assert on_devices.products(vector, None).tolist() == [12, 34]
    assert on_devices.products(vector, rows_of(2, 1, 2)).tolist() == [34, 12, 34]
    assert on_devices.products(vector, rows_of()).tolist() == []
