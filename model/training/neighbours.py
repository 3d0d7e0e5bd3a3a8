"""Which items an item is scored together with: those it is used near most.

Most items have a handful of users, too few to place them well; what stands near an item in many
histories says where it belongs. It is one step of the propagation over an item graph that LightGCN
(He et al., SIGIR 2020) takes several of, where items are scored alone. Training rows only.

Shapes: V items of a domain, K neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats
from model.data.dataset import Sequences
from model.training.near import near_pairs_by_item

SMOOTHING = 30.0
"""Rows added to those of every item, so that two rare items met once are not taken for alike."""
SHARE = 0.5
"""How much the neighbours count in the mean with the item itself."""


def likest_items(sequences: Sequences, items: int, count: int) -> tuple[NDArray[np.int64], Floats]:
    """Find the neighbours of every item and how much each counts.

    Two items are alike by the times they stand near each other, over the root of the product of
    the times each of them occurs; neighbours share `SHARE` in proportion to that.

    Args:
        sequences: The training rows.
        items: V; rows are from 1 to V.
        count: K, at least 1.

    Returns:
        The neighbours of each row, the likest first, 0 where there are fewer, (V + 1, K); and what
        each counts, (V + 1, K), which adds up to `SHARE`, or to 0 for a row that has none.
    """
    occurs = np.bincount(sequences.rows, minlength=items + 1) + SMOOTHING
    neighbours = np.zeros((items + 1, count), np.int64)
    shares = np.zeros((items + 1, count), np.float32)
    for pairs in near_pairs_by_item(sequences, items):
        likeness = pairs.counts / np.sqrt(occurs[pairs.left] * occurs[pairs.right])
        order = np.lexsort((pairs.right, -likeness, pairs.left))
        left, right, likeness = pairs.left[order], pairs.right[order], likeness[order]
        place = np.arange(len(left)) - np.searchsorted(left, left)  # among those of its item
        kept = place < count
        neighbours[left[kept], place[kept]] = right[kept]
        shares[left[kept], place[kept]] = likeness[kept]
    total = shares.sum(axis=1, keepdims=True)
    shares *= SHARE / np.maximum(total, np.finfo(np.float32).tiny)
    return neighbours, shares
