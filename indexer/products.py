"""Inner products of queries with some rows of an item table, and how far float32 ones may be off.

Shapes: B queries, N rows, V items, D width; row 0 is padding.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places, Rows

_GATHERED = 1 << 16  # rows gathered at a time: 16 MB at width 64, whatever the number of candidates
_STEP = float(np.finfo(np.float32).eps)
_SMALLEST = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


def rough_products(table: Floats, vector: Floats, rows: Rows) -> Floats:
    """Multiply in float32: table (V + 1, D), vector (D,), rows (N,) -> (N,)."""
    products = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _GATHERED):
        part = slice(first, first + _GATHERED)
        # A dot product a row, unlike a matrix product, starts no threads that fight for the cores.
        np.vecdot(table.take(rows[part], axis=0), vector, out=products[part])
    return products


def exact_products(table: Floats, vector: Floats, rows: Rows) -> Floats:
    """Multiply in float64 and round once: table (V + 1, D), vector (D,), rows (N,) -> (N,).

    The result depends on nothing but the two vectors: not on the row's place, on what else is in
    the batch, nor on the device that found the row. Equal vectors therefore score equal. Beyond the
    range of float32 it is the largest float32.
    """
    products = np.empty(len(rows), np.float64)
    wide = vector.astype(np.float64)
    for first in range(0, len(rows), _GATHERED):
        part = slice(first, first + _GATHERED)
        gathered = table.take(rows[part], axis=0).astype(np.float64)
        np.vecdot(gathered, wide, out=products[part])
    return rounded(products)


def paired_products(table: Floats, vectors: Floats, owners: Places, rows: Rows) -> Floats:
    """Multiply each row with the query it is proposed for, to the bits of `exact_products`.

    Args:
        table: (V + 1, D).
        vectors: Queries, (B, D).
        owners: The query of each row, (N,).
        rows: (N,).

    Returns:
        (N,).
    """
    products = np.empty(len(rows), np.float64)
    wide = vectors.astype(np.float64)
    for first in range(0, len(rows), _GATHERED):
        part = slice(first, first + _GATHERED)
        gathered = table.take(rows[part], axis=0).astype(np.float64)
        np.vecdot(gathered, wide.take(owners[part], axis=0), out=products[part])
    return rounded(products)


def rounded(products: NDArray[np.float64]) -> Floats:
    """Round to float32; what lies beyond its range becomes the largest that it holds."""
    return np.clip(products, -LARGEST, LARGEST).astype(np.float32)


def longest(table: Floats) -> float:
    """Return the length of the longest vector of a table (V + 1, D), rounded up."""
    squares = (
        np.vecdot(part, part).max()
        for first in range(0, len(table), _GATHERED)
        for part in [table[first : first + _GATHERED].astype(np.float64)]
    )
    return float(np.sqrt(max(squares))) * (1 + 1e-9)


def rounding_bound(width: int, lengths: float) -> float:
    """Bound how far a float32 inner product is from the true one.

    Summing D products in float32, in any order, is off by at most about D / 2 steps of float32
    times the lengths of both vectors (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1); this is twice that, and a little for numbers too small for full precision.

    Args:
        width: D.
        lengths: The product of both vectors' lengths.
    """
    return (width + 4) * (_STEP * lengths + _SMALLEST)
