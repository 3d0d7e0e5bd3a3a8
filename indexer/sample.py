"""Query vectors that look like preferences, where no users are at hand.

Shapes: B queries, V items, D width; row 0 of a table is padding.
"""

import numpy as np

from model.bundle import Floats

GROUP = 5
"""Items whose vectors one query is the mean of."""


def preference_like(item_table: Floats, count: int, *, seed: int) -> Floats:
    """Draw queries as means of random groups of items: table (V + 1, D) -> (B, D)."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(1, len(item_table), (count, GROUP))
    queries: Floats = item_table[rows].mean(axis=1, dtype=np.float32)
    return queries
