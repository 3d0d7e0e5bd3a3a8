"""Folders and files appear whole or not at all, and say so when they are damaged."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model import files
from model.errors import BadArtifactError, NotFoundError, OverloadedError, RecGuruError
from model.files import (
    MANIFEST,
    canonical_json,
    check_files,
    digests_of,
    holding,
    publishing,
    read_manifest,
    write_bytes_atomically,
    write_manifest,
)

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
KILLS = 6

PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
from model.files import publishing, write_manifest

place, replace, parts = Path(sys.argv[1]), sys.argv[2] == "replace", int(sys.argv[3])
for number in range(10**9):
    goal = place if replace else place / str(number)
    with publishing(goal, replace=replace) as folder:
        for part in range(parts):
            (folder / f"{part}.txt").write_text(f"{number}" * 500)
        write_manifest(folder, kind="numbers", format_number=1, content={"number": number})
    if not number:
        print("published", flush=True)
"""


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Write a folder of two files, one of them in a folder of its own."""
    place = tmp_path / "numbers"
    with publishing(place) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "two.txt").write_bytes(b"2")
        (folder / "one.txt").write_bytes(b"1")
        write_manifest(folder, kind="numbers", format_number=3, content={"made_of": "digits"})
    return place


def change_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(canonical_json({**manifest, **changes}))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_folder_is_not_there_before_it_is_finished(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "place"
    with publishing(place) as folder:
        (folder / "one").write_text("1")
        assert not place.exists()
    assert (place / "one").read_text() == "1"
    assert not leftovers(place.parent)


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_while_filling_leaves_the_old_folder_and_nothing_else(
    failure: type[BaseException], numbers: Path
) -> None:
    before = digests_of(numbers)

    def fill_half() -> None:
        with publishing(numbers, replace=True) as folder:
            (folder / "one.txt").write_text("half")
            raise failure

    with pytest.raises(failure):
        fill_half()
    assert digests_of(numbers) == before
    assert not leftovers(numbers.parent)


@pytest.mark.parametrize("can_swap", [True, False])
def test_a_replaced_folder_is_gone_and_leaves_nothing_behind(
    can_swap: bool, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_swap:  # as on a file system without the call
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with publishing(numbers, replace=True) as folder:
        (folder / "three.txt").write_text("3")
    assert [path.name for path in numbers.iterdir()] == ["three.txt"]
    assert not leftovers(numbers.parent)


def test_a_replaced_folder_comes_back_when_the_new_one_cannot_be_moved_in(
    numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests_of(numbers)

    def takes_the_new_folder_away(temporary: Path, _: Path) -> bool:
        temporary.rename(temporary.with_name("elsewhere"))
        return False

    monkeypatch.setattr(files, "_exchange", takes_the_new_folder_away)
    with pytest.raises(FileNotFoundError), publishing(numbers, replace=True) as folder:
        (folder / "three.txt").write_text("3")
    assert digests_of(numbers) == before


def test_what_is_there_is_kept_unless_its_replacement_is_allowed(numbers: Path) -> None:
    message = f"{numbers} exists already; choose another place or remove it first"
    with pytest.raises(RecGuruError) as caught, publishing(numbers):
        pytest.fail("the folder was given out")
    assert str(caught.value) == message


def test_what_somebody_else_published_meanwhile_is_kept(tmp_path: Path) -> None:
    place = tmp_path / "place"

    def publish_late() -> None:
        with publishing(place) as folder:
            (folder / "late").write_text("late")
            place.mkdir()
            (place / "early").write_text("early")

    with pytest.raises(RecGuruError, match="place exists already"):
        publish_late()
    assert [path.name for path in place.iterdir()] == ["early"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_is_never_replaced_by_a_folder(replace: bool, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with (
        pytest.raises(RecGuruError, match="notes exists already"),
        publishing(tmp_path / "notes", replace=replace),
    ):
        pytest.fail("the folder was given out")
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("replace", [True, False])
def test_an_empty_folder_may_be_filled(replace: bool, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with publishing(tmp_path / "place", replace=replace) as folder:
        (folder / "one").write_text("1")
    assert (tmp_path / "place" / "one").read_text() == "1"


def test_a_link_goes_on_leading_to_the_folder_that_is_replaced(numbers: Path) -> None:
    link = numbers.with_name("link")
    link.symlink_to(numbers)
    with publishing(link, replace=True) as folder:
        (folder / "three.txt").write_text("3")
    assert link.is_symlink()
    assert [path.name for path in numbers.iterdir()] == ["three.txt"]


@contextmanager
def publisher(place: Path, *, replace: bool, parts: int) -> Iterator[None]:
    """Publish without end in another process, which is killed at the end of the block."""
    way = "replace" if replace else "add"
    command = [sys.executable, "-c", PUBLISH_FOR_EVER, str(place), way, str(parts)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"published\n"
            yield
        finally:
            process.kill()
            process.wait(WAIT_S)


@pytest.mark.parametrize("replace", [True, False])
def test_a_kill_at_any_moment_leaves_whole_folders_alone(replace: bool, tmp_path: Path) -> None:
    moments = random.Random(5)  # noqa: S311  # when to kill, no secret
    for kill in range(KILLS):
        place = tmp_path / str(kill)
        with publisher(place, replace=replace, parts=20):
            time.sleep(moments.uniform(0, 0.03))
        folders = [place] if replace else [path for path in place.iterdir() if path.name.isdigit()]
        assert folders
        for folder in folders:
            check_files(folder, read_manifest(folder, kind="numbers", format_number=1))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two folders in one step")
def test_a_reader_finds_a_folder_at_every_moment_of_its_replacement(tmp_path: Path) -> None:
    seen = set()
    with publisher(tmp_path / "place", replace=True, parts=0):
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            seen.add((tmp_path / "place" / MANIFEST).read_bytes())
    assert len(seen) > 1


def test_a_folder_and_a_file_can_be_read_by_others(tmp_path: Path) -> None:
    with publishing(tmp_path / "folder") as folder:
        (folder / "one").write_text("1")
    write_bytes_atomically(tmp_path / "file", b"1")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_file_is_replaced_whole_under_the_eyes_of_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "LATEST"
    write_bytes_atomically(path, b"old\n")
    with path.open("rb") as reader:
        write_bytes_atomically(path, b"new\n")
        assert reader.read() == b"old\n"
    assert path.read_bytes() == b"new\n"
    assert not leftovers(tmp_path)


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "LATEST").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes_atomically(tmp_path / "LATEST", b"new\n")
    assert not leftovers(tmp_path)


def test_a_lock_is_one_process_alone_s_until_that_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    held = f"""
from pathlib import Path
from model.files import holding
with holding(Path({str(lock)!r})):
    print("held", flush=True)
    input()
"""
    command = [sys.executable, "-c", held]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(OverloadedError, match="is held by another"), holding(lock):
            pass
        process.kill()
        process.wait()
        with holding(lock):
            pass


def test_a_manifest_lists_what_sha256sum_says_of_every_file(numbers: Path) -> None:
    manifest = read_manifest(numbers, kind="numbers", format_number=3)
    assert manifest["files"] == {
        "inner/two.txt": hashlib.sha256(b"2").hexdigest(),
        "one.txt": hashlib.sha256(b"1").hexdigest(),
    }
    assert manifest["made_of"] == "digits"
    check_files(numbers, manifest)


def test_the_same_files_have_the_same_digest_and_others_another(tmp_path: Path) -> None:
    digests = []
    for name, content in {"first": b"1", "again": b"1", "other": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
        digests.append(write_manifest(tmp_path / name, kind="x", format_number=1, content={}))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_json_is_spelled_one_way_whatever_the_order_of_its_keys() -> None:
    assert canonical_json({"b": [1], "a": "é"}) == '{\n "a": "é",\n "b": [\n  1\n ]\n}\n'.encode()


def remove(folder: Path) -> None:
    (folder / "one.txt").unlink()


def change(folder: Path) -> None:
    (folder / "inner" / "two.txt").write_bytes(b"3")


def add(folder: Path) -> None:
    (folder / "extra.txt").write_bytes(b"")


def relist(folder: Path) -> None:
    change_manifest(folder, files={})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "{0}/one.txt is missing"),
        (change, "{0}/inner/two.txt is damaged: its SHA-256 is not the manifest's"),
        (add, "{0}/extra.txt is not listed in the manifest"),
        (relist, "{0}/manifest.json is damaged: its digest does not match its list"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_file_named(
    damage: Callable[[Path], None], message: str, numbers: Path
) -> None:
    damage(numbers)
    with pytest.raises(BadArtifactError) as caught:
        check_files(numbers, read_manifest(numbers, kind="numbers", format_number=3))
    assert str(caught.value) == message.format(numbers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 4},
            (
                "{0}/manifest.json has format 4, this version reads 3: "
                "it was written by a newer version; upgrade"
            ),
        ),
        (
            {"format": 2},
            "{0}/manifest.json has format 2, this version reads 3: it is damaged or too old",
        ),
        (
            {"format": None},
            "{0}/manifest.json has format None, this version reads 3: it is damaged or too old",
        ),
        ({"kind": "letters"}, "{0} is a letters, not a numbers"),
        ({"kind": None}, "{0} is a folder of something else, not a numbers"),
    ],
)
def test_another_kind_or_format_is_refused_and_a_newer_one_told_from_a_damaged_one(
    changes: dict[str, object], message: str, numbers: Path
) -> None:
    change_manifest(numbers, **changes)
    with pytest.raises(BadArtifactError) as caught:
        read_manifest(numbers, kind="numbers", format_number=3)
    assert str(caught.value) == message.format(numbers)


@pytest.mark.parametrize("content", [b"", b'{"kind": "numb', b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(content: bytes, numbers: Path) -> None:
    (numbers / MANIFEST).write_bytes(content)
    with pytest.raises(BadArtifactError, match=r"manifest\.json cannot be read: "):
        read_manifest(numbers, kind="numbers", format_number=3)


def test_a_list_of_files_that_no_digest_can_be_made_of_is_refused(numbers: Path) -> None:
    with pytest.raises(BadArtifactError, match=r"its digest does not match its list$"):
        check_files(numbers, {"files": {"one.txt": "\ud800"}, "digest": "0" * 64})


@pytest.mark.parametrize("content", [b"[]", b"3"])
def test_a_manifest_of_another_shape_is_refused(content: bytes, numbers: Path) -> None:
    (numbers / MANIFEST).write_bytes(content)
    with pytest.raises(BadArtifactError, match=r"is a folder of something else, not a numbers$"):
        read_manifest(numbers, kind="numbers", format_number=3)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no manifest.json in it"),
        ("absent", "no such folder"),
        ("file", "no such folder"),
    ],
)
def test_a_folder_without_a_manifest_is_not_found(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError) as caught:
        read_manifest(tmp_path / name, kind="numbers", format_number=3)
    assert str(caught.value) == f"{tmp_path / name} is not a numbers: there is {why}"


def test_the_manifest_of_an_inner_folder_counts_as_a_file(tmp_path: Path) -> None:
    with publishing(tmp_path / "outer") as folder:
        (folder / "inner").mkdir()
        write_manifest(folder / "inner", kind="x", format_number=1, content={})
        write_manifest(folder, kind="x", format_number=1, content={})
    os.truncate(tmp_path / "outer" / "inner" / MANIFEST, 5)
    with pytest.raises(BadArtifactError, match=r"inner/manifest\.json is damaged"):
        check_files(
            tmp_path / "outer", read_manifest(tmp_path / "outer", kind="x", format_number=1)
        )
