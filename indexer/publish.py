"""The release root: versions that appear whole, a pointer to the newest, nothing left lying about.

    <root>/<version>/            a release
    <root>/LATEST                name of the version to serve, replaced atomically
    <root>/CANARY                if there is one: a version that some calls try out, and their share
    <root>/.building-<random>/   a build at work, or the rest of a dead one; or a version that goes
    <root>/.lock                 held for moments by whoever changes what is in the root

A build holds a kernel lock on a file in its folder for as long as it lives, which a network file
system knows on every host, as it does not know locks on folders. Whichever way the build dies, the
lock goes with it, and the next one removes every such folder that it can lock itself.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from model.errors import BadArtifactError, BadSettingError, NotFoundError, OverloadedError
from model.files import try_lock, write_bytes_atomically

LATEST = "LATEST"
CANARY = "CANARY"
_LOCK = ".lock"
_WORK = ".building-"
_VERSION = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{12}")
_SHARE = re.compile(r"[0-9]+(\.[0-9]+)?(e-[0-9]+)?")
_MOMENT = "%Y%m%dT%H%M%S.%fZ"
_PATIENCE_S = 60.0
_PAUSE_S = 0.02

Forget = Callable[[Path], None]
"""Told of a folder with a release, or part of one, that is about to be removed."""


def latest(root: Path) -> Path:
    """Return the folder of the version that `LATEST` names.

    Raises:
        NotFoundError: If there is no `LATEST`: nothing was ever published here.
        BadArtifactError: If it names no version that is there.
    """
    pointer = root / LATEST
    try:
        name = pointer.read_bytes().decode("utf-8", "replace").removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"{root} holds no release: there is no {LATEST} in it; run recguru indexer build"
        ) from None
    except OSError as error:
        raise BadArtifactError(f"{pointer} cannot be read: {error.strerror}") from None
    if not _VERSION.fullmatch(name) or not _is_folder(root / name):
        raise BadArtifactError(f"{pointer} names {name!r}, which is no release in {root}")
    return root / name


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that some calls try out before `LATEST` names it."""

    version: str
    share: float
    """Of the calls that say whom they are for, 0 to 1."""


def canary(root: Path) -> Canary | None:
    """Return what `CANARY` names; None where there is no such file.

    Raises:
        BadArtifactError: If it names no version that is there, or no share from 0 to 1.
    """
    pointer = root / CANARY
    try:
        content = pointer.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadArtifactError(f"{pointer} cannot be read: {error.strerror}") from None
    version, _, share = content.removesuffix("\n").partition(" ")
    if not _VERSION.fullmatch(version) or not _is_folder(root / version):
        raise BadArtifactError(f"{pointer} names {version!r}, which is no release in {root}")
    if not _SHARE.fullmatch(share) or float(share) > 1:
        raise BadArtifactError(f"{pointer}: the share {share!r} is no number from 0 to 1")
    return Canary(version, float(share))


def versions(root: Path) -> list[str]:
    """List the versions in a root, oldest first; none where there is no such folder."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if _VERSION.fullmatch(path.name))


@contextmanager
def workspace(root: Path, *, forget: Forget | None = None) -> Iterator[Path]:
    """Give a folder in the root to build in, removed at the end; remove those of dead builds first.

    Args:
        root: The release root; made where it is missing.
        forget: Told of each folder of a dead build before it is removed.

    Raises:
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        _sweep(root, forget)
        place = Path(tempfile.mkdtemp(dir=root, prefix=_WORK))
        held = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield place
    finally:
        with suppress(FileNotFoundError):
            for path in place.iterdir():
                if path.name != _LOCK:
                    shutil.rmtree(path, ignore_errors=True)
        os.close(held)  # now: NFS keeps a file that is open, and with it the folder
        shutil.rmtree(place, ignore_errors=True)


def publish(
    root: Path,
    folder: Path,
    digest: str,
    *,
    activate: bool = True,
    replaces: str | None = None,
) -> Path:
    """Move a finished, synced folder of a workspace to its version, then point `LATEST` at it.

    Args:
        root: The release root.
        folder: The release, complete and on disk.
        digest: Its digest, hexadecimal; the version's name begins with the moment and ends with
            the digest's first 12 digits.
        activate: Whether `LATEST` is to name it.
        replaces: The version that `LATEST` must name until then; None for any.

    Returns:
        The version's folder. Its name sorts after every other version of the root.

    Raises:
        OverloadedError: If other builds hold the root's lock for a minute, or `LATEST` has come to
            name another version.
        NotFoundError, BadArtifactError: If `LATEST` must name a version, and names none.
        RecGuruError: If the disk is full; the folder then is where it was.
    """
    with locked(root):
        if replaces is not None and (active := latest(root).name) != replaces:
            raise OverloadedError(
                f"{root / LATEST} names {active} and no longer {replaces}: somebody else has "
                "published or activated meanwhile; run this again"
            )
        place = root / f"{_next_moment(root):{_MOMENT}}-{digest[:12]}"
        folder.rename(place)
        try:
            _sync(root)  # before LATEST can name it
            if activate:
                write_bytes_atomically(root / LATEST, f"{place.name}\n".encode())
        except BaseException:
            if not _names(root, place):  # it does if syncing the pointer was all that failed
                place.rename(folder)
            raise
    return place


def folder_of(root: Path, version: str) -> Path:
    """Return the folder of a version.

    Raises:
        NotFoundError: If the root has no such version.
    """
    if version not in versions(root):
        raise NotFoundError(f"{root} holds no version {version!r}; see recguru releases list")
    return root / version


def activate(root: Path, version: str) -> None:
    """Point `LATEST` at a version that is there, newer or older; it is no canary any more.

    Raises:
        NotFoundError: If the root has no such version.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    folder_of(root, version)  # where there is none, not even the lock is made
    with locked(root):
        folder_of(root, version)
        write_bytes_atomically(root / LATEST, f"{version}\n".encode())
        try:
            tried = canary(root)
        except BadArtifactError:  # it lets nothing answer: no reason to say that this has failed
            return
        if tried is not None and tried.version == version:
            (root / CANARY).unlink()


def try_out(root: Path, tried: Canary) -> None:
    """Let a version answer a share of the calls, beside the one that `LATEST` names.

    Raises:
        NotFoundError: If the root has no such version, or no `LATEST`.
        BadArtifactError: If `LATEST` names no version that is there.
        BadSettingError: If `LATEST` names this very version.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    folder_of(root, tried.version)
    with locked(root):
        folder_of(root, tried.version)
        if latest(root).name == tried.version:
            raise BadSettingError(f"{LATEST} names {tried.version}: it answers every call already")
        content = f"{tried.version} {tried.share:g}\n"
        write_bytes_atomically(root / CANARY, content.encode())


def end_canary(root: Path) -> None:
    """Let the version that `LATEST` names answer every call again.

    Raises:
        NotFoundError: If the root holds no version.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    if not versions(root):
        raise NotFoundError(f"{root} holds no release; see recguru releases list")
    if (root / CANARY).exists():
        with locked(root):
            (root / CANARY).unlink(missing_ok=True)


def prune(root: Path, *, keep: int, forget: Forget | None = None) -> list[str]:
    """Remove all versions but the newest `keep`, the one `LATEST` names and the canary.

    Returns those removed.

    A version goes in one step, before its files do: nobody finds a part of it. Nothing new is
    written, so that a full disk can be freed. Servers that have it loaded go on serving it, unless
    its index is kept elsewhere and `forget`, which is told of each version's folder before the
    files go, removes it there.

    Raises:
        NotFoundError: If there is no `LATEST`.
        BadArtifactError: If `LATEST` names no version that is there, or `CANARY` cannot be read.
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    latest(root)  # where there is none, not even the lock is made
    with locked(root):
        there = versions(root)
        kept = {latest(root).name, *there[-keep:]}
        if (tried := canary(root)) is not None:
            kept.add(tried.version)
        removed = [version for version in there if version not in kept]
        going = [_taken_away(root, version) for version in removed]
        _sync(root)
    for place, held in going:  # takes its time, and the root's lock is held for moments
        try:
            if forget is not None:
                forget(place)
            shutil.rmtree(place, ignore_errors=True)  # what stays is swept by the next build
        finally:
            os.close(held)
    return removed


def _taken_away(root: Path, version: str) -> tuple[Path, int]:
    """Make a version the work of this process, to be removed -> the folder, and its lock."""
    held = os.open(root / version, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    place = root / f"{_WORK}{version}"
    try:
        (root / version).rename(place)
    except BaseException:
        os.close(held)
        raise
    return place, held


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a root's lock: nobody else changes what is in it meanwhile.

    Raises:
        OverloadedError: If others hold it for a minute.
    """
    handle = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not try_lock(handle):
            if time.monotonic() > deadline:
                raise OverloadedError(f"{root / _LOCK} is held by another build; try again later")
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(handle)


def _sweep(root: Path, forget: Forget | None) -> None:
    """Remove what dead builds left; the caller holds the root's lock."""
    for path in root.iterdir():
        if path.name.startswith(_WORK) and path.is_dir() and not path.is_symlink():
            try:
                handle = _opened(path)
            except FileNotFoundError:  # a living build has come to its end, which needs no lock
                continue
            try:
                if try_lock(handle):
                    if forget is not None:
                        forget(path)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
        elif path.name.startswith((f".{LATEST}.", f".{CANARY}.")):  # half a pointer: written locked
            path.unlink(missing_ok=True)


def _opened(work: Path) -> int:
    """Open what the process at work in a folder has locked: the folder where a version goes."""
    try:
        return os.open(work / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return os.open(work, os.O_RDONLY | os.O_DIRECTORY)


def _names(root: Path, version: Path) -> bool:
    """Say whether `LATEST` names a version."""
    try:
        return latest(root) == version
    except (NotFoundError, BadArtifactError):
        return False


def _next_moment(root: Path) -> datetime:
    """Return now, or just after the newest version where the clock says that lies in the future."""
    now = datetime.now(UTC)
    present = versions(root)
    if not present:
        return now
    newest = datetime.strptime(present[-1].partition("-")[0], _MOMENT).replace(tzinfo=UTC)
    return max(now, newest + timedelta(microseconds=1))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_folder(path: Path) -> bool:
    """Say whether a folder is there; not where the file system cannot tell, as a lost mount's."""
    try:
        return path.is_dir()
    except OSError:
        return False
