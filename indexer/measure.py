"""How good and how quick a release's indexes are: recall against exact search, latency, size.

Shapes: B queries, V items, D width; row 0 of a table is padding.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from indexer.release import INDEX, Release
from indexer.sample import GROUP, preference_like
from indexer.search import DomainIndex, Query
from indexer.spec import DeviceChoice
from model.bundle import Floats
from model.console import Advance
from model.data.vocabulary import Rows
from model.settings import Settings

QUERIES = f"means of {GROUP} random items' vectors of the domain, not of real users"
"""What the queries are; figures on real users' preference vectors may differ."""

_ITEMS = 1 << 16  # items multiplied at a time, in float64: 32 MB at width 64
_SCORES = 1 << 25  # scores held at once: 128 MB


class MeasureSettings(Settings):
    """The settings of `recguru indexer measure`."""

    queries: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Queries a domain."""

    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (10, 100)
    """Rows asked for: one recall for each; latency is measured at the first."""

    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Queries in one batched search."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of FAISS; a server uses 1 for each of its processes."""

    device: DeviceChoice = "auto"
    """Where the indexes are searched; `auto` takes a GPU where one is."""

    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the queries."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a search took, and queries a second over all of them."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    queries_per_s: float


def measure(release: Release, settings: MeasureSettings, *, advance: Advance) -> dict[str, Any]:
    """Measure each domain of a release -> plain values, by domain.

    Args:
        release: The release, loaded with the settings' device and threads.
        settings: What to measure with.
        advance: Called once for each domain.
    """
    figures = {}
    for name, index in release.indexes.items():
        vectors = preference_like(index.item_table, settings.queries, seed=settings.seed)
        size = (release.folder / INDEX / f"{name}.faiss").stat().st_size
        batches = [
            vectors[first : first + settings.batch]
            for first in range(0, len(vectors), settings.batch)
        ]
        figures[name] = {
            "kind": index.kind,
            "items": len(index),
            "width": index.width,
            "bytes_per_item": round(size / len(index), 1),
            "recall": {f"@{k}": recall(index, vectors, k=k) for k in settings.k},
            "single": asdict(_latency(index, np.split(vectors, len(vectors)), settings.k[0])),
            "batched": asdict(_latency(index, batches, settings.k[0])),
        }
        advance(note=name)
    return figures


def recall(index: DomainIndex, vectors: Floats, *, k: int) -> float:
    """Return the share of the true k best rows that a search finds, over queries (B, D)."""
    found = index.search([Query(vector, k) for vector in vectors])
    truth = exact_top(index.item_table, vectors, k)
    hits = sum(
        len(np.intersect1d(answer.rows, rows)) for answer, rows in zip(found, truth, strict=True)
    )
    return hits / truth.size


def exact_top(table: Floats, vectors: Floats, k: int) -> Rows:
    """Find the true k best rows, in order, by numpy alone: table (V + 1, D), (B, D) -> (B, k).

    Where there are fewer than k items, (B, V).
    """
    items = len(table) - 1
    count = min(k, items)
    block = max(1, _SCORES // items)
    tops = [
        _best_of(scores, count)
        for first in range(0, len(vectors), block)
        for scores in _all_scores(table, vectors[first : first + block])
    ]
    return np.stack(tops)


def _all_scores(table: Floats, vectors: Floats) -> Floats:
    """Score all items in float64, rounded at the end -> (B, V), row 1 first."""
    wide = vectors.astype(np.float64)
    scores = np.empty((len(vectors), len(table) - 1), np.float32)
    for first in range(0, len(table) - 1, _ITEMS):
        part = table[1 + first : 1 + first + _ITEMS].astype(np.float64)
        scores[:, first : first + _ITEMS] = wide @ part.T
    return scores


def _best_of(scores: Floats, count: int) -> Rows:
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= cut)
    order = np.lexsort((places, -scores[places]))[:count]
    return (places[order] + 1).astype(np.int32)


def _latency(index: DomainIndex, batches: Sequence[Floats], k: int) -> Latency:
    asked = [[Query(vector, k) for vector in batch] for batch in batches]
    index.search(asked[0])  # the first search pays for what is loaded lazily
    taken = []
    for queries in asked:
        begun = time.perf_counter()
        index.search(queries)
        taken.append(time.perf_counter() - begun)
    p50, p95, p99 = (np.quantile(taken, (0.5, 0.95, 0.99)) * 1e3).tolist()
    rate = sum(len(batch) for batch in batches) / sum(taken)
    return Latency(round(p50, 4), round(p95, 4), round(p99, 4), round(rate, 1))
