"""Which settings of a search space are tried: the defaults, then seeded draws, none twice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from model.comparison.settings import Values

_MOST_LISTED = 1_000_000

Space = Mapping[str, Sequence[Any]]
"""Values to try by dotted key; the search space is all their combinations."""


def draw_trials(space: Space, count: int, *, defaults: Values, system: str) -> list[dict[str, Any]]:
    """List what to try: the values that differ from the defaults, the first time none.

    With a larger `count` the list begins as with a smaller one. It is shorter than `count` where
    the space has fewer combinations.

    Args:
        space: The search space.
        count: Most settings wanted, the defaults included.
        defaults: The default values by dotted key.
        system: Its name; two systems with one space are not tried in the same order.
    """
    trials: list[dict[str, Any]] = [{}]
    for places in _drawn([len(values) for values in space.values()], system):
        if len(trials) == count:
            break
        drawn = {
            key: values[place] for (key, values), place in zip(space.items(), places, strict=True)
        }
        unlike = {key: value for key, value in drawn.items() if value != defaults.get(key)}
        if unlike and unlike not in trials:
            trials.append(unlike)
    return trials


def _drawn(sizes: Sequence[int], system: str) -> Iterator[list[int]]:
    """Draw a place in each list of values, every combination once; of very many a million draws."""
    generator = np.random.default_rng(crc32(system.encode()))
    combinations = math.prod(sizes)
    if combinations > _MOST_LISTED:
        yield from (generator.integers(sizes).tolist() for _ in range(_MOST_LISTED))
        return
    for cell in generator.permutation(combinations):
        yield [int(place) for place in np.unravel_index(cell, sizes)] if sizes else []
