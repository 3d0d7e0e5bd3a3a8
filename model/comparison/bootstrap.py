"""How sure a difference between two systems is: a paired bootstrap over users.

Shapes: Q users, D differences, R resamples.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

QUANTILES = (0.025, 0.975)
"""The ends of the 95 % interval."""

_DRAWS_TOGETHER = 4_000_000


def intervals(differences: Numbers, *, resamples: int, seed: int) -> Numbers:
    """Return the 95 % percentile interval of each mean difference, (D, Q) -> (D, 2).

    A resample draws Q users with replacement, the same for all differences.

    Args:
        differences: What each user adds to each difference; Q ≥ 1.
        resamples: R.
        seed: What the users are drawn with.
    """
    users = differences.shape[1]
    generator = np.random.default_rng(seed)
    together = max(1, _DRAWS_TOGETHER // users)
    means = []
    for first in range(0, resamples, together):
        size = min(together, resamples - first)
        drawn = generator.integers(0, users, (size, users))
        cells = (drawn + users * np.arange(size)[:, None]).ravel()
        times = np.bincount(cells, minlength=size * users).reshape(size, users)
        means.append(times.astype(np.float64) @ differences.T / users)
    ends: Numbers = np.quantile(np.concatenate(means), QUANTILES, axis=0).T
    return ends
