"""What simulated users do: one taste each, seen through whatever catalogue is before them.

A user's next item is, by chance, the next volume of the series just touched, something else of the
genre just touched, or something of a genre drawn by taste. Within a genre a user meets a few items
by their popularity and takes, by taste, one not taken before.

Shapes: U users, T steps, G genres, V items, D width of a taste, P items met at a step.
"""

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places
from model.data.simulate_catalogue import Catalogue

SEQUEL = 0.4
"""Chance of going on with the next volume, where there is one that was not taken yet."""
SAME_GENRE = 0.1
"""Chance of staying in the genre just touched, where the series is not gone on with."""
SHORTEST = 3
"""Items of the shortest sequence, so that one remains for training."""
NOTHING = -1

_MET = 12
_FAVOURITES = 0.5
_GENRE_SHARPNESS = np.float32(6)
_ITEM_SHARPNESS = np.float32(8)
_LONGEST = 8
_DAY_S = 86_400
_FIRST_DAY_S = 1_514_764_800  # 2018-01-01 UTC
_DAYS_TO_START = 365
_DAYS_BETWEEN = 4.0


def draw_tastes(users: int, centres: Floats, generator: np.random.Generator) -> Floats:
    """Give each user a taste: a mix of few favourite genres, of length 1 -> (U, D)."""
    mixes = generator.standard_gamma(_FAVOURITES, (users, len(centres)), np.float32)
    mixes[np.arange(users), generator.integers(len(centres), size=users)] += np.float32(0.1)
    tastes: Floats = mixes @ centres
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    return tastes


def draw_lengths(users: int, mean: float, generator: np.random.Generator) -> Places:
    """Decide how many items each user takes: many few, few many; at least `SHORTEST` -> (U,)."""
    more = generator.standard_exponential(users) * (mean - SHORTEST)
    lengths = np.minimum(SHORTEST + np.round(more), _LONGEST * mean)
    return lengths.astype(np.int64)


def draw_times(lengths: Places, generator: np.random.Generator) -> Places:
    """Date the steps of users in unix seconds, ascending -> (U, T), T the longest length."""
    shape = (len(lengths), int(lengths.max(initial=0)))
    gaps = 60 + generator.standard_exponential(shape) * (_DAYS_BETWEEN * _DAY_S)
    starts = _FIRST_DAY_S + generator.random((len(lengths), 1)) * (_DAYS_TO_START * _DAY_S)
    return (starts + np.cumsum(gaps, axis=1)).astype(np.int64)


def draw_sequences(
    catalogue: Catalogue, tastes: Floats, lengths: Places, generator: np.random.Generator
) -> Places:
    """Let users take items step by step.

    Args:
        catalogue: What there is to take.
        tastes: (U, D).
        lengths: Steps of each user, (U,).
        generator: Where every draw comes from.

    Returns:
        Places on the shelf, (U, T); `NOTHING` after a user's last step and at the rare step at
        which all that was met had been taken before. No item comes twice in a row of it.
    """
    taken = np.full((len(lengths), int(lengths.max(initial=0))), NOTHING, np.int32)
    market = _Market(catalogue, tastes)
    order = np.argsort(-lengths, kind="stable")  # the users still active stand in front
    last = np.full(len(lengths), NOTHING, np.int64)
    for step in range(taken.shape[1]):
        users = order[: np.count_nonzero(lengths > step)]
        before = taken[users, :step]
        chosen = market.sequels(last[users], before, generator)
        looking = np.flatnonzero(chosen == NOTHING)
        genres = market.genres(users[looking], last[users[looking]], generator)
        chosen[looking] = market.meet(users[looking], genres, before[looking], generator)
        taken[users, step] = chosen
        found = chosen != NOTHING
        last[users[found]] = chosen[found]
    return taken.astype(np.int64)


class _Market:
    """A catalogue before the eyes of users with tastes."""

    def __init__(self, catalogue: Catalogue, tastes: Floats) -> None:
        self._catalogue = catalogue
        self._tastes = tastes
        sizes = np.bincount(catalogue.genres)
        self._ends = np.cumsum(sizes)  # where a genre's items end on the shelf, (G,)
        self._steps = np.cumsum(catalogue.popularity)  # (V,)
        centres = np.add.reduceat(catalogue.vectors, self._ends - sizes) / sizes[:, None]
        wishes = np.exp(_GENRE_SHARPNESS * (tastes @ centres.T)) * np.sqrt(sizes)
        self._wishes = np.cumsum(wishes / wishes.sum(axis=1, keepdims=True), axis=1)  # (U, G)

    def sequels(
        self, last: Places, before: NDArray[np.int32], generator: np.random.Generator
    ) -> Places:
        """Give the next volume to those who want it and did not take it yet, else `NOTHING`."""
        wanted = (generator.random(len(last)) < SEQUEL) & (last != NOTHING)
        sequels = np.where(wanted, self._catalogue.sequels[last], NOTHING)
        return np.where((before == sequels[:, None]).any(axis=1), NOTHING, sequels)

    def genres(self, users: Places, last: Places, generator: np.random.Generator) -> Places:
        """Decide in which genre each of these users looks."""
        stays = (generator.random(len(users)) < SAME_GENRE) & (last != NOTHING)
        drawn = generator.random((len(users), 1))
        # Rounding may leave the last step below 1.
        liked = np.minimum((drawn > self._wishes[users]).sum(axis=1), len(self._ends) - 1)
        return np.where(stays, self._catalogue.genres[last], liked)

    def meet(
        self,
        users: Places,
        genres: Places,
        before: NDArray[np.int32],
        generator: np.random.Generator,
    ) -> Places:
        """Let users take something new of what they meet in a genre, or `NOTHING`."""
        above = self._steps[self._ends[genres] - 1]
        below = np.append(0.0, self._steps[self._ends[:-1] - 1])[genres]
        drawn = below[:, None] + generator.random((len(users), _MET)) * (above - below)[:, None]
        met = np.searchsorted(self._steps, drawn, side="right")  # (U, P)
        met = np.minimum(met, self._ends[genres][:, None] - 1)
        liking = np.einsum("ud,upd->up", self._tastes[users], self._catalogue.vectors[met])
        liking = _ITEM_SHARPNESS * liking + generator.gumbel(size=met.shape)
        liking[(met[:, :, None] == before[:, None, :]).any(axis=2)] = -np.inf
        best = liking.argmax(axis=1)
        rows = np.arange(len(users))
        return np.where(np.isneginf(liking[rows, best]), NOTHING, met[rows, best])
