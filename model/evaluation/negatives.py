"""The sampled negatives of a question: items the user has nothing to do with.

A negative is drawn with probability proportional to its training frequency to the power 0.75,
without replacement, and is none of the user's rows, held-out ones included. An item that no
training row holds has probability 0 and is never drawn. Where fewer items remain than are asked
for, all of them are taken and the places left over stay 0.

Shapes: Q users, B users drawn for together, N negatives, M draws, V items; row 0 is padding.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays import Places, Rows
from model.data.dataset import Sequences

Weights = NDArray[np.float64]

_POWER = 0.75
_DRAWS_A_NEGATIVE = 2
_CELLS_TOGETHER = 8_000_000
"""Of the largest array; decides where blocks end, and so which draws a user gets."""


def negative_weights(training: Sequences, items: int) -> Weights:
    """Weigh each item by its training frequency to the power 0.75 -> (V + 1,); 0 for padding."""
    weights: Weights = np.bincount(training.rows, minlength=items + 1).astype(np.float64) ** _POWER
    return weights


def draw_negatives(
    weights: Weights, taken: Sequences, count: int, generator: np.random.Generator
) -> Rows:
    """Draw negatives for Q users, each user's in order of drawing.

    Draws with replacement come first, and those that repeat or belong to the user are passed over:
    that is drawing without replacement. Users this leaves short get the rest from what remains, in
    the order of exponential times whose rates are the weights, which is the same distribution.

    Args:
        weights: How likely each item is, (V + 1,), not negative; 0 for padding.
        taken: The rows each user must not get, Q lists.
        count: N, negatives a user.
        generator: Where the draws come from.

    Returns:
        (Q, N); 0 at the end where fewer than N items remain for a user.
    """
    drawn = np.zeros((len(taken), count), np.int32)
    if not weights.any():
        return drawn
    starts, lengths = taken.starts, taken.lengths
    cells = max(len(weights), _DRAWS_A_NEGATIVE * count)  # a user, of the largest array
    together = max(1, _CELLS_TOGETHER // cells)
    for first in range(0, len(taken), together):
        block = drawn[first : first + together]
        own = lengths[first : first + together]
        barred = taken.rows[starts[first] : starts[first] + int(own.sum())].astype(np.int64)
        owners = np.repeat(np.arange(len(block)), own)
        _draw_with_replacement(block, owners * len(weights) + barred, weights, generator)
        _draw_the_rest(block, (owners, barred), weights, generator)
    return drawn


def _draw_with_replacement(
    block: Rows, barred: Places, weights: Weights, generator: np.random.Generator
) -> None:
    """Fill `block` (B, N) from the left; `barred`: user * (V + 1) + row of what must not be in."""
    users, count = block.shape
    steps = np.cumsum(weights)
    uniform = generator.random((users, _DRAWS_A_NEGATIVE * count)) * steps[-1]  # (B, M)
    # Rounding may lift a product to the total itself, one past the last item that has a weight.
    rows = np.minimum(np.searchsorted(steps, uniform, side="right"), np.flatnonzero(weights)[-1])
    keys = (np.arange(users)[:, None] * len(weights) + rows).ravel()
    order = np.arange(keys.size)
    first_drawn = np.empty(users * len(weights), np.int64)  # written wherever it is read below
    first_drawn[keys[::-1]] = order[::-1]  # of equal keys the one written last, drawn first, stays
    first_drawn[barred] = -1
    fresh = (first_drawn[keys] == order).reshape(rows.shape)
    places = np.cumsum(fresh, axis=1)
    user, draw = np.nonzero(fresh & (places <= count))
    block[user, places[user, draw] - 1] = rows[user, draw]


def _draw_the_rest(
    block: Rows,
    barred: tuple[Places, Places],
    weights: Weights,
    generator: np.random.Generator,
) -> None:
    """Fill what is still 0 in `block` (B, N), as far as items remain; `barred`: users and rows."""
    count = block.shape[1]
    (short,) = np.nonzero(block[:, -1] == 0)
    if not len(short):
        return
    with np.errstate(divide="ignore"):
        mean_times = 1 / weights  # infinite where an item cannot be drawn
    times = np.full((len(block), len(weights)), np.inf)
    times[short] = generator.standard_exponential((len(short), len(weights))) * mean_times
    times[barred] = np.inf
    np.put_along_axis(times, block.astype(np.int64), np.inf, axis=1)
    order = np.argsort(times[short], axis=1)[:, :count]  # (short, at most N)
    left = np.isfinite(np.take_along_axis(times[short], order, axis=1))
    filled = np.count_nonzero(block[short], axis=1)
    user, draw = np.nonzero(left & (filled[:, None] + np.arange(order.shape[1]) < count))
    block[short[user], filled[user] + draw] = order[user, draw]
