"""How long searches take.

Shapes: B queries, D width.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.search import DomainIndex, Query
from model.arrays import Floats


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a search took, and queries a second over all of them."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    queries_per_s: float


def latency(index: DomainIndex, vectors: Floats, k: int, *, batch: int, most_s: float) -> Latency:
    """Search for queries (B, D), `batch` at a time, until all are answered or the time is up."""
    batches = [vectors[first : first + batch] for first in range(0, len(vectors), batch)]
    asked = [[Query(vector, k) for vector in part] for part in batches]
    index.search(asked[0])  # the first search pays for what is loaded lazily
    taken: list[float] = []
    answered, started = 0, time.perf_counter()
    for queries in asked:
        begun = time.perf_counter()
        index.search(queries)
        ended = time.perf_counter()
        taken.append(ended - begun)
        answered += len(queries)
        if ended - started > most_s:
            break
    p50, p95, p99 = (np.quantile(taken, (0.5, 0.95, 0.99)) * 1e3).tolist()
    return Latency(round(p50, 4), round(p95, 4), round(p99, 4), round(answered / sum(taken), 1))


def least_seconds(
    index: DomainIndex, vectors: Sequence[Floats] | Floats, k: int, *, rounds: int
) -> NDArray[np.float64]:
    """Ask each query alone, several times over -> the seconds it took at its quickest, (B,).

    What else the machine does is so left out.
    """
    queries = [Query(vector, k) for vector in vectors]
    taken = np.full(len(queries), np.inf)
    for _ in range(rounds):
        for place, query in enumerate(queries):
            begun = time.perf_counter()
            index.search([query])
            taken[place] = min(taken[place], time.perf_counter() - begun)
    return taken
