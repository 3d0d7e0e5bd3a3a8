"""FAISS on GPUs: a part of the door to FAISS; see `faiss_api`.

What FAISS does there otherwise than on the CPU: it looks for at most 2,048 rows, in at most as many
lists; it ignores selectors in silence; and what it cannot copy to several GPUs it copies, in
silence too, on the CPU. Shapes: V items, D width.
"""

from collections.abc import Sequence
from typing import Any

import faiss

from indexer.faiss_api import FaissIndex

MOST = 2048
"""Rows that a search finds, and lists that it looks through, at most."""

_faiss: Any = faiss  # its types know only a part of it

_DECODED = 1 << 20  # vectors decoded at a time: 256 MB at width 64


class GpuCopy:
    """An index in the memory of GPUs; one thread at a time may search it."""

    def __init__(self, index: FaissIndex, resources: Sequence[object] = ()) -> None:
        """Take what `copy_to_gpus` has made, and the scratch memory it works in."""
        self.index = index
        self._resources = resources  # FAISS need not keep them alive
        # What several GPUs hold takes no parameters with a search, and its parts are not what they
        # are to Python; this reaches each of them. A build for the CPU has the plain one.
        self._parameters = getattr(_faiss, "GpuParameterSpace", _faiss.ParameterSpace)()

    def look_through(self, lists: int) -> None:
        """Say how many lists the next searches look through, from 1 to `MOST`."""
        self._parameters.set_index_parameter(self.index, "nprobe", lists)


def copy_to_gpus(
    index: FaissIndex, gpus: Sequence[int], *, shards: bool = False, half: bool = False
) -> GpuCopy:
    """Copy an index to GPUs.

    Args:
        index: A flat index, or one with lists of numbers or bytes.
        gpus: The numbers of the GPUs, at least one.
        shards: Whether each GPU gets a part of the index: of a flat one a run of positions, of
            lists every so many positions of each. Otherwise each gets it whole, and a part of every
            batch.
        half: Whether a flat index is kept in float16, which queries are then rounded to as well.

    Raises:
        RuntimeError: If there is no such GPU, or too little memory on one.
    """
    resources = [_faiss.StandardGpuResources() for _ in gpus]  # each is for one thread, of a GPU
    options = _faiss.GpuMultipleClonerOptions()
    options.shard = shards
    options.useFloat16 = half
    copy = _faiss.index_cpu_to_gpu_multiple_py(resources, index, options, list(gpus))
    return GpuCopy(copy, resources)


def decoded(index: FaissIndex) -> FaissIndex:
    """Make a flat index of the numbers that another holds in float16.

    FAISS copies flat indexes to several GPUs, and float16 vectors to one alone.
    """
    flat = faiss.IndexFlatIP(index.d)
    for first in range(0, index.ntotal, _DECODED):
        count = min(_DECODED, index.ntotal - first)
        flat.add(index.reconstruct_n(first, count))
    return flat
