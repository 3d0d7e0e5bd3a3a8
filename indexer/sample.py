"""Query vectors that an index is tuned, tried and measured with.

Shapes: B queries, V items, D width; row 0 of a table is padding.
"""

from dataclasses import dataclass

import numpy as np

from model.arrays import Floats
from model.bundle import DomainTables

GROUP = 5
"""Items whose vectors one query is the mean of, where the bundle holds no users' vectors."""

OF_USERS = "preference vectors of users that the bundle holds, none that tuned the index"
OF_ITEMS = f"means of {GROUP} random items' vectors of the domain, not of real users"
"""What the queries are; figures on real users' preference vectors may differ."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries in two halves: what is tuned with one is judged by the other."""

    tuning: Floats
    """(B, D)."""
    held_out: Floats
    """(B, D)."""
    are: str
    """`OF_USERS` or `OF_ITEMS`."""


def sample_of(tables: DomainTables, count: int, *, seed: int) -> Sample:
    """Take at most `count` queries for either half from a domain's users, else draw from items.

    Args:
        tables: The tables of the domain.
        count: Queries of a half, from 1.
        seed: Of the draw from items.
    """
    users = tables.queries
    if users is not None and len(users) > 1:
        return Sample(users[0::2][:count], users[1::2][:count], OF_USERS)
    drawn = preference_like(tables.item_table, 2 * count, seed=seed)
    return Sample(drawn[0::2], drawn[1::2], OF_ITEMS)


def preference_like(item_table: Floats, count: int, *, seed: int) -> Floats:
    """Draw queries as means of random groups of items: table (V + 1, D) -> (B, D)."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(1, len(item_table), (count, GROUP))
    # A sum of large numbers may leave the range of float32, their mean does not.
    queries: Floats = item_table[rows].mean(axis=1, dtype=np.float64).astype(np.float32)
    return queries
