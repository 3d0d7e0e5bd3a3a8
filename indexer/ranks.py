"""Where given rows stand among those that are allowed: ties count against them.

Shapes: N allowed rows, R rows whose ranks are wanted, V items, D width; row 0 is padding.
"""

import numpy as np

from indexer.products import exact_products
from model.arrays import Floats, Rows


def ranked(wanted: Rows, rows: Rows, scores: Floats) -> tuple[Floats, Rows]:
    """Rank the rows wanted (R,) among rows (N,), ascending, by their scores -> scores, ranks."""
    own = np.zeros(len(wanted), np.float32)
    ranks = np.zeros(len(wanted), np.int32)
    if len(rows):
        places = rows.searchsorted(wanted)
        known = rows.take(places, mode="clip") == wanted
        own[known] = scores[places[known]]
        # A row scores as high as itself, which makes the 1 that ranks begin with.
        ranks[known] = [np.count_nonzero(scores >= score) for score in own[known]]
    return own, ranks


def ranked_by_products(
    table: Floats, vector: Floats, wanted: Rows, rows: Rows, products: Floats, *, slack: float
) -> tuple[Floats, Rows]:
    """Rank as `ranked` does by exact scores, of which few are made.

    Args:
        table: Item table, (V + 1, D).
        vector: The query, (D,).
        wanted: (R,).
        rows: (N,), ascending.
        products: Float32 products of the rows, (N,).
        slack: How far apart two products may be whose true order is the other way round.

    Returns:
        Scores and ranks, (R,) each.
    """
    own = np.zeros(len(wanted), np.float32)
    ranks = np.zeros(len(wanted), np.int32)
    known = np.flatnonzero(np.isin(wanted, rows))
    own[known] = exact_products(table, vector, wanted[known])
    for place in known.tolist():
        doubtful = np.abs(products - own[place]) <= slack
        exact = exact_products(table, vector, rows[doubtful])
        above = np.count_nonzero(products[~doubtful] > own[place])
        ranks[place] = above + np.count_nonzero(exact >= own[place])
    return own, ranks
