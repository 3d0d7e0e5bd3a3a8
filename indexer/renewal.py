"""The index of a domain whose items have changed: copied, appended to, or built anew.

An index says of positions nothing but that they are rows, and rows follow the ids: so in an index
that is appended to every entry gets a new position. From lists, what is removed is taken out. Links
must still lead through it; it moves behind the items, where no answer is taken from, until the
index is built anew.

Shapes: V items before, W after, N added, T entries behind the items, C columns of an index.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from indexer.builders import (
    build_index,
    check_index,
    fits,
    group_of,
    level_of,
    levelled,
    lists_of,
)
from indexer.faiss_api import FaissIndex
from indexer.faiss_changes import Positions, centres_of, change_links, change_lists
from indexer.index_file import read_index
from indexer.release import INDEX, Release, add_index
from indexer.spec import HnswSpec, IndexSpec, IvfPqSpec, ListedSpec, MilvusSpec, read_spec
from indexer.state import IndexState, is_appended, read_state, state_path
from model.arrays import Floats
from model.derived import DerivedDomain
from model.errors import BadArtifactError
from model.files import writing

How = Literal["copied", "appended", "rebuilt"]


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was done for the index of a domain."""

    how: How
    why: str
    """Why it was rebuilt; empty where it was not."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of the entries of an index."""

    moved: Positions
    """The position that each entry of an item has from now on, (V,); -1 for those removed."""
    vectors: Floats
    """What is added, (N, D)."""
    positions: Positions
    """The positions that these get, (N,)."""

    @property
    def gone(self) -> int:
        """Entries removed."""
        return int((self.moved < 0).sum())


def renew_index(
    folder: Path, release: Release, derived: DerivedDomain, rebuild_share: float
) -> Renewal:
    """Write the index of a domain, and what belongs to it, into the folder of a new release.

    Args:
        folder: That of the new release.
        release: The release it is made from.
        derived: The domain after the change.
        rebuild_share: See `indexer.spec.IndexSettings`.

    Raises:
        BadArtifactError: If the index of the release is damaged.
    """
    tables = derived.tables
    name, items = tables.name, len(tables.vocabulary)
    before = release.folder / INDEX / f"{name}.faiss"
    vectors = release.bundle.domain(name).item_table
    if np.array_equal(tables.item_table, vectors):
        for file in (before, before.with_suffix(".json"), state_path(before)):
            if file.exists():
                copy = folder / file.relative_to(release.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with writing(copy):
                    shutil.copyfile(file, copy)
        return Renewal("copied", "")
    spec = _spec_of(before.with_suffix(".json"))
    change = _change(derived, len(vectors) - 1)
    state = _next_state(before, spec, vectors[1:], change)
    why = _obstacle(spec, state, change, items, rebuild_share)
    if why or state is None:
        return rebuild_index(folder, release, derived, why)
    index = read_index(before, spec, vectors[1:], mapped=False)
    _append(index, spec, state, change)
    check_index(index, spec, tables.item_table[1:].shape, "the index", removed=state.removed)
    add_index(folder, name, spec, index, state)
    return Renewal("appended", "")


def rebuild_index(folder: Path, release: Release, derived: DerivedDomain, why: str) -> Renewal:
    """Build the index of a domain whole, to the spec it has, in place of one that may be there."""
    tables = derived.tables
    spec = _spec_of(release.folder / INDEX / f"{tables.name}.json")
    fitting = _fitting(spec, len(tables.vocabulary))
    index = build_index(fitting, tables.item_table[1:])
    there = folder / INDEX / f"{tables.name}.faiss"
    for file in (there, state_path(there)):  # not written over: it may be mapped
        file.unlink(missing_ok=True)
    add_index(folder, tables.name, fitting, index)
    return Renewal("rebuilt", why)


def _spec_of(path: Path) -> IndexSpec:
    spec = read_spec(path)
    if isinstance(spec, MilvusSpec):
        raise BadArtifactError(f"{path} is of an index in Milvus, which is always made anew")
    return spec


def _fitting(spec: IndexSpec, items: int) -> IndexSpec:
    """Part items into no more lists than there are items."""
    if not isinstance(spec, ListedSpec):
        return spec
    lists = min(spec.lists, items)
    return spec.model_copy(update={"lists": lists, "probes": min(spec.probes, lists)})


def _change(derived: DerivedDomain, items: int) -> _Change:
    positions = np.flatnonzero(derived.sources >= items)
    return _Change(
        moved=derived.moved[1:].astype(np.int64) - 1,
        vectors=derived.tables.item_table[1 + positions],
        positions=positions,
    )


def _next_state(path: Path, spec: IndexSpec, vectors: Floats, change: _Change) -> IndexState | None:
    """Say what state an index of vectors (V, D) is in after a change; None for kinds without one.

    Raises:
        BadArtifactError: If the state it is in is not that of an index of these vectors.
    """
    state = read_state(state_path(path), spec)
    if not is_appended(spec):
        return None
    if state is not None and not fits(state.level, vectors):
        raise BadArtifactError(f"{state_path(path)} tells of another index: its level is too low")
    return IndexState(
        level=state.level if state else level_of(vectors),
        changed=(state.changed if state else 0) + change.gone + len(change.positions),
        removed=(state.removed if state else 0)
        + (change.gone if isinstance(spec, HnswSpec) else 0),
    )


def _obstacle(
    spec: IndexSpec, state: IndexState | None, change: _Change, items: int, share: float
) -> str:
    """Say why an index is not to be appended to; empty if it is."""
    if state is None:
        return f"{spec.kind} is quick to build"
    if state.changed > share * items:
        return (
            f"{state.changed:,} entries were removed and added since it was built, more than "
            f"index.rebuild_share = {share:g} of {items:,} items"
        )
    if isinstance(spec, ListedSpec) and spec.lists > items:
        return f"{spec.lists:,} lists are too many for {items:,} items"
    if not fits(state.level, change.vectors):
        return "a new vector is longer than all were when it was built"
    return ""


def _append(index: FaissIndex, spec: IndexSpec, state: IndexState, change: _Change) -> None:
    group = group_of(spec, change.vectors.shape[1], index)
    vectors = levelled(change.vectors, group, state.level)
    if isinstance(spec, HnswSpec):
        order = _order(change, index.ntotal - len(change.moved))
        change_links(index, order, vectors, effort=spec.build_effort, threads=spec.build_threads)
    elif isinstance(spec, IvfPqSpec):
        change_lists(index, change.moved, vectors, change.positions, None)
    else:
        lists = lists_of(vectors, centres_of(index))
        change_lists(index, change.moved, vectors[:, :-1], change.positions, lists)


def _order(change: _Change, behind: int) -> Positions:
    """Say for each position which entry takes it: W items, then what is none any more.

    Args:
        change: What becomes of the V entries of items.
        behind: T, the entries that stand behind these.

    Returns:
        Places among the V entries of items, the T behind them and the N added: (V + T + N,).
    """
    items, added = len(change.moved), len(change.positions)
    kept = np.flatnonzero(change.moved >= 0)
    order = np.empty(len(kept) + added, np.int64)
    order[change.moved[kept]] = kept
    order[change.positions] = items + behind + np.arange(added)
    gone = np.flatnonzero(change.moved < 0)
    return np.concatenate([order, gone, items + np.arange(behind)])
