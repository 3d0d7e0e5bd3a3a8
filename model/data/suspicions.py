"""Signs that logs are not what they should be: common items, users and items swapped, repeats."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from model.data.dataset import HELD_OUT
from model.data.histories import Histories, shared_places
from model.data.sources.amazon import ITEM_SHAPE, USER_SHAPE

_MOSTLY = 0.5
_TAKEN_AGAIN = 0.05  # share of the held-out items
_MANY_ITEMS = 20  # items a user; logs of taste have far more users than that says


def suspicions(names: Sequence[str], domains: Sequence[Histories]) -> list[str]:
    """Return warnings about two prepared domains, in a fixed order."""
    first, second = domains
    items = len(shared_places(first.item_ids, second.item_ids))
    warnings = []
    if items:
        warnings.append(
            f"{names[0]} and {names[1]} share {items} item ids: one event may stand in both domains"
            " and a held-out item of one in the history of the other; remove them from the logs"
        )
    common_users = _common(first.user_ids, second.user_ids)
    if _common(first.item_ids, second.item_ids) > common_users:
        warnings.append(
            f"{names[0]} and {names[1]} have more of their item ids in common than of their user"
            " ids; users and items may be swapped in both"
        )
    crossed = max(
        _common(first.user_ids, second.item_ids), _common(first.item_ids, second.user_ids)
    )
    if crossed > max(common_users, _common(first.item_ids, second.item_ids)):
        warnings.append(
            "user ids of one domain are item ids of the other;"
            f" users and items may be swapped in {names[0]} or in {names[1]}"
        )
    warnings += [
        f"{name}: {sign}; users and items may be swapped"
        for name, domain in zip(names, domains, strict=True)
        for sign in _signs_of_swap(domain)
    ]
    for name, domain in zip(names, domains, strict=True):
        share = _taken_again(domain)
        if share > _TAKEN_AGAIN:
            warnings.append(
                f"{name}: {share:.0%} of the users asked about had their last item before; what one"
                " has is never recommended: full ranking counts these as misses, sampled does not"
            )
    return warnings


def _taken_again(domain: Histories) -> float:
    """Return the share of the users asked about whose last item stands in their history before."""
    sequences = domain.sequences
    last = sequences.rows[sequences.ends - 1]  # every user has a row
    users = np.repeat(np.arange(len(last)), sequences.lengths)
    times = np.bincount(users, weights=sequences.rows == last[users])
    asked = sequences.lengths > HELD_OUT
    return float((times[asked] > 1).mean()) if asked.any() else 0.0


def _common(some: pl.Series, others: pl.Series) -> float:
    """Return the share of the shorter series' ids that stand in both."""
    return len(shared_places(some, others)) / min(len(some), len(others))


def _signs_of_swap(domain: Histories) -> list[str]:
    signs = []
    if _share(domain.user_ids, ITEM_SHAPE) > _MOSTLY < _share(domain.item_ids, USER_SHAPE):
        signs.append("user ids look like Amazon items and item ids like Amazon users")
    users, items = len(domain.user_ids), len(domain.item_ids)
    if items > _MANY_ITEMS * users:
        signs.append(f"{items} items for {users} users")
    return signs


def _share(ids: pl.Series, shape: str) -> float:
    return int(ids.str.contains(shape).sum()) / len(ids)
