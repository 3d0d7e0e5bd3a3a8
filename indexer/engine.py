"""Where an index is searched: on the CPU or on a GPU.

Engines answer in float32 and roughly: what they return is off by rounding, and which of several
equal scores they return is left open. `indexer.search` makes the answer exact, so that every engine
gives the same one. Shapes: B queries, N rows, V items, D width; row 0 is padding.
"""

import logging
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from indexer import faiss_api
from indexer.faiss_api import FaissIndex, GpuCopy
from indexer.products import rough_products
from indexer.spec import DeviceChoice
from model.bundle import Floats
from model.data.vocabulary import Rows
from model.errors import UnavailableDeviceError
from model.scoring import exact_scores

if TYPE_CHECKING:
    from indexer.device import DeviceTable

log = logging.getLogger(__name__)

Device = Literal["cpu", "cuda"]


class Engine(Protocol):
    """Finds and multiplies, wherever the vectors are."""

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Find the `count` best rows for each query (B, D): scores descending, rows; (B, count)."""

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply a query (D,) with rows (N,) -> (N,), or with all items, 1 first -> (V,)."""


class CpuEngine:
    """FAISS and numpy on the CPU."""

    def __init__(self, index: FaissIndex, table: Floats, *, threads: int | None) -> None:
        """Take an index of `table` (V + 1, D); `threads` of FAISS, None for its own choice."""
        self._index = index
        self._table = table
        self._threads = threads

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS; see `Engine.top`."""
        if self._threads is not None:
            faiss_api.set_threads(self._threads)
        return faiss_api.search_rows(self._index, vectors, count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with numpy; see `Engine.products`."""
        if rows is None:
            return exact_scores(self._table, vector[np.newaxis])[0, 1:]
        return rough_products(self._table, vector, rows)


class GpuEngine:
    """FAISS and torch on the first visible GPU; one thread at a time may use it."""

    def __init__(self, index: FaissIndex, table: "DeviceTable") -> None:
        """Copy an index of `table` to the GPU."""
        self._copy = GpuCopy(index)
        self._table = table

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Ask FAISS, `count` up to 2,048 there; see `Engine.top`."""
        return faiss_api.search_rows(self._copy.index, vectors, count)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with torch; see `Engine.products`."""
        return self._table.products(vector, rows)


def open_engine(
    device: Device, index: FaissIndex, table: Floats, *, threads: int | None = None
) -> Engine:
    """Put an index of `table` (V + 1, D) where it is to be searched."""
    if device == "cuda":
        from indexer.device import DeviceTable  # noqa: PLC0415  # torch: seconds, of no use on a CPU

        return GpuEngine(index, DeviceTable(table, "cuda"))
    return CpuEngine(index, table, threads=threads)


def resolve_device(choice: DeviceChoice) -> Device:
    """Turn `auto`, `cpu` or `cuda` into where the index goes; `auto` warns when that is not a GPU.

    Raises:
        UnavailableDeviceError: If `cuda` is asked for and cannot be used; the message says why.
    """
    if choice == "cpu":
        return "cpu"
    obstacle = _obstacle()
    if obstacle is None:
        return "cuda"
    if choice == "cuda":
        raise UnavailableDeviceError(f"device cuda was asked for, but {obstacle}")
    log.warning("the index is searched on the CPU: %s", obstacle)
    return "cpu"


def _obstacle() -> str | None:
    if not faiss_api.has_gpu_build():
        return "this FAISS is built without GPU support (the extra [gpu] brings one that has it)"
    if faiss_api.gpu_count() == 0:
        return "FAISS sees no CUDA device"
    from indexer.device import torch_sees_gpu  # noqa: PLC0415  # torch: seconds, of no use on a CPU

    return None if torch_sees_gpu() else "torch sees no CUDA device (is it a CPU-only build?)"
