"""Folders that appear whole or not at all, and the manifests inside them.

Every folder this project writes (dataset, bundle, release) is made in a hidden folder beside its
place, `.<name>.<random>/`, synced, then renamed. A lock is held there meanwhile: whichever way the
process dies, the lock goes with it, and who next writes to that place removes what it left.

A folder's `manifest.json` names its kind and format number, what it was built from, and the SHA-256
of every other file in it; the folder's digest is that of this list.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model.errors import (
    BadArtifactError,
    BadSettingError,
    NotFoundError,
    OverloadedError,
    RecGuruError,
)

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_READABLE = 0o644  # the temporary file is made for its owner alone
_AT_WORKING_FOLDER, _EXCHANGE = -100, 2  # renameat2: AT_FDCWD, RENAME_EXCHANGE
_NEW = "new"
_WORK_LOCK = ".publishing"  # a name of its own: only what `publishing` has made is removed
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def canonical_json(value: object) -> bytes:
    """Spell a JSON value the one way that digests and byte-identical folders need."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """Map each file below `folder` but the manifest, by relative POSIX path, to its SHA-256."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(files)}


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a folder from the digests of its files."""
    return hashlib.sha256(canonical_json(dict(files))).hexdigest()


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Name what is being written where that fails.

    The system names no file when a disk is full, and a copy names the file that it reads.

    Raises:
        RecGuruError: In place of an OSError that says so, or that names no file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.errno not in _FULL:
            raise
        raise RecGuruError(f"{place} cannot be written: {error.strerror or error}") from error


def check_place(path: Path) -> None:
    """Find out whether a file can be written there, before the work for it is done.

    Raises:
        BadSettingError: If it cannot.
    """
    try:
        if path.is_dir():
            raise BadSettingError(f"{path} cannot be written: it is a folder; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BadSettingError(f"{path} cannot be written: {error.strerror}") from None


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part.

    Raises:
        RecGuruError: If the disk is full.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with writing(path), os.fdopen(handle, "wb") as file:
            os.fchmod(handle, _READABLE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Hold a lock file, made where it is missing: no other process does meanwhile.

    A file's lock and not a folder's, which a network file system would not tell other hosts of.

    Raises:
        OverloadedError: If one does.
        RecGuruError: If the file system knows no locks.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, _READABLE)
    try:
        with writing(lock):
            taken = try_lock(handle)
        if not taken:
            raise OverloadedError(f"{lock} is held by another process that works there; let it end")
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Take the lock of an open file, unless another process has it; closing it gives it back."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def publishing(place: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it takes the place `place`, else it goes away.

    What processes left that were killed on the way to the same place goes away first.

    A reader finds what was there before or the whole new folder. On Linux that holds at every
    moment; where the system cannot swap two folders in one step, a replaced one is away between two
    renames, and comes back if the second fails.

    Args:
        place: Where the folder is to appear; its parents are made. An empty folder may be there.
        replace: Whether a folder that holds something may be replaced.

    Raises:
        RecGuruError: If a file is there, or a folder that holds something and `replace` is not set,
            or the disk is full.
    """
    place = place.resolve()  # through a link: the folder it leads to is what is replaced
    if place.exists() and (not place.is_dir() or (not replace and any(place.iterdir()))):
        raise _occupied(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    with writing(place), _workspace(place) as work:
        temporary = work / _NEW
        temporary.mkdir()
        temporary.chmod(0o755)
        yield temporary
        _sync_tree(temporary)
        _take_place(temporary, place, replace=replace)


def write_manifest(
    folder: Path, *, kind: str, format_number: int, content: Mapping[str, Any]
) -> str:
    """Write the manifest of a finished folder; return the folder's digest.

    The folder's files must not change afterwards. `content` must hold no key of the manifest's own:
    `kind`, `format`, `files`, `digest`.
    """
    files = digests_of(folder)
    digest = digest_of(files)
    manifest = {**content, "kind": kind, "format": format_number, "files": files, "digest": digest}
    with writing(folder / MANIFEST):
        (folder / MANIFEST).write_bytes(canonical_json(manifest))
    return digest


def read_manifest(folder: Path, *, kind: str, format_number: int) -> dict[str, Any]:
    """Read a folder's manifest and check that it is of the kind and format asked for.

    Raises:
        NotFoundError: If there is no such folder or no manifest in it.
        BadArtifactError: If the manifest is damaged, of another kind, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        what = f"no {MANIFEST} in it" if folder.is_dir() else "no such folder"
        raise NotFoundError(f"{folder} is not a {kind}: there is {what}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        raise BadArtifactError(f"{folder} is a {found or 'folder of something else'}, not a {kind}")
    found_format = manifest.get("format")
    if found_format != format_number:
        newer = isinstance(found_format, int) and found_format > format_number
        hint = "it was written by a newer version; upgrade" if newer else "it is damaged or too old"
        raise BadArtifactError(
            f"{path} has format {found_format!r}, this version reads {format_number}: {hint}"
        )
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check every file of a folder against the digests in its manifest.

    Raises:
        BadArtifactError: Naming the first file that is missing, unexpected, or changed.
    """
    listed = manifest.get("files")
    if not isinstance(listed, dict) or manifest.get("digest") != _digest_or_none(listed):
        raise BadArtifactError(
            f"{folder / MANIFEST} is damaged: its digest does not match its list"
        )
    found = digests_of(folder)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise BadArtifactError(f"{folder / name} is missing")
        if name not in listed:
            raise BadArtifactError(f"{folder / name} is not listed in the manifest")
        if found[name] != listed[name]:
            raise BadArtifactError(f"{folder / name} is damaged: its SHA-256 is not the manifest's")


def _digest_or_none(listed: Mapping[str, Any]) -> str | None:
    """Give the digest of what may be anything; None where it holds what UTF-8 cannot say."""
    try:
        return digest_of(listed)
    except UnicodeEncodeError:
        return None


def _occupied(place: Path) -> RecGuruError:
    return RecGuruError(f"{place} exists already; choose another place or remove it first")


@contextmanager
def _workspace(place: Path) -> Iterator[Path]:
    """Give a folder beside a place, locked for as long as it is there, and remove it at the end."""
    work, lock = _locked_folder(place)
    try:
        yield work
    finally:
        _remove(work, lock)


def _locked_folder(place: Path) -> tuple[Path, int]:
    """Make a folder beside a place -> the folder, and the open file in it that is locked."""
    while True:
        work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            lock = os.open(work / _WORK_LOCK, os.O_RDWR | os.O_CREAT, _READABLE)
        except BaseException:
            work.rmdir()
            raise
        try:
            taken = try_lock(lock)
        except OSError:  # the file system knows no locks, and so nobody takes this one
            return work, lock
        if taken and os.fstat(lock).st_nlink:
            return work, lock
        os.close(lock)  # somebody else's sweep was quicker, and takes this for a dead one's


def _remove(work: Path, lock: int) -> None:
    """Remove a folder made to work in, its lock last: without one no sweep would take the rest."""
    shutil.rmtree(work / _NEW, ignore_errors=True)
    os.close(lock)  # now: NFS keeps a file that is open, and with it the folder
    shutil.rmtree(work, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders that processes left which died on the way to a place."""
    made = re.compile(re.escape(f".{place.name}.") + "[a-z0-9_]{8}")  # as `tempfile` draws them
    with suppress(OSError):  # of a parent that may be written to but not listed
        for work in place.parent.iterdir():
            if made.fullmatch(work.name) and not work.is_symlink():
                _remove_if_dead(work)


def _remove_if_dead(work: Path) -> None:
    try:
        lock = os.open(work / _WORK_LOCK, os.O_RDWR)
    except OSError:  # nothing that `publishing` has made, or gone by now
        return
    dead = False
    with suppress(OSError):  # where the file system knows no locks
        dead = try_lock(lock)
    if dead:
        _remove(work, lock)
    else:
        os.close(lock)


def _take_place(temporary: Path, place: Path, *, replace: bool) -> None:
    try:
        temporary.replace(place)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        if not replace:  # somebody else has published there since `publishing` looked
            raise _occupied(place) from None
        if not _exchange(temporary, place):
            _move_in(temporary, place)
    _sync_folder(place.parent)


def _exchange(first: Path, second: Path) -> bool:
    # The standard library cannot swap two folders in one step; Linux can, on most file systems.
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    here, there = os.fsencode(first), os.fsencode(second)
    failed: int = rename(_AT_WORKING_FOLDER, here, _AT_WORKING_FOLDER, there, _EXCHANGE)
    return not failed


def _move_in(temporary: Path, place: Path) -> None:
    work = temporary.parent
    aside = work.with_name(f"{work.name}.old")  # no sweep takes it: it is all there is for a moment
    place.replace(aside)
    try:
        temporary.replace(place)
    except OSError:
        aside.replace(place)
        raise
    aside.replace(temporary)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
