"""Commands on a disk that is full, or that may not be written to.

    python -m tests.indexer.full_disk FOLDER KIND LEVELS

Needs a mount namespace in which FOLDER/disk can be mounted. Each line of output is what came of a
command. LEVELS are how many numbers of free pages are tried, besides the last few below what a
command needs.
"""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from indexer.publish import activate, latest, versions
from recguru_cli import main
from tests.indexer.command_making import Material, answers, content

DISK_BYTES = 10 << 20
PAGE = 4096  # tmpfs gives room by the page
LAST = 4
"""Pages missing at the end, where manifest and pointer are written."""

Given = Callable[[], list[str]]


class Disk:
    """A disk with a release root, on which a release is mapped."""

    def __init__(self, material: Material, kind: str) -> None:
        self.place = material.folder / "disk"
        self.root = self.place / "releases"
        self.place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", self.place)
        code, _ = run(material.build(self.root, kind=kind))
        assert code == 0
        self.first = latest(self.root)
        self._answers = answers(self.first)

    @property
    def free(self) -> int:
        """Count the free pages."""
        return shutil.disk_usage(self.place).free // PAGE

    @contextmanager
    def filled(self, pages: int) -> Iterator[None]:
        """Leave so many pages free for a while."""
        ballast = self.place / "ballast"
        with ballast.open("wb") as file:
            file.write(bytes(PAGE) * (self.free - pages))
        assert self.free == pages
        try:
            yield
        finally:
            ballast.unlink()

    def needs(self, arguments: list[str]) -> int:
        """Run a command, take back what it published, and count the pages it needs."""
        there, free = versions(self.root), self.free
        code, errors = run(arguments)
        assert code == 0, errors
        took = free - self.free
        self.take_back(there)
        return took + 1  # the new pointer is written beside the old

    def take_back(self, there: list[str]) -> None:
        """Remove all versions but these, and let `LATEST` name the first release."""
        activate(self.root, self.first.name)
        for version in set(versions(self.root)) - set(there):
            shutil.rmtree(self.root / version)

    def tried(self, arguments: list[str]) -> dict[str, object]:
        """Run a command; say what came of it."""
        before, there = content(self.root), versions(self.root)
        code, errors = run(arguments)
        served = latest(self.root)
        outcome = {
            "arguments": arguments,
            "code": code,
            "error": errors[-1] if errors else "",
            "unchanged": content(self.root) == before and versions(self.root) == there,
            "old": served == self.first and answers(served) == self._answers,
            "new": len(answers(served)["books"][0]) if code == 0 else None,
        }
        if code == 0:
            self.take_back(there)
        return outcome


def run(arguments: list[str]) -> tuple[int, list[str]]:
    """Run a command line in this process; give its status and the lines of standard error."""
    errors = io.StringIO()
    sys.argv = ["recguru", *arguments]
    try:
        with redirect_stderr(errors), redirect_stdout(io.StringIO()):
            main()
    except SystemExit as left:
        return int(left.code or 0), errors.getvalue().splitlines()
    raise AssertionError("a command leaves its process")


def _levels(needed: int, count: int) -> list[int]:
    """Choose numbers of free pages, up to what is needed."""
    spread = np.linspace(0, needed, count).astype(int).tolist()
    return sorted({*spread, *range(needed - LAST, needed + 1)})


def main_here() -> None:
    """Fill a disk in steps, then forbid writing to it."""
    material, kind, levels = Material(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    disk = Disk(material, kind)
    build = material.build(disk.root, bundle="new", kind=kind)
    update = material.update(disk.root, disk.first.name)
    for arguments in (build, update):
        needed = disk.needs(arguments)
        for pages in _levels(needed, levels):
            with disk.filled(pages):
                _say({"missing": needed - pages, **disk.tried(arguments)})
    code, _ = run([*update, "--no-activate"])
    assert code == 0
    move = ["releases", "activate", "--releases", str(disk.root), versions(disk.root)[-1]]
    with disk.filled(0):
        _say({"missing": 1, **disk.tried(move)})
    _mount("-o", "remount,ro", disk.place)
    for arguments in (build, update, move):
        _say({"missing": None, **disk.tried(arguments)})


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["/usr/bin/env", "mount", *map(str, arguments)], check=True)


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main_here()
