"""Where given rows stand among those that are allowed: ties count against them.

Shapes: N allowed rows, R rows whose ranks are wanted, V items, D width; row 0 is padding.
"""

import numpy as np

from indexer.products import exact_products
from model.arrays import Flags, Floats, Places, Rows

_FEW = 8
"""Up to so many ranks are counted one by one; for more it is quicker to sort the scores once."""
_BINS = 1 << 16
"""So fine that few products share one with a score, so few that they stay in the cache."""


def ranked(wanted: Rows, rows: Rows, scores: Floats) -> tuple[Floats, Rows]:
    """Rank the rows wanted (R,) among rows (N,), ascending, by their scores -> scores, ranks."""
    own = np.zeros(len(wanted), np.float32)
    ranks = np.zeros(len(wanted), np.int32)
    if len(rows):
        places = rows.searchsorted(wanted)
        known = rows.take(places, mode="clip") == wanted
        own[known] = scores[places[known]]
        # A row scores as high as itself, which makes the 1 that ranks begin with.
        ranks[known] = _at_least(scores, own[known])
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
        products: Float32 products of the rows, finite, (N,).
        slack: How far apart two products may be whose true order is the other way round.

    Returns:
        Scores and ranks, (R,) each.
    """
    own = np.zeros(len(wanted), np.float32)
    ranks = np.zeros(len(wanted), np.int32)
    known = np.flatnonzero(np.isin(wanted, rows))
    if len(known):
        scores = own[known] = exact_products(table, vector, wanted[known])
        doubtful = _near(products, scores, slack)
        exact = exact_products(table, vector, rows[doubtful])
        # No row that is left stands so near a wanted one that rounding could have brought it past.
        ranks[known] = _at_least(exact, scores) + _at_least(products[~doubtful], scores)
    return own, ranks


def _at_least(scores: Floats, bounds: Floats) -> Places:
    """Count the scores (N,) that are as high as each bound (R,) or higher -> (R,)."""
    if len(bounds) <= _FEW:
        return np.array([np.count_nonzero(scores >= bound) for bound in bounds], np.int64)
    counts: Places = len(scores) - np.sort(scores).searchsorted(bounds)
    return counts


def _near(products: Floats, scores: Floats, slack: float) -> Flags:
    """Find products (N,) within the slack of any of the scores (R,), and some beyond it -> (N,).

    The products are put into bins, so that it takes as long for many scores as for one.
    """
    lowest, highest = products.min(), products.max()
    if lowest == highest:
        return np.ones(len(products), np.bool_)
    scale = np.float32((_BINS - 1) / (float(highest) - float(lowest)))

    def bins(numbers: Floats) -> Places:
        found: Places = ((np.clip(numbers, lowest, highest) - lowest) * scale).astype(np.int64)
        return found

    near = np.zeros(_BINS + 1, np.bool_)
    margin = np.float32(slack)
    for first, last in zip(bins(scores - margin), bins(scores + margin), strict=True):
        near[first : last + 1] = True
    return near[bins(products)]
