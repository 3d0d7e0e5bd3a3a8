"""The door to FAISS, with `faiss_build`, `faiss_changes` and `faiss_gpu`: nothing else imports it.

FAISS positions count from 0; rows count from 1 and row 0 is padding, so position = row - 1. The
id map is the vocabulary, outside FAISS. Shapes: B queries, V items, D width.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Rows
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

ALL_THREADS: int = faiss.omp_get_max_threads()
"""What OpenMP would use, from the number of cores or `OMP_NUM_THREADS`."""

_faiss: Any = faiss  # its types know only a part of it


FaissIndex = faiss.Index
"""An index of any kind; this project reads its `ntotal` (vectors in it) and `d` (their width)."""

HALF, BYTE = faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_8bit
_FLAGS = _faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
"""The table helps no inner product."""
_TABLE_BYTES = 1 << 28
"""What FAISS counts as read for that table all the same, at most."""
_TOGETHER = 16
"""Queries searched at a time in lists: from 20 on FAISS chooses lists by a matrix product, which
rounds otherwise than it does for one query."""


def is_inner_product(index: FaissIndex) -> bool:
    """Say whether an index ranks by inner product."""
    return index.metric_type == faiss.METRIC_INNER_PRODUCT


def is_flat(index: FaissIndex) -> bool:
    """Say whether an index holds its vectors as they are and compares a query with all of them."""
    return isinstance(index, faiss.IndexFlat)


def holds(index: FaissIndex, vectors: Floats) -> bool:
    """Say whether a flat index holds just these vectors (V, D), in their order."""
    if not is_flat(index) or (index.ntotal, index.d) != vectors.shape:
        return False
    flat: Any = index
    held = faiss.rev_swig_ptr(flat.get_xb(), vectors.size)  # a view, not a copy
    return np.array_equal(held.reshape(vectors.shape), vectors)


def structure_of(index: FaissIndex | None) -> dict[str, str | int]:
    """Describe how an index is built: its very class, and that of what it is made of.

    A file says all that itself, and a search relies on it.
    """
    inner: Any = _faiss.downcast_index(index) if index is not None else None
    if inner is None:
        return {"class": "none"}
    metric = "inner product" if is_inner_product(inner) else f"metric {inner.metric_type}"
    about = {
        "class": type(inner).__name__,
        "metric": metric,
        "vectors": inner.ntotal,
        "columns": inner.d,
        "trained": "yes" if inner.is_trained else "no",
    }
    if isinstance(inner, _faiss.IndexScalarQuantizer | _faiss.IndexIVFScalarQuantizer):
        numbers = {HALF: "float16", BYTE: "bytes"}.get(inner.sq.qtype, f"type {inner.sq.qtype}")
        about |= {"numbers": numbers, "coded columns": inner.sq.d}
    if isinstance(inner, _faiss.IndexHNSW):
        about |= {
            "links": inner.hnsw.nb_neighbors(1),
            "ground links": inner.hnsw.nb_neighbors(0),
            "linked": inner.hnsw.levels.size(),
            **named("stored", structure_of(inner.storage)),
        }
    if isinstance(inner, _faiss.IndexIVF):
        about |= _about_lists(inner)
    if isinstance(inner, _faiss.IndexIVFScalarQuantizer | _faiss.IndexIVFPQFastScan):
        about |= {"codes of": "residuals" if inner.by_residual else "vectors"}
    if isinstance(inner, _faiss.IndexIVFPQFastScan):
        about |= {
            "codes": inner.pq.M,
            "code bits": inner.pq.nbits,
            "coded columns": inner.pq.d,
            "fast-scan block": inner.bbs,
        }
    return about


def _about_lists(index: Any) -> dict[str, str | int]:  # noqa: ANN401  # see _faiss
    kept = index.invlists
    lists: Any = _faiss.downcast_InvertedLists(kept) if kept is not None else None
    blocks = isinstance(lists, _faiss.BlockInvertedLists)
    return {
        "lists": index.nlist,
        "kept lists": lists.nlist if lists is not None else 0,
        "kept as": type(lists).__name__,
        "kept together": lists.n_per_block if blocks else 1,
        "kept bytes": lists.block_size if blocks else getattr(lists, "code_size", 0),
        **named("centre", structure_of(index.quantizer)),
    }


def named(part: str, about: dict[str, str | int]) -> dict[str, str | int]:
    """Say of what part of an index something is known."""
    return {f"{part} {key}": value for key, value in about.items()}


def listed_positions(index: FaissIndex) -> NDArray[np.int64]:
    """Give the positions in the lists of an index that has some, list after list."""
    listed: Any = index
    lists = listed.invlists
    sizes = [lists.list_size(each) for each in range(lists.nlist)]
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(each), size) for each, size in enumerate(sizes) if size
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def write_index(index: FaissIndex, file: IO[bytes]) -> None:
    """Write an index into a file that is open.

    Raises:
        OSError: If it cannot be written.
    """
    # FAISS's own writer only prints what fails as it closes its file, which then is cut short.
    faiss.write_index(index, _faiss.PyCallbackIOWriter(file.write))


def read_index(path: Path, *, mapped: bool) -> FaissIndex:
    """Map or load an index in a file, which must not be cut short: see `index_file`.

    Raises:
        BadArtifactError: If there is no such file or FAISS cannot make an index of it.
    """
    try:
        size = path.stat().st_size
        # Nothing in a file is larger than it: FAISS makes room for whatever size the file states.
        _faiss.set_deserialization_vector_byte_limit(size + _TABLE_BYTES)
        _faiss.set_deserialization_loop_limit(size)
        flags = _FLAGS | faiss.IO_FLAG_MMAP_IFC if mapped else _FLAGS
        index: FaissIndex | None = faiss.read_index(str(path), flags)
    except OSError as error:
        raise BadArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except (RuntimeError, MemoryError) as error:
        raise BadArtifactError(f"{path} cannot be read: {reason(error)}") from None
    if index is None:
        raise BadArtifactError(f"{path} cannot be read: it says itself that it holds no index")
    return index


def search_rows(index: FaissIndex, vectors: Floats, count: int) -> tuple[Floats, Rows]:
    """Find the `count` best rows for each query.

    Args:
        index: An exact index.
        vectors: Queries, (B, D), finite: FAISS answers a NaN with padding.
        count: From 1 to the index's size, so that no answer is padded.

    Returns:
        Float32 scores descending and their rows, both (B, count). Which of several equal scores at
        the cut are among them, and in which order, is FAISS's whim.
    """
    scores, positions = index.search(np.ascontiguousarray(vectors), count)
    return scores, (positions + 1).astype(np.int32)


def propose_rows(
    index: FaissIndex,
    vectors: Floats,
    count: int,
    *,
    probes: int | None = None,
    effort: int | None = None,
    items: int | None = None,
) -> Rows:
    """Ask an approximate index for rows; a batch is answered as each query would be alone.

    Args:
        index: An approximate index.
        vectors: Queries, (B, D).
        count: Rows asked for, from 1.
        probes: Lists looked through, for an index that has lists.
        effort: Items kept in view, for an index that has links.
        items: Positions that may be answered, the first ones; None for all. For an index that has
            links.

    Returns:
        (B, count): each row once, in no order to rely on; 0 where fewer were found.
    """
    if probes is None and effort is None:
        _, positions = index.search(vectors, count)
    elif probes is None:
        only = _faiss.IDSelectorRange(0, items) if items is not None else None
        links = _faiss.SearchParametersHNSW(efSearch=effort, sel=only)
        _, positions = index.search(vectors, count, params=links)
    else:
        lists = _faiss.SearchParametersIVF(nprobe=probes)
        parts = [
            index.search(vectors[first : first + _TOGETHER], count, params=lists)[1]
            for first in range(0, len(vectors), _TOGETHER)
        ]
        positions = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return (positions + 1).astype(np.int32)  # FAISS pads with -1


def select_rows(
    index: FaissIndex,
    vector: Floats,
    count: int,
    among: NDArray[np.uint8],
    *,
    probes: int | None = None,
    effort: int | None = None,
) -> tuple[Floats, Rows]:
    """Find the `count` best rows of a set; not on a GPU, where FAISS answers from all rows instead.

    Args:
        index: An index of any kind, on the CPU.
        vector: The query, (1, D).
        count: Rows asked for, from 1.
        among: The set's bits by position; see `indexer.bitmaps.Bitmap.by_position`.
        probes: Lists looked through, for an index that has lists.
        effort: Items kept in view, for an index that has links.

    Returns:
        FAISS's scores descending and their rows, (count,) each; 0 where fewer were found.
    """
    selector = _faiss.IDSelectorBitmap(among)
    if effort is not None:
        parameters = _faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
    elif probes is not None:
        parameters = _faiss.SearchParametersIVF(nprobe=probes, sel=selector)
    else:
        parameters = _faiss.SearchParameters(sel=selector)
    scores, positions = index.search(vector, count, params=parameters)
    return scores[0], (positions[0] + 1).astype(np.int32)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let FAISS use `count` threads for a while, in calls made from this thread of ours."""
    before = faiss.omp_get_max_threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


def set_threads(count: int | None) -> None:
    """Let FAISS use `count` threads, from 1, in calls made from this thread; None changes nothing.

    OpenMP keeps the number by calling thread: set elsewhere, it has no effect here.
    """
    if count is not None:
        faiss.omp_set_num_threads(count)


def has_gpu_build() -> bool:
    """Say whether this FAISS was built with GPU support."""
    return hasattr(faiss, "StandardGpuResources")


def gpu_count() -> int:
    """Count the GPUs FAISS can use; 0 for a build without GPU support."""
    return int(faiss.get_num_gpus())


def reason(error: Exception) -> str:
    """Drop where in its source FAISS failed, keep why."""
    return str(error).rpartition("failed: ")[2] or type(error).__name__
