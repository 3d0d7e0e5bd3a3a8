"""A collection of Milvus as what proposes rows; scores come from the item table, as for any kind.

A collection holds vectors levelled as those of `hnsw`, for the same reason: see `indexer.builders`.
It is asked for rows alone and never with a filter: a broad set would be sent with every query as
the text of its row numbers, so sets are gathered from the item table, which is exact.

Shapes: B queries, N rows, V items, D width.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from indexer import blas
from indexer.engine import padded, table_products
from indexer.milvus_api import MOST_ROWS, Milvus, MilvusSettings
from indexer.spec import MilvusSpec
from model.arrays import Floats, Rows
from model.errors import BadArtifactError


class MilvusEngine:
    """A `Proposer`: a collection of Milvus, and numpy."""

    def __init__(
        self, milvus: Milvus, spec: MilvusSpec, table: Floats, *, threads: int | None
    ) -> None:
        """Take the collection of `table` (V + 1, D); `threads` of numpy, None for all there are."""
        self._milvus = milvus
        self._spec = spec
        self._table = table
        self._threads = threads

    @property
    def rerank(self) -> float:
        """What the spec says; see `Proposer.rerank`."""
        return self._spec.rerank

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Ask Milvus; more than it gives are none: see `Proposer.propose`.

        Raises:
            UnavailableIndexError: If it does not answer.
        """
        if count > MOST_ROWS:
            return np.zeros((len(vectors), count), np.int32)
        queries = padded(vectors, vectors.shape[1] + 1)
        spec, spent = self._spec, {}
        if spec.structure == "hnsw":
            spent = {"ef": max(count, spec.effort * effort)}
        return self._milvus.search(spec.collection, queries, count, spent)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply with numpy; see `Proposer.products`."""
        with blas.threads(self._threads):
            return table_products(self._table, vector, rows)


def identity(bundle: str, domain: str, items: int) -> dict[str, str]:
    """Say whose vectors a collection holds, as its properties.

    Args:
        bundle: Digest of the bundle.
        domain: The domain.
        items: Items of the domain.
    """
    content = {"bundle": bundle, "domain": domain, "items": str(items)}
    return {f"recguru.{key}": value for key, value in content.items()}


def open_collection(
    path: Path,
    spec: MilvusSpec,
    wanted: Mapping[str, str],
    table: Floats,
    settings: MilvusSettings,
    *,
    threads: int | None,
) -> MilvusEngine:
    """Connect to the collection that a spec names, and check that it is what a release wants.

    Args:
        path: Where the spec was read.
        spec: The spec.
        wanted: Its `identity`.
        table: The item table, (V + 1, D).
        settings: Where Milvus runs.
        threads: Threads of numpy, None for all there are.

    Raises:
        BadArtifactError: If the collection is missing, is another's, or holds too many or too few.
        BadSettingError: If it is not said where Milvus runs.
        UnavailableIndexError: If Milvus does not answer.
    """
    items = len(table) - 1
    if spec.items != items:
        raise BadArtifactError(f"{path} speaks of {spec.items} items; the item table has {items}")
    milvus = Milvus(settings)
    check_collection(milvus, spec, wanted, str(path))
    return MilvusEngine(milvus, spec, table, threads=threads)


def check_collection(
    milvus: Milvus, spec: MilvusSpec, wanted: Mapping[str, str], name: str
) -> None:
    """Check that a collection is there and what it must be; `name` is what names it.

    Raises:
        BadArtifactError: If it is not.
        UnavailableIndexError: If Milvus does not answer.
    """
    what = f"{name} names the collection {spec.collection}"
    properties = milvus.properties(spec.collection)
    if properties is None:
        raise BadArtifactError(f"{what}, which Milvus does not have")
    for key, value in wanted.items():
        if properties.get(key) != value:
            found = properties.get(key, "none")
            raise BadArtifactError(f"{what}, which has {key} {found}, not {value}")
    count = milvus.count(spec.collection)
    if count != spec.items:
        raise BadArtifactError(f"{what}, which holds {count} vectors, not {spec.items}")
