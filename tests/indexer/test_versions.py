"""`recguru releases list|activate|prune`, as a shell sees them."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.publish import latest, versions, workspace
from indexer.release import Release
from model.bundle import Bundle
from tests.commands import Command
from tests.indexer.index_making import built_in, write_small_bundle


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish four releases, to be copied."""
    folder = tmp_path_factory.mktemp("versions")
    bundle = Bundle.read(write_small_bundle(folder / "bundle"))
    for _ in range(4):
        built_in(folder / "releases", bundle)
    return folder / "releases"


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """Return four releases of the test's own."""
    return shutil.copytree(published, tmp_path / "releases")


def test_versions_are_listed_newest_first_and_the_active_one_is_marked(
    recguru: Command, root: Path, bundle: Bundle
) -> None:
    old = versions(root)[1]
    (root / "LATEST").write_text(f"{old}\n", encoding="utf-8")

    left = recguru("releases", "list", "--releases", root)
    assert left.code == 0
    lines = left.output.splitlines()
    assert [line[2:].split()[0] for line in lines] == versions(root)[::-1]
    assert [line[0] for line in lines] == [" ", " ", "*", " "]
    assert all(f"model {bundle.digest[:12]}" in line for line in lines)

    left = recguru("releases", "list", "--releases", root, "--json")
    found = json.loads(left.output)
    assert [each["version"] for each in found if each["active"]] == [old]
    assert found[2]["digest"] == Release.read(root / old).digest
    files = [path for path in (root / old).rglob("*") if path.is_file()]
    assert found[2]["bytes"] == sum(path.stat().st_size for path in files)


def test_an_older_version_is_activated_and_a_newer_one_again(recguru: Command, root: Path) -> None:
    first, *_, last = versions(root)
    for before, version in ((last, first), (first, last)):
        left = recguru("releases", "activate", "--releases", root, version)
        assert (left.code, left.output) == (
            0,
            f"LATEST names {version}; before it named {before}\n",
        )
        assert latest(root).name == version


def test_a_damaged_version_is_not_activated(recguru: Command, root: Path) -> None:
    first, *_, last = versions(root)
    damaged = root / first / "index" / "films.faiss"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")

    left = recguru("releases", "activate", "--releases", root, first)

    assert left.code == 1
    assert left.errors == f"error: {damaged} is damaged: its SHA-256 is not the manifest's\n"
    assert latest(root).name == last


def test_a_version_that_is_not_there_is_one_line(recguru: Command, root: Path) -> None:
    for version in ("../bundle", versions(root)[0][:-1]):
        left = recguru("releases", "activate", "--releases", root, version)
        assert left.code == 1
        assert left.errors == (
            f"error: {root} holds no version {version!r}; see recguru releases list\n"
        )


def test_a_pointer_to_nothing_is_mended_by_activating_a_version(
    recguru: Command, root: Path
) -> None:
    (root / "LATEST").write_text("nothing\n", encoding="utf-8")
    left = recguru("releases", "list", "--releases", root)
    assert (left.code, "*" in left.output) == (0, False)
    version = versions(root)[-1]
    left = recguru("releases", "activate", "--releases", root, version)
    assert (left.code, left.output) == (0, f"LATEST names {version}; before it named no version\n")


def test_a_version_without_a_manifest_is_listed_as_damaged(recguru: Command, root: Path) -> None:
    version = versions(root)[0]
    (root / version / "manifest.json").unlink()
    left = recguru("releases", "list", "--releases", root)
    assert left.code == 0
    assert "there is no manifest.json" in left.output.splitlines()[-1]


@pytest.mark.parametrize("key", ["bundle", "dataset", "digest"])
def test_a_version_whose_manifest_lacks_a_digest_is_damaged_and_hides_no_other(
    recguru: Command, root: Path, key: str
) -> None:
    version = versions(root)[0]
    path = root / version / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest[key]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    damage = f"{path} is damaged: it names no {key}"

    left = recguru("releases", "list", "--releases", root)
    assert (left.code, len(left.output.splitlines())) == (0, 4)
    assert left.output.splitlines()[-1] == f"  {version}  {damage}"
    left = recguru("releases", "activate", "--releases", root, version)
    assert (left.code, left.errors) == (1, f"error: {damage}\n")


def test_pruning_keeps_the_newest_and_the_active_and_leaves_nothing_behind(
    recguru: Command, root: Path
) -> None:
    first, second, third, last = versions(root)
    (root / "LATEST").write_text(f"{first}\n", encoding="utf-8")
    served = Release.read(root / second)

    left = recguru("releases", "prune", "--releases", root, "--keep", "1")

    assert (left.code, left.output) == (
        0,
        f"removed {second}\nremoved {third}\n2 versions removed\n",
    )
    assert versions(root) == [first, last]
    assert sorted(path.name for path in root.iterdir()) == sorted([".lock", "LATEST", first, last])
    assert latest(root).name == first
    assert served.indexes["films"].item_table.sum() != 0  # who has it loaded still has it


def test_versions_go_from_a_full_disk_and_files_that_stay_hide_none(
    recguru: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *old, last = versions(root)
    left_open = errno.ENOTEMPTY  # what NFS says of a folder with a removed file that is open
    monkeypatch.setattr(os, "mkdir", refusing(errno.ENOSPC))
    monkeypatch.setattr(os, "rmdir", refusing(left_open))

    left = recguru("releases", "prune", "--releases", root, "--keep", "1")

    monkeypatch.undo()
    assert left.output.splitlines() == [f"removed {version}" for version in old] + [
        "3 versions removed"
    ]
    assert versions(root) == [last]
    with workspace(root) as work:  # the next build sweeps what stayed
        assert [path.name for path in root.iterdir() if path.name.startswith(".building")] == [
            work.name
        ]


def refusing(number: int) -> Callable[..., None]:
    """Make a system call that fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_is_pruned_where_the_pointer_is_broken(recguru: Command, root: Path) -> None:
    (root / "LATEST").write_text("nothing\n", encoding="utf-8")
    left = recguru("releases", "prune", "--releases", root, "--keep", "1")
    assert left.code == 1
    assert "names 'nothing', which is no release" in left.errors
    assert len(versions(root)) == 4


def test_an_empty_root_has_nothing_to_list(recguru: Command, tmp_path: Path) -> None:
    left = recguru("releases", "list", "--releases", tmp_path)
    assert left.code == 1
    assert left.errors == (
        f"error: {tmp_path} holds no release: there is no LATEST in it; run recguru indexer build\n"
    )
