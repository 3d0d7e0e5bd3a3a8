"""Exact scores: the inner product of preference vectors with every item of a domain (equation 11).

Shapes: B users, V items, D width; row 0 is padding.
"""

import numpy as np

from model.arrays import Floats


def exact_scores(table: Floats, vectors: Floats) -> Floats:
    """Score all items for each user: table (V + 1, D), vectors (B, D) -> (B, V + 1)."""
    scores: Floats = np.matmul(vectors, table.T)
    return scores
