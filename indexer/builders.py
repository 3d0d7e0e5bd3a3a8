"""From item vectors to an index: one builder a kind.

Shapes: V items, D width.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from indexer import faiss_api
from indexer.faiss_api import FaissIndex
from indexer.spec import IndexSpec
from model.bundle import Floats
from model.errors import BadArtifactError


def _build_flat(_: IndexSpec, vectors: Floats) -> FaissIndex:
    return faiss_api.flat_index(vectors)


_BUILDERS: Mapping[str, Callable[[IndexSpec, Floats], FaissIndex]] = MappingProxyType(
    {"flat": _build_flat}
)
_IS_KIND: Mapping[str, Callable[[FaissIndex], bool]] = MappingProxyType({"flat": faiss_api.is_flat})


def build_index(spec: IndexSpec, vectors: Floats) -> FaissIndex:
    """Build an index of vectors (V, D); position p holds the vector of row p + 1."""
    index = _BUILDERS[spec.kind](spec, vectors)
    check_index(index, spec, vectors.shape, "the index just built")
    return index


def check_index(index: FaissIndex, spec: IndexSpec, shape: tuple[int, ...], name: str) -> None:
    """Check that an index is what its spec, its vocabulary and its item table say.

    Args:
        index: The index.
        spec: What it should be.
        shape: (V, D) of the vectors it should hold.
        name: What the message calls it.

    Raises:
        BadArtifactError: If it is of another kind, metric, size or width.
    """
    if not _IS_KIND[spec.kind](index):
        raise BadArtifactError(f"{name} is no index of kind {spec.kind}")
    if not faiss_api.is_inner_product(index):
        raise BadArtifactError(f"{name} does not rank by inner product")
    if (index.ntotal, index.d) != shape:
        raise BadArtifactError(
            f"{name} holds {index.ntotal} vectors of width {index.d}; "
            f"the item table has {shape[0]} of width {shape[1]}"
        )
