"""The catalogue of one simulated domain: items in genres, in series, with skewed popularity.

Items stand in the order of the shelf: those of a genre together, the volumes of a series one after
the other.

Shapes: G genres, V items, K series, D width of a taste.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places
from model.data.simulate_titles import GENRES, series_titles

_GENRE_SKEW = 0.6
_SERIES_SKEW = 0.8
_NEW_SERIES = 0.45
"""Chance that the next item on the shelf begins a series of its own."""
_NEXT_VOLUME = 0.7
"""How popular a volume is in proportion to the one before it."""
_SPREAD = 1.5
"""How far a series stands from the centre of its genre, which has length 1."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of one domain in the order of the shelf."""

    name: str
    numbers: Places
    """The number in each item's id, (V,): a permutation of 0..V - 1 that hides the shelf."""
    titles: list[str]
    """V titles, all different."""
    genres: Places
    """(V,), ascending."""
    vectors: Floats
    """What each item is like, (V, D); a user's taste for it is the inner product."""
    popularity: NDArray[np.float64]
    """How likely an item is to be met by someone who looks for its genre, (V,)."""
    sequels: Places
    """The place of the next volume on the shelf, -1 where there is none, (V,)."""

    def item_ids(self) -> list[str]:
        """Spell the id of each item, in the order of the shelf."""
        digits = len(str(len(self.numbers) - 1))
        return [f"{self.name}-{number:0{digits}d}" for number in self.numbers.tolist()]


def genre_centres(width: int, generator: np.random.Generator) -> Floats:
    """Place the genres, which all domains share, in the space of tastes -> (G, D), of length 1."""
    centres = generator.standard_normal((len(GENRES), width)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres


def make_catalogue(
    name: str, items: int, centres: Floats, generator: np.random.Generator
) -> Catalogue:
    """Stock one domain.

    Args:
        name: The domain's name.
        items: V, at least one a genre.
        centres: Where the genres lie, (G, D).
        generator: Where every draw comes from.
    """
    genres = _genres(items, generator)
    begins = generator.random(items) < _NEW_SERIES
    begins[0] = True
    begins[1:] |= genres[1:] != genres[:-1]
    series = np.cumsum(begins) - 1  # (V,)
    volumes = np.arange(items) - np.flatnonzero(begins)[series] + 1
    series_genres = genres[begins]  # (K,)
    away = generator.standard_normal((len(series_genres), centres.shape[1])).astype(np.float32)
    vectors = centres[series_genres] + away * np.float32(_SPREAD / np.sqrt(centres.shape[1]))
    popularity = _series_popularity(series_genres, generator)[series]
    sequels = np.arange(1, items + 1)
    sequels[np.append(begins[1:], True)] = -1
    return Catalogue(
        name,
        generator.permutation(items),
        _titles(series_genres, series, volumes, generator),
        genres,
        vectors[series],
        popularity * _NEXT_VOLUME ** (volumes - 1.0),
        sequels,
    )


def _genres(items: int, generator: np.random.Generator) -> Places:
    shares = generator.permutation(np.arange(1, len(GENRES) + 1) ** -_GENRE_SKEW)
    more = generator.choice(len(GENRES), items - len(GENRES), p=shares / shares.sum())
    return np.sort(np.concatenate([np.arange(len(GENRES)), more]))


def _series_popularity(
    series_genres: Places, generator: np.random.Generator
) -> NDArray[np.float64]:
    order = np.lexsort((generator.random(len(series_genres)), series_genres))
    firsts = np.searchsorted(series_genres, series_genres)  # series stand by genre already
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    popularity: NDArray[np.float64] = np.power(places - firsts + 1.0, -_SERIES_SKEW)
    return popularity


def _titles(
    series_genres: Places, series: Places, volumes: Places, generator: np.random.Generator
) -> list[str]:
    names: list[str] = []
    for genre, count in zip(GENRES, np.bincount(series_genres, minlength=len(GENRES)), strict=True):
        names += series_titles(genre, int(count), generator)
    return [
        names[which] if volume == 1 else f"{names[which]}, vol. {volume}"
        for which, volume in zip(series.tolist(), volumes.tolist(), strict=True)
    ]
