"""Making FAISS indexes; what of, and what they must look like, is in `builders`.

Shapes: V items, D width, L lists, C columns of an index.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.faiss_api import ALL_THREADS, BYTE, HALF, FaissIndex, using_threads

import faiss  # isort: skip  # after `faiss_api`, which says what to do where it is missing
from model.arrays import Floats

_faiss: Any = faiss  # its types know only a part of it

_SEED = 1234
"""Of every k-means: two builds are the same."""
_POINTS_PER_LIST = 40
"""Vectors of a list that k-means looks at, about: more make little better, and take longer."""
_POINTS_PER_CODE = 256
_POINTS_OF_BYTES = 100_000
"""Vectors from which the extremes of each column are taken, at most; what lies beyond is cut."""
_CODE_BITS = 4  # what fast scan reads
_CODES = 1 << _CODE_BITS


def flat_index(vectors: Floats) -> FaissIndex:
    """Make an exact inner-product index of vectors (V, D)."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def scalar_index(vectors: Floats, *, half: bool) -> FaissIndex:
    """Make an inner-product index of vectors (V, D) in float16, or else in bytes."""
    stored = HALF if half else BYTE
    index = faiss.IndexScalarQuantizer(vectors.shape[1], stored, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


def hnsw_index(vectors: Floats, *, links: int, effort: int, threads: int) -> FaissIndex:
    """Link vectors (V, D), kept in float16; see `indexer.spec.HnswSpec`."""
    index: Any = _faiss.IndexHNSWSQ(vectors.shape[1], HALF, links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = effort
    with using_threads(threads):
        index.train(vectors)
        index.add(vectors)
    linked: FaissIndex = index
    return linked


def part(vectors: Floats, *, lists: int) -> tuple[Floats, NDArray[np.int64]]:
    """Part vectors (V, C), all equally long, into lists by direction, from 1 to V of them.

    Returns:
        The lists' centres, (L, C), of length one, and the list of each vector, (V,).
    """
    about = _faiss.ClusteringParameters()
    about.spherical = True
    about.seed = _SEED
    about.min_points_per_centroid = 1
    about.max_points_per_centroid = _POINTS_PER_LIST
    clusters = _faiss.Clustering(vectors.shape[1], lists, about)
    with using_threads(ALL_THREADS):
        clusters.train(vectors, faiss.IndexFlatIP(vectors.shape[1]))
    centres: Floats = faiss.vector_to_array(clusters.centroids).reshape(lists, -1)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres /= np.where(lengths > 0, lengths, 1)  # they have other lengths if lists are all items
    return centres, nearest_lists(vectors, centres)


def nearest_lists(vectors: Floats, centres: Floats) -> NDArray[np.int64]:
    """Find the list of each vector (N, C), by the lists' centres (L, C) -> (N,)."""
    with using_threads(ALL_THREADS):
        _, nearest = flat_index(centres).search(np.ascontiguousarray(vectors), 1)
    lists: NDArray[np.int64] = nearest[:, 0]
    return lists


def ivf_index(vectors: Floats, centres: Floats, lists: NDArray[np.int64]) -> FaissIndex:
    """Put vectors (V, D) into lists (V,) with these centres (L, D)."""
    index = faiss.IndexIVFFlat(
        flat_index(centres), vectors.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT
    )
    _put_into_lists(index, vectors, lists)
    return index


def ivf_scalar_index(vectors: Floats, centres: Floats, lists: NDArray[np.int64]) -> FaissIndex:
    """Put vectors (V, D) into lists (V,) with these centres (L, D), a byte a number."""
    index: Any = faiss.IndexIVFScalarQuantizer(
        flat_index(centres),
        vectors.shape[1],
        len(centres),
        BYTE,
        faiss.METRIC_INNER_PRODUCT,
        True,  # what is coded is how far a vector is from its centre
    )
    seen = slice(None, None, -(-len(vectors) // _POINTS_OF_BYTES))
    residuals = np.ascontiguousarray(vectors[seen] - centres[lists[seen]])
    index.train_encoder(len(residuals), faiss.swig_ptr(residuals), None)
    _put_into_lists(index, vectors, lists)
    coded: FaissIndex = index
    return coded


def _put_into_lists(index: Any, vectors: Floats, lists: NDArray[np.int64]) -> None:  # noqa: ANN401  # see _faiss
    index.is_trained = True
    add_to_lists(index, vectors, np.arange(len(vectors)), lists)


def add_to_lists(
    index: Any,  # noqa: ANN401  # see _faiss
    vectors: Floats,
    positions: NDArray[np.int64],
    lists: NDArray[np.int64],
) -> None:
    """Put vectors (N, D) with these positions (N,) into these lists (N,)."""
    # FAISS is handed addresses: the arrays must live until it is done.
    places = [np.ascontiguousarray(each) for each in (vectors, positions, lists)]
    index.add_core(len(vectors), *(faiss.swig_ptr(each) for each in places))


def ivf_pq_index(vectors: Floats, *, lists: int, codes: int) -> FaissIndex:
    """Part vectors (V, D) into lists, from 1 to V, as `codes` codes each; D is a multiple of it."""
    width = vectors.shape[1]
    coarse = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFPQFastScan(
        coarse, width, lists, codes, _CODE_BITS, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = True
    index.pq.cp.seed = _SEED
    index.pq.cp.min_points_per_centroid = 1
    index.pq.cp.max_points_per_centroid = _POINTS_PER_CODE
    index.cp.seed = _SEED
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = _POINTS_PER_LIST
    with using_threads(ALL_THREADS):
        # Codes cannot be learned from fewer vectors than there are codes.
        index.train(np.resize(vectors, (max(len(vectors), _CODES), width)))
        index.add(vectors)
    return index
