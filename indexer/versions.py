"""The versions in a release root, for people who look after it."""

from pathlib import Path
from typing import Any

from indexer.milvus_api import MilvusSettings
from indexer.milvus_build import check_collections, follow_latest
from indexer.publish import Canary, activate, canary, folder_of, latest, try_out, versions
from indexer.release import FORMAT, KIND
from model.errors import BadArtifactError, RecGuruError
from model.files import MANIFEST, check_files, read_manifest

_NO_MILVUS = MilvusSettings()
_DIGESTS = ("bundle", "dataset", "digest")


def described(root: Path) -> list[dict[str, Any]]:
    """Describe the versions in a root, the newest first.

    Returns:
        For each its `version`, whether it is `active` (LATEST names it), the `canary_share` of the
        calls that try it out (None where it is no canary), and either the digests of
        its `bundle`, `dataset` and release (`digest`) and its `bytes` on disk, or its `damage`.
        Files are not checked against their digests.

    Raises:
        NotFoundError: If there is no version: nothing was ever published here.
    """
    there = versions(root)
    if not there:
        latest(root)
    active, tried = _active(root), _canary(root)
    return [
        {
            "version": version,
            "active": version == active,
            "canary_share": tried.share if tried and tried.version == version else None,
            **_about(root / version),
        }
        for version in reversed(there)
    ]


def activate_checked(root: Path, version: str, milvus: MilvusSettings = _NO_MILVUS) -> str | None:
    """Point LATEST at a version whose files, and collections of Milvus, are all what they were.

    Returns:
        What it named before; None if that was no version.

    Raises:
        NotFoundError: If the root has no such version.
        BadArtifactError: If a file of the version is damaged; LATEST then stays as it is.
        BadSettingError, UnavailableIndexError: If its index is kept in Milvus, and it is not said
            where that runs, or it does not answer.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    before = _active(root)
    _check(root, version, milvus)
    activate(root, version)
    follow_latest(root, milvus)
    return before


def try_out_checked(root: Path, tried: Canary, milvus: MilvusSettings = _NO_MILVUS) -> None:
    """Let a version answer a share of the calls, checked as for `activate_checked`.

    Raises:
        NotFoundError: If the root has no such version, or no LATEST.
        BadArtifactError: If a file of the version is damaged; CANARY then stays as it is.
        BadSettingError: If LATEST names this very version, or it is not said where Milvus runs.
        UnavailableIndexError: If its index is kept in Milvus, which does not answer.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    _check(root, tried.version, milvus)
    try_out(root, tried)


def _check(root: Path, version: str, milvus: MilvusSettings) -> None:
    folder = folder_of(root, version)
    manifest = _manifest(folder)
    check_files(folder, manifest)
    check_collections(folder, str(manifest["bundle"]), milvus)


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a version.

    Raises:
        NotFoundError, BadArtifactError: If it is missing or damaged, or lacks a digest.
    """
    manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
    for key in _DIGESTS:
        if not isinstance(manifest.get(key), str):
            raise BadArtifactError(f"{folder / MANIFEST} is damaged: it names no {key}")
    return manifest


def _active(root: Path) -> str | None:
    try:
        return latest(root).name
    except RecGuruError:
        return None


def _canary(root: Path) -> Canary | None:
    try:
        return canary(root)
    except RecGuruError:
        return None


def _about(folder: Path) -> dict[str, Any]:
    try:
        manifest = _manifest(folder)
    except RecGuruError as error:
        return {"damage": str(error)}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {key: manifest[key] for key in _DIGESTS} | {"bytes": size}
