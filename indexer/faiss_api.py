"""The one door to FAISS: nothing else imports it.

FAISS positions count from 0; rows count from 1 and row 0 is padding, so position = row - 1. The
id map is the vocabulary, outside FAISS. Shapes: B queries, V items, D width.
"""

import logging
from pathlib import Path

import numpy as np

from model.bundle import Floats
from model.data.vocabulary import Rows
from model.errors import BadArtifactError, RecGuruError

# It tells of every variant of its library that it tries, and of each that it finds missing.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)

try:
    import faiss
except ImportError as error:
    raise RecGuruError(
        f"FAISS cannot be imported ({error}): run pip install 'recguru-service[cpu]' "
        "(or [gpu], never both)"
    ) from error

VERSION: str = faiss.__version__


FaissIndex = faiss.Index
"""An index of any kind; this project reads its `ntotal` (vectors in it) and `d` (their width)."""


def flat_index(vectors: Floats) -> FaissIndex:
    """Make an exact inner-product index of vectors (V, D)."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def is_flat(index: FaissIndex) -> bool:
    """Say whether an index holds its vectors as they are and compares a query with all of them."""
    return isinstance(index, faiss.IndexFlat)


def is_inner_product(index: FaissIndex) -> bool:
    """Say whether an index ranks by inner product."""
    return index.metric_type == faiss.METRIC_INNER_PRODUCT


def holds(index: FaissIndex, vectors: Floats) -> bool:
    """Say whether a flat index holds just these vectors (V, D), in their order."""
    if not isinstance(index, faiss.IndexFlat) or (index.ntotal, index.d) != vectors.shape:
        return False
    held = faiss.rev_swig_ptr(index.get_xb(), vectors.size)  # a view, not a copy
    return np.array_equal(held.reshape(vectors.shape), vectors)


def write_index(index: FaissIndex, path: Path) -> None:
    """Write an index to a file.

    Raises:
        RecGuruError: If the file cannot be written; FAISS's own reason is in the message.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise RecGuruError(f"{path} cannot be written: {_reason(error)}") from None


def read_index(path: Path) -> FaissIndex:
    """Open an index in a file; FAISS files hold no checksum: check the file's digest first.

    The file is mapped, so that processes share its pages: nobody may write to it from then on.

    Raises:
        BadArtifactError: If there is no such file or FAISS cannot make an index of it.
    """
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise BadArtifactError(f"{path} cannot be read: {_reason(error)}") from None


def search_rows(index: FaissIndex, vectors: Floats, count: int) -> tuple[Floats, Rows]:
    """Find the `count` best rows for each query.

    Args:
        index: The index.
        vectors: Queries, (B, D), finite: FAISS answers a NaN with padding.
        count: From 1 to the index's size, so that no answer is padded.

    Returns:
        Float32 scores descending and their rows, both (B, count). Which of several equal scores at
        the cut are among them, and in which order, is FAISS's whim.
    """
    scores, positions = index.search(np.ascontiguousarray(vectors), count)
    return scores, (positions + 1).astype(np.int32)


def set_threads(count: int) -> None:
    """Let FAISS use `count` threads, from 1, in calls made from this thread of ours.

    OpenMP keeps the number by calling thread: set elsewhere, it has no effect here.
    """
    faiss.omp_set_num_threads(count)


def has_gpu_build() -> bool:
    """Say whether this FAISS was built with GPU support."""
    return hasattr(faiss, "StandardGpuResources")


def gpu_count() -> int:
    """Count the GPUs FAISS can use; 0 for a build without GPU support."""
    return int(faiss.get_num_gpus())


class GpuCopy:
    """A copy of an index on the first visible GPU; one thread at a time may use it."""

    def __init__(self, index: FaissIndex) -> None:
        # FAISS keeps no reference to the scratch memory its GPU index works in.
        self._resources = faiss.StandardGpuResources()
        self.index = faiss.index_cpu_to_gpu(self._resources, 0, index)


def _reason(error: Exception) -> str:
    """Drop where in its source FAISS failed, keep why."""
    return str(error).rpartition("failed: ")[2] or type(error).__name__
