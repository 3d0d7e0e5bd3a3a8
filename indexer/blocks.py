"""The best products of many queries with all items, by numpy: block after block of the table.

A matrix product of a block is quick; to sort its products would not be. So each query has a bar: as
many products as are wanted are known to reach it, and what stays below is passed over. Bars come
from the largest products of groups of items, and rise as the blocks go by; what reaches them is
little, and sorted at the end.

Shapes: B queries, V items, D width, G groups, N products that reached a bar; row 0 is padding.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places, Rows

_ROWS = 1 << 13
"""Rows of a block: 256 queries' products with them are 8 MB, which stay close to the core."""
_QUERIES = 256
"""Queries at a time."""
_GROUPS = 1 << 9
"""Groups of items, at least; twice the products wanted, where that is more."""
_WORD = 8  # flags that are looked at together


def best_products(table: Floats, vectors: Floats, count: int) -> tuple[Floats, Rows]:
    """Find the `count` best rows for each query.

    Args:
        table: Item table, (V + 1, D).
        vectors: Queries, (B, D).
        count: From 1 to V.

    Returns:
        Float32 products descending and their rows, both (B, count). Which of several equal products
        at the cut are among them is left open.
    """
    parts = [
        _best(table, vectors[first : first + _QUERIES], count)
        for first in range(0, len(vectors), _QUERIES)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _best(table: Floats, vectors: Floats, count: int) -> tuple[Floats, Rows]:
    queries = len(vectors)
    groups = _GROUPS
    while groups < 2 * count:
        groups *= 2
    tops = np.full((groups, queries), -np.inf, np.float32)
    bars = tops[0].copy()
    width = min(_ROWS, -(-(len(table) - 1) // _WORD) * _WORD)
    columns = np.ascontiguousarray(vectors.T)  # a block's rows times these is the quicker way round
    products = np.zeros((width, queries), np.float32)
    above = np.empty(products.shape, np.bool_)
    owners: list[Places] = []
    rows: list[Places] = []
    kept: list[Floats] = []
    for block, first in enumerate(range(1, len(table), width)):
        part = table[first : first + width]
        size = len(part)
        np.matmul(part, columns, out=products[:size])
        if block & (block - 1) == 0:  # at 0, 1, 2, 4, 8, ...: later ones raise a bar less and less
            _raise(tops, products[:size])
            cut = groups - count
            bars = np.partition(tops.T, cut, axis=1)[:, cut]
        _compare(products, bars, above)
        above[size:] = False
        row, owner = _marked(above)
        owners.append(owner)
        rows.append(row + first)
        kept.append(products[row, owner])
    return _sorted(
        np.concatenate(owners), np.concatenate(rows), np.concatenate(kept), (queries, count)
    )


def _raise(tops: Floats, products: Floats) -> None:
    """Raise the largest product of each group (G, B) by those of a block; its groups take turns."""
    groups = len(tops)
    whole = len(products) // groups * groups
    if whole:
        grouped = products[:whole].reshape(-1, *tops.shape)
        np.maximum(tops, grouped.max(axis=0), out=tops)
    rest = products[whole:]
    head = tops[: len(rest)]
    np.maximum(head, rest, out=head)


def _compare(products: Floats, bars: Floats, above: NDArray[np.bool_]) -> None:
    """Flag the products of a block (N, B) that reach the bars (B,), `_WORD` rows at a time.

    numpy begins anew for each row, which takes longer than to compare the few queries of one.
    """
    shape = (len(products) // _WORD, _WORD * len(bars))
    np.greater_equal(products.reshape(shape), np.tile(bars, _WORD), out=above.reshape(shape))


def _marked(above: NDArray[np.bool_]) -> tuple[Places, Places]:
    """Find the few flags that are set -> their rows and columns, (N,) each, row after row."""
    words = np.flatnonzero(above.reshape(-1).view(np.uint64))
    flags = np.flatnonzero(above.reshape(-1, _WORD)[words])
    row, column = np.divmod(words[flags // _WORD] * _WORD + flags % _WORD, above.shape[1])
    return row, column


def _sorted(
    owners: Places, rows: Places, products: Floats, shape: tuple[int, int]
) -> tuple[Floats, Rows]:
    """Put each query's best products first: (N,) of all queries -> (B, count)."""
    queries, count = shape
    order = np.argsort(owners, kind="stable")
    owners = owners[order]
    sizes = np.bincount(owners, minlength=queries)
    columns = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    best = np.full((queries, sizes.max()), -np.inf, np.float32)
    best_rows = np.zeros(best.shape, np.int32)
    best[owners, columns] = products[order]
    best_rows[owners, columns] = rows[order]
    if best.shape[1] > count:
        chosen = np.argpartition(best, best.shape[1] - count, axis=1)[:, -count:]
        best = np.take_along_axis(best, chosen, axis=1)
        best_rows = np.take_along_axis(best_rows, chosen, axis=1)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(best_rows, order, axis=1)
