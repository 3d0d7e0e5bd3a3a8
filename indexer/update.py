"""A release with other items, made from a release without training anything.

The networks stay as they are but for the rows by which they know items (`model.derived`). An index
whose vectors are all what they were is copied; any other is built anew from the item table, to the
spec it had, since an index says of positions nothing but that they are rows. A collection of Milvus
belongs to one release, so the new one always gets its own.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.builders import build_index
from indexer.change_files import ReadChanges, Role, read_changes
from indexer.engine import resolve_device
from indexer.milvus_api import MilvusSettings
from indexer.milvus_build import NewCollections, building
from indexer.moved_sets import moved_attributes, moved_sets
from indexer.publish import publish
from indexer.release import BUNDLE, INDEX, Release, add_index, finish_release
from indexer.sample import Sample, sample_of
from indexer.spec import IndexSettings, IndexSpec, ListedSpec, MilvusSpec, read_spec
from indexer.trial import try_out
from model.bundle import Bundle
from model.console import Advance
from model.derived import (
    DerivedDomain,
    ItemChanges,
    cold_items,
    derived_domain,
    derived_weights,
    is_cosine,
    write_derived,
)
from model.errors import BadDataError, NotFoundError
from model.files import publishing, writing

_SEED = 0
_NO_MILVUS = MilvusSettings()


@dataclass(frozen=True, slots=True)
class UpdatedDomain:
    """What an update made of a domain."""

    kind: str
    """Of its index."""
    items: int
    added: int
    removed: int
    renamed: int
    cold: int
    """Items of which nothing was learned, from earlier updates too."""
    unknown_like: int
    """Ids that items were said to be like, and that the domain does not have."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update published."""

    folder: Path
    digest: str
    base: str
    """The version it was made from."""
    bundle: str
    """Digest of its bundle."""
    domains: Mapping[str, UpdatedDomain]
    emptied: tuple[tuple[str, str], ...]
    """Candidate sets of which no item is left, as pairs of domain and name: they are no more."""
    seconds: float


@dataclass(frozen=True, slots=True)
class _Derived:
    """What becomes of a bundle."""

    domains: Mapping[str, DerivedDomain]
    weights: Mapping[str, NDArray[Any]]


def steps(release: Release) -> int:
    """Count the steps an update of this release reports."""
    return 2 * len(release.indexes)


def update(  # noqa: PLR0913  # one parameter an option
    release: Release,
    root: Path,
    files: Mapping[str, Mapping[Role, Path]],
    *,
    settings: IndexSettings,
    advance: Advance,
    replaces: str | None,
    milvus: MilvusSettings = _NO_MILVUS,
) -> Updated:
    """Make a release of another and publish it; on any failure the root stays as it was.

    Args:
        release: The release, its files checked; they are only read.
        root: The release root.
        files: What is to change, by domain; see `indexer.change_files`.
        settings: What the finished release must find, and where it is tried.
        advance: Called once for each of `steps`.
        replaces: The version that `LATEST` names, and whose place the new release takes there; None
            leaves `LATEST` as it is.
        milvus: Where Milvus runs, for an index that is kept there.

    Raises:
        BadDataError: If a file cannot be used, or nothing is to change.
        NotFoundError: If changes are given for a domain that the release does not have.
        BadArtifactError: If the finished release does not read or answer as it must.
        OverloadedError: If `LATEST` has come to name another version meanwhile.
        UnavailableDeviceError: If `cuda` is asked for and cannot be used.
        UnavailableIndexError: If Milvus is to keep the index and does not answer.
    """
    started = time.perf_counter()
    device = resolve_device(settings.device)
    read = _read(release.bundle, files)
    after = _derived(release.bundle, {name: each.changes for name, each in read.items()})
    sets, emptied = moved_sets(release.indexes, after.domains)
    attributes = moved_attributes(release.indexes, after.domains)
    samples = _samples(after, settings.queries)
    with building(root, milvus) as (work, collections):
        with publishing(work / "release") as folder:
            bundle = _write_bundle(folder / BUNDLE, release.bundle, after)
            for name, each in after.domains.items():
                _add_index(folder, release, each, bundle.digest, collections)
                advance(note=f"{name} {release.indexes[name].kind}")
            digest = finish_release(folder, bundle, sets, attributes)
        finished = Release.read(work / "release", device=device, milvus=milvus)
        try_out(finished, samples, settings, advance)
        moves = replaces is not None
        place = publish(root, work / "release", digest, activate=moves, replaces=replaces)
    return Updated(
        folder=place,
        digest=digest,
        base=release.version,
        bundle=bundle.digest,
        domains={
            name: _described(finished.indexes[name].kind, each, read.get(name))
            for name, each in after.domains.items()
        },
        emptied=tuple(emptied),
        seconds=time.perf_counter() - started,
    )


def _read(bundle: Bundle, files: Mapping[str, Mapping[Role, Path]]) -> dict[str, ReadChanges]:
    """Read what is to change, by domain."""
    there = {tables.name: tables for tables in bundle.domains}
    for name in files:
        if name not in there:
            raise NotFoundError(f"changes of {name!r}: the release has {', '.join(there)}")
    cosine = is_cosine(bundle)
    read = {name: read_changes(there[name], each, cosine=cosine) for name, each in files.items()}
    if all(each.changes == ItemChanges() for each in read.values()):
        raise BadDataError("nothing is to change: no file names an item")
    return read


def _derived(bundle: Bundle, changes: Mapping[str, ItemChanges]) -> _Derived:
    cold = cold_items(bundle)
    domains = {
        each.name: derived_domain(each, changes.get(each.name, ItemChanges()), cold[each.name])
        for each in bundle.domains
    }
    return _Derived(domains, derived_weights(bundle, list(domains.values()), changes))


def _samples(after: _Derived, count: int) -> dict[str, Sample]:
    return {name: sample_of(each.tables, count, seed=_SEED) for name, each in after.domains.items()}


def _write_bundle(place: Path, bundle: Bundle, after: _Derived) -> Bundle:
    place.mkdir()
    write_derived(place, bundle, list(after.domains.values()), after.weights)
    return Bundle.read(place, verify=False)


def _add_index(
    folder: Path,
    release: Release,
    derived: DerivedDomain,
    bundle: str,
    collections: NewCollections,
) -> None:
    """Copy the index of a domain where its vectors are what they were, else build it anew."""
    tables = derived.tables
    before = release.folder / INDEX / f"{tables.name}.faiss"
    spec = read_spec(before.with_suffix(".json"))
    if isinstance(spec, MilvusSpec):
        collections.add_to_spec(folder, tables, bundle, spec)
    elif np.array_equal(tables.item_table, release.bundle.domain(tables.name).item_table):
        place = folder / INDEX
        place.mkdir(exist_ok=True)
        for file in (before, before.with_suffix(".json")):
            with writing(place / file.name):
                shutil.copyfile(file, place / file.name)
    else:
        fitting = _fitting(spec, len(tables.vocabulary))
        index = build_index(fitting, tables.item_table[1:])
        add_index(folder, tables.name, fitting, index)


def _fitting(spec: IndexSpec, items: int) -> IndexSpec:
    """Part items into no more lists than there are items."""
    if not isinstance(spec, ListedSpec):
        return spec
    lists = min(spec.lists, items)
    return spec.model_copy(update={"lists": lists, "probes": min(spec.probes, lists)})


def _described(kind: str, derived: DerivedDomain, read: ReadChanges | None) -> UpdatedDomain:
    changes = read.changes if read else ItemChanges()
    return UpdatedDomain(
        kind=kind,
        items=len(derived.tables.vocabulary),
        added=len(changes.added),
        removed=len(changes.removed),
        renamed=len(changes.renamed),
        cold=len(derived.cold),
        unknown_like=read.unknown_like if read else 0,
    )
