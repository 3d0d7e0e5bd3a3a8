"""Which settings of a search space are tried: the defaults, then seeded draws, none twice."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from model.comparison.settings import Values

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
    sizes = [len(values) for values in space.values()]
    order = np.random.default_rng(crc32(system.encode())).permutation(math.prod(sizes))
    trials: list[dict[str, Any]] = [{}]
    for cell in order:
        if len(trials) == count:
            break
        places = np.unravel_index(cell, sizes) if sizes else ()
        drawn = {
            key: values[int(place)]
            for (key, values), place in zip(space.items(), places, strict=True)
        }
        unlike = {key: value for key, value in drawn.items() if value != defaults.get(key)}
        if unlike and unlike not in trials:
            trials.append(unlike)
    return trials
