"""What answers would change: two releases beside each other, before one takes the other's place.

Shapes: B queries, D width.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from indexer.query import Query
from indexer.release import Release
from indexer.sample import OF_USERS, sample_of
from indexer.search import DomainIndex
from model.arrays import Floats
from model.bundle import DomainTables
from model.console import Advance
from model.data.vocabulary import PADDING
from model.settings import Settings


class DiffSettings(Settings):
    """What two releases are compared by."""

    k: Annotated[int, Field(ge=1, le=1000)] = 10
    """Items of an answer that are compared."""

    users: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Users of a domain whose answers are compared, at most."""


def steps(old: Release, new: Release) -> int:
    """Count the steps that comparing two releases reports."""
    return len(old.indexes.keys() | new.indexes.keys())


def diff(
    old: Release, new: Release, settings: DiffSettings, *, advance: Advance
) -> dict[str, dict[str, Any]]:
    """Compare two releases -> plain values, by domain, those of the new release first.

    For a domain that both have: `items` and `kind` of both, how many items were `added` and
    `removed`, what `popularity` changed by (the sum over all items of the change of their share,
    0 to 2), and the mean `overlap` of the best k items of some users, 0 to 1, or why that cannot
    be told. For another: which of the two has it (`only_in`).

    Args:
        old: A release.
        new: Another.
        settings: What to compare.
        advance: Called once for each of `steps`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in [*new.indexes, *(name for name in old.indexes if name not in new.indexes)]:
        if name not in new.indexes or name not in old.indexes:
            found[name] = {"only_in": "new" if name in new.indexes else "old"}
        else:
            before, after = old.bundle.domain(name), new.bundle.domain(name)
            found[name] = {
                "items": _both(len(before.vocabulary), len(after.vocabulary)),
                "kind": _both(old.indexes[name].kind, new.indexes[name].kind),
                "added": int((before.vocabulary.rows(after.vocabulary.ids) == PADDING).sum()),
                "removed": int((after.vocabulary.rows(before.vocabulary.ids) == PADDING).sum()),
                "popularity": _popularity_change(before, after),
                "overlap": _overlap(old, new, name, settings),
            }
        advance(note=name)
    return found


def _both(old: object, new: object) -> dict[str, object]:
    return {"old": old, "new": new}


def _popularity_change(before: DomainTables, after: DomainTables) -> float:
    rows = after.vocabulary.rows(before.vocabulary.ids)
    shares = np.zeros(len(after.popularity))
    shares[rows] = before.popularity[1:]
    shares[PADDING] = 0
    gone = before.popularity[1:][rows == PADDING].sum(dtype=np.float64)
    return float(np.abs(shares - after.popularity).sum() + gone)


def _overlap(old: Release, new: Release, name: str, settings: DiffSettings) -> dict[str, Any]:
    """Compare what the same users get -> `mean` and `users`, or `unknown`, the reason."""
    before, after = old.bundle.domain(name), new.bundle.domain(name)
    if before.queries is None or after.queries is None:
        return {"unknown": "a release keeps no users' preference vectors"}
    if old.dataset != new.dataset or len(before.queries) != len(after.queries):
        return {"unknown": "the releases keep preference vectors of different users"}
    vectors = [sample_of(each, settings.users, seed=0) for each in (before, after)]
    if any(each.are != OF_USERS for each in vectors):
        return {"unknown": "the releases keep one user's preference vector"}
    tops = [
        _best_ids(index, each.held_out, settings.k)
        for index, each in zip((old.indexes[name], new.indexes[name]), vectors, strict=True)
    ]
    shares = [
        len(one & other) / max(len(one), len(other)) for one, other in zip(*tops, strict=True)
    ]
    return {"mean": float(np.mean(shares)), "users": len(shares)}


def _best_ids(index: DomainIndex, vectors: Floats, k: int) -> list[set[str]]:
    found = index.search([Query(vector, k) for vector in vectors])
    return [set(index.vocabulary.ids.take(each.rows - 1)) for each in found]


def diff_lines(figures: Mapping[str, Any]) -> list[str]:
    """Lay out what was found, as `recguru indexer diff --json` gives it, as one table."""
    domains, k = figures["domains"], figures["settings"]["k"]
    lines = [f"{which} {figures[which]}" for which in ("old", "new")]
    both = {name: each for name, each in domains.items() if "only_in" not in each}
    wide = max([len("domain"), *map(len, both)])
    overlap = f"same of top {k}"
    lines.append(
        f"{'domain':{wide}} {'items old':>10} {'new':>10} {'added':>8} {'removed':>8}  "
        f"{'index old':10} {'new':10} {overlap:>15} {'users':>6} {'popularity L1':>14}"
    )
    for name, each in both.items():
        same = each["overlap"]
        mean = "?" if "unknown" in same else f"{same['mean']:.4f}"
        lines.append(
            f"{name:{wide}} {each['items']['old']:10,} {each['items']['new']:10,} "
            f"{each['added']:8,} {each['removed']:8,}  {each['kind']['old']:10} "
            f"{each['kind']['new']:10} {mean:>15} {same.get('users', 0):6,} "
            f"{each['popularity']:14.4f}"
        )
    lines += [
        f"{name}: {each['overlap']['unknown']}: how many items stay cannot be told"
        for name, each in both.items()
        if "unknown" in each["overlap"]
    ]
    lines += [
        f"{name}: only in the {each['only_in']} release"
        for name, each in domains.items()
        if "only_in" in each
    ]
    return lines
