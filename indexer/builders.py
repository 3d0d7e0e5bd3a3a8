"""From item vectors to an index: one builder a kind, and what an index of each kind must look like.

Lists and links are made for vectors that are near one another, while what is asked for is the
largest inner product. So these are made with one column more, which makes all vectors equally
long; a query has 0 there, so that no score changes, but the largest inner product is now the
nearest direction (Bachrach et al., RecSys 2014). Lists of numbers or bytes do without the column
once it is known which list a vector belongs to. Approximate indexes hold all vectors scaled by one
power of two, which changes no order and keeps them in the range of float16.

Shapes: V items, D width, C columns of an index.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer import faiss_api, faiss_build
from indexer.faiss_api import FaissIndex
from indexer.spec import (
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
    ListedSpec,
)
from indexer.state import Level
from model.arrays import Floats
from model.errors import BadArtifactError

_NUMBER_BYTES = 4
_BLOCK = 32  # vectors of a list that fast scan compares at a time
_TOGETHER = 8
"""Numbers of two vectors that FAISS multiplies at a time. Where they do not come out even it takes
them one by one, which makes links in float16 slower to build and to follow."""
_ROUNDED = 1 + 2**-16
"""By how much the squared lengths of equally long vectors may differ, amply: those of cosine
scoring all have length one, as nearly as float32 tells."""


def build_index(spec: IndexSpec, vectors: Floats) -> FaissIndex:
    """Build an index of vectors (V, D); position p holds the vector of row p + 1."""
    index = _BUILDERS[type(spec)](spec, vectors)
    check_index(index, spec, vectors.shape, "the index just built")
    return index


def columns_of(spec: IndexSpec, width: int, index: FaissIndex | None = None) -> int:
    """Return C, the columns of an index to be built of vectors of D numbers, or of one there is."""
    if isinstance(spec, HnswSpec | IvfPqSpec):
        group = group_of(spec, width, index)
        return -(-width // group) * group + group
    return width


def group_of(spec: IndexSpec, width: int, index: FaissIndex | None = None) -> int:
    """Say how `levelled` groups columns for an index to be built, or for one there is."""
    match spec:
        case IvfPqSpec(group=group):  # the column more has codes of its own
            return group
        case HnswSpec() if index is None or index.d != width + 1:  # as all were once
            return _TOGETHER
        case _:
            return 1


def _build_flat(_: FlatSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.flat_index(vectors)


def _build_half(_: HalfSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.scalar_index(_scaled(vectors), half=True)


def _build_bytes(_: ByteSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.scalar_index(_scaled(vectors), half=False)


def _build_hnsw(spec: HnswSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.hnsw_index(
        levelled(vectors, group_of(spec, vectors.shape[1])),
        links=spec.links,
        effort=spec.build_effort,
        threads=spec.build_threads,
    )


def _build_ivf(spec: IvfSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.ivf_index(*_parted(vectors, spec.lists))


def _build_ivf_bytes(spec: IvfByteSpec, vectors: Floats) -> FaissIndex:
    return faiss_build.ivf_scalar_index(*_parted(vectors, spec.lists))


def _build_ivf_pq(spec: IvfPqSpec, vectors: Floats) -> FaissIndex:
    longer = levelled(vectors, group_of(spec, vectors.shape[1]))
    return faiss_build.ivf_pq_index(longer, lists=spec.lists, codes=longer.shape[1] // spec.group)


def _parted(vectors: Floats, lists: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Scale, and find centres (L, D) and lists (V,), for which alone the column more is needed."""
    longer, width = levelled(vectors), vectors.shape[1]
    centres, places = faiss_build.part(longer, lists=lists)
    return longer[:, :width], centres[:, :width], places


_BUILDERS: Mapping[type[IndexSpec], Callable[[Any, Floats], FaissIndex]] = MappingProxyType(
    {
        FlatSpec: _build_flat,
        HalfSpec: _build_half,
        ByteSpec: _build_bytes,
        HnswSpec: _build_hnsw,
        IvfSpec: _build_ivf,
        IvfByteSpec: _build_ivf_bytes,
        IvfPqSpec: _build_ivf_pq,
    }
)


def _exponent(vectors: Floats) -> int:
    """Find the power of two between which and its half the largest number lies."""
    return int(np.frexp(np.abs(vectors).max())[1])


def _scaled(vectors: Floats) -> Floats:
    """Multiply by the power of two that brings the largest number between 1/2 and 1."""
    scaled: Floats = np.ldexp(vectors, -_exponent(vectors))
    return scaled


def levelled(vectors: Floats, group: int = 1, level: Level | None = None) -> Floats:
    """Scale, and add columns that make all vectors equally long -> (V, C).

    They get the length of the longest, or that of a level which they fit. The columns are filled up
    to a multiple of `group`; so many more follow, of which the first makes the vectors longer.
    """
    width = vectors.shape[1]
    extra = -(-width // group) * group
    longer = np.zeros((len(vectors), extra + group), np.float32)
    exponent = level.exponent if level else _exponent(vectors)
    longer[:, :width] = np.ldexp(vectors, -exponent)
    squares = np.vecdot(longer, longer)
    squared = level.squared if level else squares.max()
    longer[:, extra] = np.sqrt(np.maximum(squared - squares, 0))
    return longer


def lists_of(longer: Floats, centres: Floats) -> NDArray[np.int64]:
    """Find the list of each levelled vector (N, D + 1), by centres (L, D) of an index -> (N,).

    Centres have length one, which tells the column that they have lost.
    """
    lost = np.sqrt(np.maximum(1 - np.vecdot(centres, centres), 0))
    return faiss_build.nearest_lists(longer, np.column_stack([centres, lost]))


def level_of(vectors: Floats) -> Level:
    """Say to which level vectors (V, D) alone are brought."""
    exponent = _exponent(vectors)
    scaled = np.ldexp(vectors, -exponent)
    return Level(exponent=exponent, squared=float(np.vecdot(scaled, scaled).max()))


def fits(level: Level, vectors: Floats) -> bool:
    """Say whether no vector (N, D) is longer than a level, rounding aside."""
    with np.errstate(over="ignore"):  # what leaves the range of float32 is longer
        scaled = np.ldexp(vectors, -level.exponent)
        squares = np.vecdot(scaled, scaled)
    return bool((squares <= level.squared * _ROUNDED).all())


def check_index(
    index: FaissIndex, spec: IndexSpec, shape: tuple[int, ...], name: str, *, removed: int = 0
) -> None:
    """Check that an index is what its spec, its vocabulary and its item table say.

    Args:
        index: The index.
        spec: What it should be.
        shape: (V, D) of the vectors it should hold.
        name: What the message calls it.
        removed: Entries that it should hold behind these; see `indexer.state`.

    Raises:
        BadArtifactError: If it is of another kind, metric, size or width, is built otherwise than
            its spec says, or its lists do not hold each vector once.
    """
    items, width = shape
    columns = columns_of(spec, width, index)
    found, wanted = faiss_api.structure_of(index), _structure(spec, items + removed, columns)
    if found["class"] != wanted["class"] and not (spec.kind == "flat" and faiss_api.is_flat(index)):
        raise BadArtifactError(f"{name} is no index of kind {spec.kind}")
    if not faiss_api.is_inner_product(index):
        raise BadArtifactError(f"{name} does not rank by inner product")
    if (index.ntotal, index.d) != (items + removed, columns):
        table = f"{items} of width {width}" + (f", {columns} columns" if columns > width else "")
        raise BadArtifactError(
            f"{name} holds {index.ntotal} vectors of width {index.d}; the item table has {table}"
        )
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise BadArtifactError(
                f"{name} is not built to its spec: {key} {found.get(key)}, not {wanted.get(key)}"
            )
    if isinstance(spec, ListedSpec):
        positions = faiss_api.listed_positions(index)
        if not np.array_equal(np.sort(positions), np.arange(items)):
            raise BadArtifactError(f"{name} does not hold each of {items} vectors once")


def _structure(spec: IndexSpec, items: int, columns: int) -> dict[str, str | int]:
    """Say what `faiss_api.structure_of` must find."""
    match spec:
        case FlatSpec():
            return _of_class("IndexFlatIP", items, columns)
        case HalfSpec():
            return _coded("float16", items, columns)
        case ByteSpec():
            return _coded("bytes", items, columns)
        case HnswSpec(links=links):
            return _of_class("IndexHNSWSQ", items, columns) | {
                "links": links,
                "ground links": 2 * links,
                "linked": items,
                **faiss_api.named("stored", _coded("float16", items, columns)),
            }
        case listed:
            return _structure_of_lists(listed, items, columns)


def _structure_of_lists(spec: ListedSpec, items: int, columns: int) -> dict[str, str | int]:
    kept: dict[str, str | int] = {"kept as": "ArrayInvertedLists", "kept together": 1}
    match spec:
        case IvfSpec():
            name = "IndexIVFFlat"
            kept |= {"kept bytes": _NUMBER_BYTES * columns}
        case IvfByteSpec():
            name = "IndexIVFScalarQuantizer"
            kept |= {
                "kept bytes": columns,
                "numbers": "bytes",
                "coded columns": columns,
                "codes of": "residuals",
            }
        case IvfPqSpec(group=group):
            name = "IndexIVFPQFastScan"
            codes = columns // group
            packed = codes + codes % 2  # fast scan reads codes in pairs
            kept = {
                "kept as": "BlockInvertedLists",
                "kept together": _BLOCK,
                "kept bytes": _BLOCK * packed // 2,
                "codes": codes,
                "code bits": 4,
                "coded columns": columns,
                "codes of": "residuals",
                "fast-scan block": _BLOCK,
            }
    return _of_class(name, items, columns) | _lists(spec.lists, columns) | kept


def _of_class(name: str, vectors: int, columns: int) -> dict[str, str | int]:
    return {
        "class": name,
        "metric": "inner product",
        "vectors": vectors,
        "columns": columns,
        "trained": "yes",
    }


def _coded(numbers: str, vectors: int, columns: int) -> dict[str, str | int]:
    return _of_class("IndexScalarQuantizer", vectors, columns) | {
        "numbers": numbers,
        "coded columns": columns,
    }


def _lists(lists: int, columns: int) -> dict[str, str | int]:
    centres = faiss_api.named("centre", _of_class("IndexFlatIP", lists, columns))
    return {"lists": lists, "kept lists": lists, **centres}
