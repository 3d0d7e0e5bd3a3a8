"""What each kind of index would do for a domain: recall against speed, as its search tries harder.

Shapes: B queries, V items, D width.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from indexer.builders import build_index
from indexer.engine import open_engine
from indexer.faiss_api import FaissIndex
from indexer.index_file import write_index
from indexer.ladder import ladder
from indexer.recall import share_found
from indexer.search import DomainIndex
from indexer.spec import FlatSpec, IndexSettings, IndexSpec, Kind
from indexer.timing import latency
from model.arrays import Floats, Rows
from model.bundle import DomainTables

ENOUGH = 0.999
"""Recall at which a search need not try harder."""
_TUNED = ("probes", "effort", "rerank")
"""Parameters of a search; the others are of the index."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a sweep asks."""

    vectors: Floats
    """Queries, (B, D)."""
    truth: Rows
    """Their true best rows, (B, k)."""
    batch: int
    """Queries in one batched search."""
    threads: tuple[int, ...]
    """Numbers of threads to search with."""
    most_s: float
    """Seconds after which a measurement of speed ends."""


def sweep(
    tables: DomainTables,
    kind: Kind,
    settings: IndexSettings,
    asked: Asked,
    *,
    enough: float = ENOUGH,
) -> dict[str, Any]:
    """Build an index of a kind on all cores and search harder and harder -> plain values.

    Args:
        tables: The tables of the domain.
        kind: The kind.
        settings: Parameters of the kind.
        asked: How to ask.
        enough: Recall at which a search need not try harder.

    Returns:
        The `kind`, its `spec` without what a search sets, seconds to build (`build_s`),
        `bytes_per_item` of its file, and `points`: for each number of threads and each setting of
        the search (`parameters`) its recall, and latency and rate of single and batched searches.
    """
    items = len(tables.item_table) - 1
    specs: Sequence[IndexSpec] = [FlatSpec()] if kind == "flat" else ladder(kind, settings, items)
    begun = time.perf_counter()
    index = build_index(specs[0], tables.item_table[1:])
    build_s = time.perf_counter() - begun
    described = specs[0].model_dump(exclude=set(_TUNED))
    return {
        "kind": kind,
        "spec": described,
        "build_s": round(build_s, 2),
        "bytes_per_item": round(file_bytes(index, specs[0]) / items, 1),
        "points": [
            point
            for threads in asked.threads
            for point in _points(tables, specs, index, replace(asked, threads=(threads,)), enough)
        ],
    }


def _points(
    tables: DomainTables,
    specs: Sequence[IndexSpec],
    index: FaissIndex,
    asked: Asked,
    enough: float,
) -> list[dict[str, Any]]:
    points = []
    k, threads = asked.truth.shape[1], asked.threads[0]
    for spec in specs:
        engine = open_engine("cpu", spec, index, tables.item_table, threads=threads)
        search = DomainIndex(tables, spec.kind, engine, {})
        found = share_found(search, asked.vectors, asked.truth)
        single, batched = (
            latency(search, asked.vectors, k, batch=size, most_s=asked.most_s)
            for size in (1, asked.batch)
        )
        points.append(
            {
                "threads": threads,
                "parameters": spec.model_dump(include=set(_TUNED)),
                "recall": round(found, 5),
                "single": asdict(single),
                "batched": asdict(batched),
            }
        )
        if found >= enough:
            break
    return points


def file_bytes(index: FaissIndex, spec: IndexSpec) -> int:
    """Return the bytes of an index's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.faiss")
        write_index(index, spec, path)
        return path.stat().st_size
