"""Builds side by side, and what they sweep up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer import publish
from indexer.publish import latest, versions, workspace
from indexer.release import Release
from model.bundle import Bundle
from model.errors import OverloadedError
from tests.indexer.command_making import leftovers
from tests.indexer.index_making import built_in

_BUILDER = """
import os, sys
from pathlib import Path
from model.bundle import Bundle
from tests.indexer.index_making import built_in

bundle = Bundle.read(Path(sys.argv[1]))
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        try:
            while True:
                built_in(Path(sys.argv[2]), bundle)
        finally:
            os._exit(1)
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
"""


class Builder:
    """Starts processes that build without end, forked from one that has imported everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self) -> int:
        """Start a process and return its id."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._number()

    def kill(self, process: int) -> None:
        """Kill the process started last and wait until it is dead."""
        os.kill(process, signal.SIGKILL)
        assert self._number() == signal.SIGKILL, "it ended before it was killed"

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def builder(bundle: Bundle, root: Path) -> Iterator[Builder]:
    """Give a builder of a bundle into a root; all its processes are gone afterwards."""
    command = [sys.executable, "-c", _BUILDER, str(bundle.folder), str(root)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            yield Builder(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


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


def test_builds_side_by_side_all_publish_and_the_last_is_the_latest(
    bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    built_in(root, bundle)
    with builder(bundle, root) as one, builder(bundle, root) as two:
        processes = one.start(), two.start()
        deadline = time.monotonic() + 60
        while len(versions(root)) < 20:
            assert time.monotonic() < deadline
            Release.read(latest(root))
            with publish.locked(root):  # nobody is between the version and the pointer now
                assert latest(root).name == versions(root)[-1]
        one.kill(processes[0])
        two.kill(processes[1])
    built_in(root, bundle)
    assert leftovers(root) == []


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
