"""A release with other items, made from a release without training anything.

The networks stay as they are but for the rows by which they know items (`model.derived`). What
becomes of the indexes is in `indexer.renewal`; one that was appended to and then finds too little
is built anew. A collection of Milvus belongs to one release, so the new one always gets its own.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from indexer.change_files import ReadChanges, Role, read_changes
from indexer.milvus_build import NewCollections, building
from indexer.moved_sets import moved_attributes, moved_sets
from indexer.placement import index_device
from indexer.publish import publish
from indexer.release import BUNDLE, INDEX, Release, finish_release, seal_release
from indexer.renewal import How, Renewal, rebuild_index, renew_index
from indexer.sample import Sample, sample_of
from indexer.spec import IndexSettings, MilvusSpec, read_spec
from indexer.store import Store
from indexer.trial import shortfalls, try_out
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
from model.errors import BadArtifactError, BadDataError, NotFoundError
from model.files import MANIFEST, publishing

_SEED = 0


@dataclass(frozen=True, slots=True)
class UpdatedDomain:
    """What an update made of a domain."""

    kind: str
    """Of its index."""
    index: How
    """What was done for the index."""
    why: str
    """Why it was rebuilt; empty where it was not."""
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


@dataclass(frozen=True, slots=True)
class _Made:
    """A release that is finished and not published."""

    folder: Path
    digest: str
    bundle: Bundle
    renewals: Mapping[str, Renewal]


def steps(release: Release) -> int:
    """Count the steps an update of this release reports."""
    return 2 * len(release.indexes)


def update(
    release: Release,
    store: Store,
    files: Mapping[str, Mapping[Role, Path]],
    *,
    settings: IndexSettings,
    advance: Advance,
    replaces: str | None,
) -> Updated:
    """Make a release of another and publish it; on any failure the store stays as it was.

    Args:
        release: The release, its files checked; they are only read.
        store: Where the new one is published: the release root that holds this one too.
        files: What is to change, by domain; see `indexer.change_files`.
        settings: What the finished release must find, and where it is tried.
        advance: Called once for each of `steps`.
        replaces: The version that `LATEST` names, and whose place the new release takes there; None
            leaves `LATEST` as it is.

    Raises:
        BadDataError: If a file cannot be used, or nothing is to change.
        NotFoundError: If changes are given for a domain that the release does not have.
        BadArtifactError: If the finished release does not read or answer as it must.
        OverloadedError: If `LATEST` has come to name another version meanwhile.
        UnavailableDeviceError: If `cuda` is asked for and cannot be used.
        UnavailableIndexError: If Milvus is to keep the index and does not answer.
    """
    started, share = time.perf_counter(), settings.rebuild_share
    device = index_device(settings.device, settings.gpus)
    opened = partial(Release.read, device=device, milvus=store.milvus)
    read = _read(release.bundle, files)
    after = _derived(release.bundle, {name: each.changes for name, each in read.items()})
    sets, emptied = moved_sets(release.indexes, after.domains)
    attributes = moved_attributes(release.indexes, after.domains)
    with building(store) as (work, collections):
        with publishing(work / "release") as folder:
            bundle = _write_bundle(folder / BUNDLE, release.bundle, after)
            renewals = {}
            for name, each in after.domains.items():
                renewals[name] = _renewed(folder, release, each, bundle.digest, collections, share)
                advance(note=f"{name} {release.indexes[name].kind} {renewals[name].how}")
            digest = finish_release(folder, bundle, sets, attributes)
        made = _Made(work / "release", digest, bundle, renewals)
        made = _tried(made, release, after, settings, opened, advance)
        place = publish(
            store.root, made.folder, made.digest, activate=bool(replaces), replaces=replaces
        )
    return Updated(
        folder=place,
        digest=made.digest,
        base=release.version,
        bundle=bundle.digest,
        domains={
            name: _described(release.indexes[name].kind, made.renewals[name], each, read.get(name))
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


def _renewed(
    folder: Path,
    release: Release,
    derived: DerivedDomain,
    bundle: str,
    collections: NewCollections,
    rebuild_share: float,
) -> Renewal:
    """Write the index of a domain into the folder of a new release, or into a new collection."""
    name = derived.tables.name
    spec = read_spec(release.folder / INDEX / f"{name}.json")
    if isinstance(spec, MilvusSpec):
        collections.add_to_spec(folder, derived.tables, bundle, spec)
        return Renewal("rebuilt", "a collection belongs to one release")
    return renew_index(folder, release, derived, rebuild_share)


def _tried(
    made: _Made,
    release: Release,
    after: _Derived,
    settings: IndexSettings,
    opened: Callable[[Path], Release],
    advance: Advance,
) -> _Made:
    """Try a release; where what was appended to finds too little, build that anew and try again.

    `opened` reads a release.
    """
    samples = _samples(after, settings.queries)
    # Nothing keeps the release open: its indexes are mapped, and files of theirs may be replaced.
    problems = shortfalls(opened(made.folder), samples, settings, advance)
    for name, problem in problems.items():
        if made.renewals[name].how != "appended":
            raise BadArtifactError(f"{problem}; not published")
    if not problems:
        return made
    renewals = dict(made.renewals)
    place = made.folder.with_name("again")
    with publishing(place) as folder:
        for part in made.folder.iterdir():
            part.rename(folder / part.name)
        (folder / MANIFEST).unlink()
        for name, problem in problems.items():
            renewals[name] = rebuild_index(folder, release, after.domains[name], problem)
        digest = seal_release(folder, made.bundle)
    tried = {name: samples[name] for name in problems}
    advance(-len(tried))
    try_out(opened(place), tried, settings, advance)
    return _Made(place, digest, made.bundle, renewals)


def _described(
    kind: str, renewal: Renewal, derived: DerivedDomain, read: ReadChanges | None
) -> UpdatedDomain:
    changes = read.changes if read else ItemChanges()
    return UpdatedDomain(
        kind=kind,
        index=renewal.how,
        why=renewal.why,
        items=len(derived.tables.vocabulary),
        added=len(changes.added),
        removed=len(changes.removed),
        renamed=len(changes.renamed),
        cold=len(derived.cold),
        unknown_like=read.unknown_like if read else 0,
    )
