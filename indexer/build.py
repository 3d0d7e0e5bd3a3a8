"""From a bundle to a published release."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.candidates import CandidateSet, look_up
from indexer.engine import resolve_device
from indexer.measure import recall
from indexer.publish import publish, workspace
from indexer.release import BUNDLE, Release, write_release
from indexer.sample import preference_like
from indexer.spec import IndexSettings
from model.bundle import FORMAT, KIND, Bundle
from model.console import Advance
from model.errors import BadArtifactError, BadSettingError
from model.files import MANIFEST, publishing, read_manifest

_SEED = 0
_K = 10


@dataclass(frozen=True, slots=True)
class Built:
    """What a build published."""

    folder: Path
    digest: str
    bundle: Bundle
    """The bundle it was built from."""
    kind: str
    sets: tuple[CandidateSet, ...]
    seconds: float


def steps(bundle: Bundle) -> int:
    """Count the steps a build of this bundle reports."""
    return 2 * len(bundle.domains)


def build(
    bundle: Bundle,
    root: Path,
    *,
    settings: IndexSettings,
    candidates: Mapping[str, Path],
    advance: Advance,
    activate: bool = True,
) -> Built:
    """Build a release of a bundle and publish it; on any failure the root stays as it was.

    Args:
        bundle: The bundle, its files checked.
        root: The release root; made where it is missing.
        settings: The kind of index, and where it is tried.
        candidates: Files of candidate sets, one item id a line, by the set's name.
        advance: Called once for each of `steps`.
        activate: Whether `LATEST` is to name the release.

    Raises:
        BadDataError: If a candidate file cannot be used.
        BadSettingError: If the root lies inside the bundle.
        BadArtifactError: If the finished release does not read or answer as it must.
        UnavailableDeviceError: If `cuda` is asked for and cannot be used.
    """
    started = time.perf_counter()
    if root.resolve().is_relative_to(bundle.folder.resolve()):
        raise BadSettingError(f"the release root {root} lies inside the bundle {bundle.folder}")
    device = resolve_device(settings.device)
    sets = tuple(look_up(name, path, bundle.domains) for name, path in candidates.items())
    spec = settings.spec()
    with workspace(root) as work:
        with publishing(work / "release") as folder:
            _copy_bundle(bundle, folder / BUNDLE)
            digest = write_release(folder, bundle, spec, sets, advance=advance)
        release = Release.read(work / "release", device=device)
        _try_out(release, settings, advance)
        place = publish(root, work / "release", digest, activate=activate)
    return Built(place, digest, bundle, spec.kind, sets, time.perf_counter() - started)


def _copy_bundle(bundle: Bundle, place: Path) -> None:
    """Copy the files that the bundle's manifest lists, and it."""
    manifest = read_manifest(bundle.folder, kind=KIND, format_number=FORMAT)
    for name in [*manifest["files"], MANIFEST]:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, target)


def _try_out(release: Release, settings: IndexSettings, advance: Advance) -> None:
    """Ask the finished indexes and compare with exact search."""
    for name, index in release.indexes.items():
        vectors = preference_like(index.item_table, settings.probes, seed=_SEED)
        found = recall(index, vectors, k=_K)
        if found < 1:
            raise BadArtifactError(
                f"the index of {name} found {found:.2%} of what exact search finds; not published"
            )
        advance(note=f"{name} tried")
