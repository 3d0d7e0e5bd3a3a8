"""Builds side by side, and what they sweep up."""

import fcntl
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from indexer import publish
from indexer.publish import CANARY, LATEST, Canary, latest, prune, versions, workspace
from indexer.release import Release
from model.bundle import Bundle
from model.errors import OverloadedError
from tests.indexer.command_making import leftovers
from tests.indexer.index_making import built_in
from tests.indexer.killed_commands import commands


def test_a_build_leaves_alone_what_a_living_one_is_working_on(
    bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    with workspace(root) as work:
        (work / "half").write_bytes(b"done")
        built_in(root, bundle)
        assert leftovers(root) == [work]
        assert (work / "half").read_bytes() == b"done"
    assert leftovers(root) == []


def test_a_build_whose_folder_says_nothing_of_its_lock_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "releases"
    elsewhere = root / ".building-elsewhere"  # on another host, which locks a file and no folder
    elsewhere.mkdir(parents=True)
    with (elsewhere / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with workspace(root):
            assert elsewhere.exists()
    with workspace(root):
        assert not elsewhere.exists()


def test_a_build_locks_a_file_in_its_folder(tmp_path: Path) -> None:
    with (
        workspace(tmp_path / "releases") as work,
        (work / ".lock").open("r+") as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_build_leaves_alone_what_is_being_pruned(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "releases"
    old, _ = (built_in(root, bundle) for _ in range(2))
    told: list[str] = []

    def forget(folder: Path) -> None:
        with workspace(root, forget=lambda swept: told.append(swept.name)):
            assert folder.is_dir()

    assert prune(root, keep=1, forget=forget) == [old.folder.name]
    assert told == []
    assert leftovers(root) == []


def test_a_build_sweeps_only_what_is_recognised(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "releases"
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, root / "notes", root / ".building-dead" / "release"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"kept?")
    (root / ".building-link").symlink_to(elsewhere)
    (root / ".LATEST.abc").write_bytes(b"half a name")

    built_in(root, bundle)

    assert sorted(path.name for path in leftovers(root)) == [".building-link", "notes"]
    assert (elsewhere / "file").read_bytes() == b"kept?"


def test_a_link_that_looks_like_a_dead_build_is_not_told_of(tmp_path: Path) -> None:
    """Whoever is told removes what the folder says is its own, at a Milvus server for one."""
    root, elsewhere = tmp_path / "releases", tmp_path / "elsewhere"
    for folder in (elsewhere, root / ".building-dead"):
        folder.mkdir(parents=True)
    (root / ".building-link").symlink_to(elsewhere)
    told: list[str] = []

    with workspace(root, forget=lambda swept: told.append(swept.name)):
        pass

    assert told == [".building-dead"]


def test_a_version_is_on_disk_before_the_pointer_names_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "releases"
    before = built_in(root, bundle).folder.name
    synced: list[tuple[str, list[str]]] = []

    def fsync(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), root.stat()):
            synced.append((latest(root).name, versions(root)))
        os.fsync(handle)

    monkeypatch.setattr(publish, "os", SimpleNamespace(**{**vars(os), "fsync": fsync}))
    after = built_in(root, bundle).folder.name

    assert synced[0] == (before, [before, after])


def test_a_version_comes_after_those_of_a_clock_that_was_ahead(
    bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    first = built_in(root, bundle).folder
    ahead = first.rename(root / f"20991231T235959.999999Z-{first.name.partition('-')[2]}")

    second = built_in(root, bundle).folder.name

    assert second.startswith("21000101T000000.000000Z-")
    assert versions(root) == [ahead.name, second]


def test_builds_side_by_side_all_publish_and_the_last_is_the_latest(
    bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    built_in(root, bundle)
    build = ["indexer", "build", "--device", "cpu", "--bundle", str(bundle.folder)]
    with commands() as one, commands() as two:
        processes = [each.repeat([*build, "--out", str(root)]) for each in (one, two)]
        deadline = time.monotonic() + 60
        while len(versions(root)) < 20:
            assert time.monotonic() < deadline
            Release.read(latest(root))
            with publish.locked(root):  # nobody is between the version and the pointer now
                assert latest(root).name == versions(root)[-1]
        one.stop(processes[0])
        two.stop(processes[1])
    built_in(root, bundle)
    assert leftovers(root) == []


def test_a_build_that_ends_while_another_looks_for_dead_ones_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "releases"
    ending = root / ".building-ending"
    ending.mkdir(parents=True)

    def opened(path: Path, *flags: int) -> int:
        if path == ending:  # it was there a moment ago
            ending.rmdir()
        return os.open(path, *flags)

    monkeypatch.setattr(publish, "os", SimpleNamespace(**{**vars(os), "open": opened}))

    with workspace(root) as work:
        assert leftovers(root) == [work]


def test_a_root_whose_lock_is_never_given_back_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_PATIENCE_S", 0.1)
    root = tmp_path / "releases"
    with workspace(root):
        pass
    with (
        publish.locked(root),
        pytest.raises(OverloadedError, match=r"\.lock is held by another build; try again later"),
        workspace(root),
    ):
        pytest.fail("the lock was given twice")


CHANGES: Mapping[str, Callable[[Path, str], object]] = {
    "publish": lambda root, _: publish.publish(root, root / ".building-done", "da" * 32),
    "activate": publish.activate,
    "try out": lambda root, version: publish.try_out(root, Canary(version, 0.5)),
    "end": lambda root, _: publish.end_canary(root),
    "prune": lambda root, _: prune(root, keep=1),
}
"""What changes the versions of a root and the pointers to them."""


@pytest.mark.parametrize("change", CHANGES)
def test_versions_and_pointers_stay_while_others_hold_the_lock(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    root = tmp_path / "releases"
    for _ in range(3):
        built_in(root, bundle)
    tried, unnamed, _ = before = versions(root)
    publish.try_out(root, Canary(tried, 0.2))
    (root / ".building-done").mkdir()
    pointers = [(root / name).read_text() for name in (LATEST, CANARY)]
    monkeypatch.setattr(publish, "_PATIENCE_S", 0.1)

    with publish.locked(root), pytest.raises(OverloadedError, match="is held by another build"):
        CHANGES[change](root, unnamed)

    assert [(root / name).read_text() for name in (LATEST, CANARY)] == pointers
    assert versions(root) == before
