"""What a search finds of what there is to find, told apart from how: truth by numpy alone.

Shapes: B queries, V items, D width; row 0 of a table is padding.
"""

import numpy as np
from numpy.typing import NDArray

from indexer.products import rounded
from indexer.search import DomainIndex, Query
from model.arrays import Floats, Rows

_ITEMS = 1 << 16  # items multiplied at a time, in float64: 32 MB at width 64
_SCORES = 1 << 25  # scores held at once: 128 MB


def recall(index: DomainIndex, vectors: Floats, *, k: int) -> float:
    """Return the share of the true k best rows that a search finds, over queries (B, D)."""
    return share_found(index, vectors, exact_top(index.item_table, vectors, k))


def share_found(index: DomainIndex, vectors: Floats, truth: Rows) -> float:
    """Return the share of the true best rows (B, k) that a search for queries (B, D) finds."""
    return float(shares_found(index, vectors, truth).mean())


def shares_found(index: DomainIndex, vectors: Floats, truth: Rows) -> NDArray[np.float64]:
    """Return for each query (B, D) the share of its true best rows (B, k) that a search finds."""
    found = index.search([Query(vector, truth.shape[1]) for vector in vectors])
    hits = [len(np.intersect1d(one.rows, rows)) for one, rows in zip(found, truth, strict=True)]
    shares: NDArray[np.float64] = np.array(hits) / truth.shape[1]
    return shares


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
    """Score all items in float64, rounded at the end as a search does -> (B, V), row 1 first."""
    wide = vectors.astype(np.float64)
    scores = np.empty((len(vectors), len(table) - 1), np.float32)
    for first in range(0, len(table) - 1, _ITEMS):
        part = table[1 + first : 1 + first + _ITEMS].astype(np.float64)
        scores[:, first : first + _ITEMS] = rounded(wide @ part.T)
    return scores


def _best_of(scores: Floats, count: int) -> Rows:
    cut = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= cut)
    order = np.lexsort((places, -scores[places]))[:count]
    return (places[order] + 1).astype(np.int32)
