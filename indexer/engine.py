"""Where an index is searched: on the CPU, by what stands here, or on GPUs, by `gpu_engine`.

Engines answer roughly: what an exact one returns is off by rounding, and which of several equal
scores it returns is left open; an approximate one may miss what is best. `indexer.search` scores
again exactly, so that every exact engine gives the same answer.

Shapes: B queries, N rows, V items, D width; row 0 is padding.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np

from indexer import blas, faiss_api
from indexer.bitmaps import Bitmap
from indexer.blocks import best_products
from indexer.faiss_api import FaissIndex
from indexer.gpu_engine import GpuSpec, open_gpu_engine, why_not_on_gpu
from indexer.placement import Device
from indexer.products import rough_products
from indexer.spec import (
    ApproximateSpec,
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    Kind,
)
from model.arrays import Floats, Rows
from model.scoring import exact_scores

log = logging.getLogger(__name__)

_MANY, _MANY_OF_LARGE = 8, 3
"""Queries from which a matrix product is quicker than FAISS, which takes one after the other."""
_LARGE = 1 << 24
"""Bytes of an item table from which on each of them reads it from further away than the core's own
cache; see `python -m benchmarks.search`."""

BROAD: Mapping[Kind, float] = MappingProxyType(
    {
        "flat": 0.75,
        "flat-f16": 0.2,
        "flat-int8": 0.2,
        "hnsw": 0.1,
        "ivf": 0.1,
        "ivf-int8": 0.1,
        "ivf-pq": 0.1,
    }
)
"""See `Selective.broad`; measured by `OMP_NUM_THREADS=1 python -m benchmarks.filters`.

A `flat` index multiplies all items from a quarter on, which is as quick as to leave a half out."""
BROAD_ROWS: Mapping[Kind, int] = MappingProxyType({"ivf-int8": 30_000})
"""Rows from which on a set is broad whatever its share, where that was measured, too: vectors are
gathered row by row, while lists are looked through alike in catalogues of any size."""


@runtime_checkable
class Engine(Protocol):
    """Finds and multiplies, wherever the vectors are."""

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Find the `count` best rows for each query (B, D): scores descending, rows; (B, count)."""

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply a query (D,) with rows (N,) -> (N,), or with all items, 1 first -> (V,)."""


@runtime_checkable
class Proposer(Protocol):
    """Proposes what may be best, and multiplies."""

    @property
    def rerank(self) -> float:
        """Rows to be asked for, as a multiple of those wanted."""

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Find `count` rows for each query (B, D) -> (B, count), 0 where fewer were found.

        A query gets the rows it would get alone. `effort` multiplies what the search spends.
        """

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply a query (D,) with rows (N,) -> (N,), or with all items, 1 first -> (V,)."""


@runtime_checkable
class Selective(Protocol):
    """Can look at the rows of a set alone."""

    @property
    def broad(self) -> float:
        """Share of all rows from which on that is quicker than to gather a set's and multiply."""

    def select(
        self, vector: Floats, count: int, among: Bitmap, *, effort: int
    ) -> tuple[Floats, Rows]:
        """Find the `count` best rows of a set for a query (D,): scores descending, rows.

        An approximate engine proposes them, 0 where fewer were found, and gives scores of its own;
        `effort` multiplies what its search spends.
        """


class CpuEngine:
    """FAISS and numpy on the CPU."""

    def __init__(self, index: FaissIndex, table: Floats, *, threads: int | None) -> None:
        """Take an index of `table` (V + 1, D); `threads` it may use, None for all there are."""
        self._index = index
        self._table = table
        self._threads = threads
        many = _MANY_OF_LARGE if table.nbytes >= _LARGE else _MANY
        self._many = many if threads is None or blas.can_limit() else None

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS for few queries, multiply with numpy for many; see `Engine.top`."""
        if self._many is not None and len(vectors) >= self._many:
            with blas.threads(self._threads):
                return best_products(self._table, vectors, count)
        faiss_api.set_threads(self._threads)
        return faiss_api.search_rows(self._index, vectors, count)

    @property
    def broad(self) -> float:
        """What was measured; see `Selective.broad`."""
        return BROAD["flat"]

    def select(
        self, vector: Floats, count: int, among: Bitmap, *, effort: int
    ) -> tuple[Floats, Rows]:
        """Ask FAISS; see `Selective.select`."""
        faiss_api.set_threads(self._threads)
        query = vector[np.newaxis]
        return faiss_api.select_rows(self._index, query, count, among.by_position())

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with numpy; see `Engine.products`."""
        with blas.threads(self._threads):
            return table_products(self._table, vector, rows)


class ApproximateEngine:
    """An approximate FAISS index on the CPU, and numpy."""

    def __init__(
        self, index: FaissIndex, spec: ApproximateSpec, table: Floats, *, threads: int | None
    ) -> None:
        """Take an index of `table` (V + 1, D); `threads` of FAISS, None for its own choice."""
        self._index = index
        self._spec = spec
        self._table = table
        self._threads = threads
        # Behind its items an index may hold entries that are none any more; see `indexer.state`.
        # A bitmap of rows has no bits for them.
        self._behind = {"items": len(table) - 1} if index.ntotal >= len(table) else {}

    @property
    def rerank(self) -> float:
        """What the spec says; see `Proposer.rerank`."""
        return self._spec.rerank

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Ask FAISS; see `Proposer.propose`."""
        faiss_api.set_threads(self._threads)
        spent = self._spent(count, effort) | self._behind
        return faiss_api.propose_rows(self._index, padded(vectors, self._index.d), count, **spent)

    @property
    def broad(self) -> float:
        """What was measured for the kind; see `Selective.broad`."""
        kind, items = self._spec.kind, len(self._table) - 1
        return min(BROAD[kind], BROAD_ROWS.get(kind, items) / items)

    def select(
        self, vector: Floats, count: int, among: Bitmap, *, effort: int
    ) -> tuple[Floats, Rows]:
        """Ask FAISS; see `Selective.select`."""
        faiss_api.set_threads(self._threads)
        query, spent = padded(vector[np.newaxis], self._index.d), self._spent(count, effort)
        return faiss_api.select_rows(self._index, query, count, among.by_position(), **spent)

    def _spent(self, count: int, effort: int) -> dict[str, int]:
        """Say what a search spends, as arguments of FAISS."""
        match self._spec:
            case HnswSpec(effort=kept):
                return {"effort": max(count, kept * effort)}
            case HalfSpec() | ByteSpec():
                return {}
            case listed:
                return {"probes": min(listed.lists, listed.probes * effort)}

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with numpy; see `Proposer.products`."""
        with blas.threads(self._threads):
            return table_products(self._table, vector, rows)


def padded(vectors: Floats, columns: int) -> Floats:
    """Give queries (B, D) the columns that an index has beyond D: zeros, which change no score."""
    queries = np.zeros((len(vectors), columns), np.float32)
    queries[:, : vectors.shape[1]] = vectors
    return queries


def table_products(table: Floats, vector: Floats, rows: Rows | None) -> Floats:
    """Multiply a query (D,) with rows (N,) of a table (V + 1, D), or with all -> (N,) or (V,)."""
    if rows is None:
        return exact_scores(table, vector[np.newaxis])[0, 1:]
    return rough_products(table, vector, rows)


def open_engine(
    device: Device,
    spec: IndexSpec,
    index: FaissIndex,
    table: Floats,
    *,
    threads: int | None = None,
) -> Engine | Proposer:
    """Put an index of `table` (V + 1, D) where it is to be searched.

    What cannot be searched on a GPU is searched on the CPU, and a line in the log says so.

    Raises:
        UnavailableDeviceError: If the GPUs do not take it: they may have too little memory.
    """
    if device != "cpu":
        obstacle = why_not_on_gpu(spec)
        if obstacle is None and isinstance(spec, GpuSpec):
            return open_gpu_engine(device, spec, index, table)
        log.warning("an index of kind %s is searched on the CPU: %s", spec.kind, obstacle)
    if isinstance(spec, FlatSpec):
        return CpuEngine(index, table, threads=threads)
    return ApproximateEngine(index, spec, table, threads=threads)
