"""What a killed process has left beside a place goes away, and nothing else does."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model import files
from model.files import publishing, try_lock

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0

FILL = """
import sys
from pathlib import Path
from model.files import publishing

with publishing(Path(sys.argv[1]), replace=True) as folder:
    (folder / "half.txt").write_text("half")
    print("filling", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def filler(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that has filled half of a folder and waits; it is killed at the end."""
    command = [sys.executable, "-c", FILL, str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"filling\n"
            yield process
        finally:
            process.kill()
            process.wait(WAIT_S)


def fill(place: Path) -> None:
    with publishing(place, replace=True) as folder:
        (folder / "whole.txt").write_text("whole")


def hidden(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if path.name.startswith(".")}


def halves(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".*/**/half.txt"))


def test_what_a_killed_process_left_goes_when_its_place_is_written_again(tmp_path: Path) -> None:
    place = tmp_path / "data set [1]"
    for _ in range(2):
        with filler(place):
            pass
    left = hidden(tmp_path)

    fill(place)

    assert len(left) == 1  # the second has removed what the first left
    assert list(tmp_path.iterdir()) == [place]
    assert [path.name for path in place.iterdir()] == ["whole.txt"]


def test_who_is_still_at_work_is_left_alone_and_comes_to_an_end(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with filler(place) as process:
        fill(place)
        assert len(halves(tmp_path)) == 1
        process.communicate(b"go on\n", WAIT_S)

    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == [place]
    assert [path.name for path in place.iterdir()] == ["half.txt"]


def test_what_was_left_of_other_places_stays_for_them(tmp_path: Path) -> None:
    for name in ("other", "place.more", "plac"):
        with filler(tmp_path / name):
            pass
    left = hidden(tmp_path)

    fill(tmp_path / "place")

    assert len(left) == 3
    assert hidden(tmp_path) == left


def test_what_only_looks_like_a_rest_stays(tmp_path: Path) -> None:
    work = tmp_path / ".place.20250101"
    work.mkdir()
    (work / ".lock").touch()
    (work / "mine.txt").write_text("mine")
    (tmp_path / ".place.abcdefgh").write_text("a file")
    with filler(tmp_path / "elsewhere" / "place"):
        pass
    (rest,) = hidden(tmp_path / "elsewhere")
    aside = rest.rename(rest.with_name(".place.12345678.old"))  # as what is replaced may be called
    (tmp_path / ".place.zyxwvuts").symlink_to(aside)
    before = hidden(tmp_path), hidden(tmp_path / "elsewhere")

    fill(tmp_path / "place")
    fill(tmp_path / "elsewhere" / "place")

    assert (hidden(tmp_path), hidden(tmp_path / "elsewhere")) == before
    assert (work / "mine.txt").read_text() == "mine"
    assert len(halves(tmp_path / "elsewhere")) == 1


def test_a_sweep_between_a_folder_and_its_lock_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, swept = tmp_path / "place", list[set[Path]]()

    def sweep_first(handle: int) -> bool:
        if not swept:  # of the folder just made: its lock is there and nobody has taken it
            swept.append(hidden(tmp_path))
            monkeypatch.setattr(files, "try_lock", try_lock)
            files._sweep(place)
        return try_lock(handle)

    monkeypatch.setattr(files, "try_lock", sweep_first)
    fill(place)

    assert len(swept[0]) == 1
    assert list(tmp_path.iterdir()) == [place]
    assert (place / "whole.txt").read_text() == "whole"


def test_a_file_system_without_locks_is_written_to_and_never_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    with filler(place):
        pass
    left = hidden(tmp_path)

    def unknown(_: int, __: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    fill(place)

    assert (place / "whole.txt").read_text() == "whole"
    assert hidden(tmp_path) == left
