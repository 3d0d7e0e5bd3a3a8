"""Searching on GPUs: FAISS finds or proposes rows there, torch gathers and multiplies there.

No engine here looks at the rows of a set alone, for FAISS ignores its selectors on a GPU: the
vectors of a set are gathered from a copy of the item table in the GPUs' memory, as many as they
may be. Shapes: B queries, N rows, V items, D width; row 0 is padding.
"""

from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from indexer import faiss_api, faiss_gpu
from indexer.faiss_api import FaissIndex
from indexer.faiss_gpu import GpuCopy, copy_to_gpus, decoded
from indexer.placement import Gpus
from indexer.spec import FlatSpec, HalfSpec, IndexSpec, IvfByteSpec, IvfSpec
from model.arrays import Floats, Rows
from model.errors import UnavailableDeviceError

if TYPE_CHECKING:
    from indexer.device import DeviceTable

_REASON_CHARACTERS = 300  # torch lists all that holds memory

GpuSpec = FlatSpec | HalfSpec | IvfSpec | IvfByteSpec
"""The spec of an index that has a place on a GPU."""


class GpuEngine:
    """An `Engine`: an exact index on GPUs, and torch; one thread at a time may use it."""

    def __init__(self, copy: GpuCopy, table: "DeviceTable") -> None:
        """Take a flat index of `table`."""
        self._copy = copy
        self._table = table

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS, `count` up to `faiss_gpu.MOST`; see `Engine.top`."""
        return faiss_api.search_rows(self._copy.index, vectors, count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with torch; see `Engine.products`."""
        return self._table.products(vector, rows)


class GpuProposer:
    """A `Proposer`: an approximate index on GPUs, and torch; for one thread at a time.

    A batch is multiplied with the centres of the lists as a whole, and how that is rounded may
    depend on its size: a query to which two lists are equally near, as far as float32 tells, may
    be shown another of the two than it would be alone.
    """

    def __init__(
        self, copy: GpuCopy, spec: HalfSpec | IvfSpec | IvfByteSpec, table: "DeviceTable"
    ) -> None:
        """Take an index of `table` that was built to `spec`."""
        self._copy = copy
        self._spec = spec
        self._table = table

    @property
    def rerank(self) -> float:
        """What the spec says; see `Proposer.rerank`."""
        return self._spec.rerank

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Ask FAISS; what it cannot do on a GPU finds nothing. See `Proposer.propose`."""
        none = np.zeros((len(vectors), count), np.int32)
        if count > faiss_gpu.MOST:
            return none
        if isinstance(self._spec, HalfSpec):
            return faiss_api.propose_rows(self._copy.index, evened(vectors), count)
        probes = min(self._spec.lists, self._spec.probes * effort)
        if probes > faiss_gpu.MOST:
            return none
        self._copy.look_through(probes)
        return faiss_api.propose_rows(self._copy.index, np.ascontiguousarray(vectors), count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with torch; see `Proposer.products`."""
        return self._table.products(vector, rows)


def evened(vectors: Floats) -> Floats:
    """Scale each query (B, D) by a power of two, to lie well inside the range of float16.

    That changes no order of its products.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scaled: Floats = np.ldexp(vectors, -np.frexp(largest)[1])
    return scaled


def why_not_on_gpu(spec: IndexSpec) -> str | None:
    """Say why an index cannot be searched on a GPU; None if it can."""
    if not isinstance(spec, GpuSpec):
        return "FAISS has none of this kind on a GPU"
    probes = spec.probes if isinstance(spec, IvfSpec | IvfByteSpec) else 1
    if probes > faiss_gpu.MOST:
        return f"it looks through {probes:,} lists, of which a GPU takes {faiss_gpu.MOST:,}"
    return None


def open_gpu_engine(
    gpus: Gpus, spec: GpuSpec, index: FaissIndex, table: Floats
) -> GpuEngine | GpuProposer:
    """Copy an index of `table` (V + 1, D), and the table, to GPUs.

    Each shard holds a part of the table beside its part of the index; the first of several
    replicas holds the table.

    Raises:
        UnavailableDeviceError: If the GPUs do not take them: they may have too little memory.
    """
    from indexer.device import DeviceTable  # noqa: PLC0415  # torch: seconds, of no use on a CPU

    half = isinstance(spec, HalfSpec)
    holders = gpus.numbers if gpus.shards else gpus.numbers[:1]
    try:
        whole = decoded(index) if half else index
        copy = copy_to_gpus(whole, gpus.numbers, shards=gpus.shards, half=half)
        on_device = DeviceTable(table, [f"cuda:{number}" for number in holders])
    except RuntimeError as error:
        reason = shorten(faiss_api.reason(error), _REASON_CHARACTERS, placeholder=" …")
        raise UnavailableDeviceError(f"{gpus} cannot hold the index: {reason}") from None
    if isinstance(spec, FlatSpec):
        return GpuEngine(copy, on_device)
    return GpuProposer(copy, spec, on_device)
