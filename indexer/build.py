"""From a bundle to a published release."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from indexer.attributes import DomainAttributes, look_up_attributes
from indexer.candidates import CandidateSet, look_up
from indexer.choice import choose
from indexer.milvus_build import NewCollections, building
from indexer.placement import Device, index_device
from indexer.publish import publish
from indexer.release import BUNDLE, Release, add_index, finish_release
from indexer.sample import OF_USERS, Sample, sample_of
from indexer.spec import IndexSettings
from indexer.store import Store
from indexer.trial import try_out
from model.bundle import FORMAT, KIND, Bundle, DomainTables
from model.console import Advance
from model.errors import BadSettingError, NotFoundError
from model.files import MANIFEST, publishing, read_manifest, writing

_SEED = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """Files of what a release holds beside its bundle and indexes."""

    candidates: Mapping[str, Path] = field(default_factory=dict)
    """Of candidate sets, one item id a line, by the set's name."""
    attributes: Mapping[str, Path] = field(default_factory=dict)
    """Tables of attributes, by domain; see `model.data.attribute_file`."""


_NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True)
class Built:
    """What a build published."""

    folder: Path
    digest: str
    bundle: Bundle
    """The bundle it was built from."""
    kinds: Mapping[str, str]
    """Kind of index, by domain."""
    without_users: tuple[str, ...]
    """Domains that were tried with queries made up from items: the bundle holds none of users."""
    sets: tuple[CandidateSet, ...]
    attributes: tuple[DomainAttributes, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Making:
    """Where indexes are made."""

    device: Device
    bundle: str
    """Digest of the bundle."""
    collections: NewCollections


def steps(bundle: Bundle) -> int:
    """Count the steps a build of this bundle reports."""
    return 2 * len(bundle.domains)


def build(
    bundle: Bundle,
    store: Store,
    *,
    settings: IndexSettings,
    extras: Extras = _NO_EXTRAS,
    advance: Advance,
    activate: bool = True,
) -> Built:
    """Build a release of a bundle and publish it; on any failure the store stays as it was.

    Args:
        bundle: The bundle, its files checked.
        store: Where it is published.
        settings: The kind of index, and where it is tried.
        extras: What else it is to hold.
        advance: Called once for each of `steps`.
        activate: Whether `LATEST` is to name the release.

    Raises:
        BadDataError: If a file of candidates or attributes cannot be used.
        NotFoundError: If attributes are given for a domain that the bundle does not have.
        BadSettingError: If the root lies inside the bundle.
        BadArtifactError: If the finished release does not read or answer as it must, or an
            approximate index finds too little.
        UnavailableDeviceError: If `cuda` is asked for and cannot be used.
        UnavailableIndexError: If Milvus is to keep the index and does not answer.
    """
    started, root = time.perf_counter(), store.root
    if root.resolve().is_relative_to(bundle.folder.resolve()):
        raise BadSettingError(f"the release root {root} lies inside the bundle {bundle.folder}")
    device = index_device(settings.device, settings.gpus)
    sets = tuple(look_up(name, path, bundle.domains) for name, path in extras.candidates.items())
    tables_of_attributes = _attributes(bundle, extras.attributes, settings.max_attribute_values)
    samples = {each.name: sample_of(each, settings.queries, seed=_SEED) for each in bundle.domains}
    with building(store) as (work, collections):
        making = _Making(device, bundle.digest, collections)
        with publishing(work / "release") as folder:
            _copy_bundle(bundle, folder / BUNDLE)
            for tables in bundle.domains:
                kind = _add_index(folder, tables, samples[tables.name], settings, making)
                advance(note=f"{tables.name} {kind}")
            digest = finish_release(folder, bundle, sets, tables_of_attributes)
        release = Release.read(work / "release", device=device, milvus=store.milvus)
        try_out(release, samples, settings, advance)
        place = publish(root, work / "release", digest, activate=activate)
    return Built(
        folder=place,
        digest=digest,
        bundle=bundle,
        kinds={name: index.kind for name, index in release.indexes.items()},
        without_users=tuple(name for name, each in samples.items() if each.are != OF_USERS),
        sets=sets,
        attributes=tables_of_attributes,
        seconds=time.perf_counter() - started,
    )


def _add_index(
    folder: Path, tables: DomainTables, sample: Sample, settings: IndexSettings, making: _Making
) -> str:
    """Make the index of a domain and write what a release folder holds of it -> its kind."""
    if settings.kind == "milvus":
        return making.collections.add(folder, tables, making.bundle, sample, settings).kind
    chosen = choose(tables, sample, settings, making.device)
    add_index(folder, tables.name, chosen.spec, chosen.index)
    return chosen.spec.kind


def _attributes(
    bundle: Bundle, files: Mapping[str, Path], most_values: int
) -> tuple[DomainAttributes, ...]:
    domains = {tables.name: tables for tables in bundle.domains}
    for name in files:
        if name not in domains:
            raise NotFoundError(f"attributes of {name!r}: the bundle has {', '.join(domains)}")
    return tuple(
        look_up_attributes(domains[name], path, most_values=most_values)
        for name, path in files.items()
    )


def _copy_bundle(bundle: Bundle, place: Path) -> None:
    """Copy the files that the bundle's manifest lists, and it."""
    manifest = read_manifest(bundle.folder, kind=KIND, format_number=FORMAT)
    for name in [*manifest["files"], MANIFEST]:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing(target):
            shutil.copyfile(bundle.folder / name, target)
