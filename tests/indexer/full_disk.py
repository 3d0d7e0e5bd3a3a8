"""Commands on a disk that is full, or that may not be written to.

    python -m tests.indexer.full_disk FOLDER KIND LEVELS

Needs a mount namespace in which FOLDER/disk can be mounted. Each line of output is what came of a
command. LEVELS are how many numbers of free pages are tried, besides the last few below what a
command needs.
"""

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from indexer.publish import activate, latest, versions
from recguru_cli import main
from tests.indexer.command_making import Material, answers, content
from tests.small_disk import SmallDisk

DISK_BYTES = 10 << 20
LAST = 4
"""Pages missing at the end, where manifest and pointer are written."""


class Releases:
    """A release root on a disk of its own, with a release that is mapped."""

    def __init__(self, material: Material, kind: str) -> None:
        self.disk = SmallDisk(material.folder / "disk", DISK_BYTES)
        self.root = self.disk.place / "releases"
        code, _ = run(material.build(self.root, kind=kind))
        assert code == 0
        self.first = latest(self.root)
        self._answers = answers(self.first)

    def needs(self, arguments: list[str]) -> int:
        """Run a command, take back what it published, and count the pages it needs."""
        there, free = versions(self.root), self.disk.free
        code, errors = run(arguments)
        assert code == 0, errors
        took = free - self.disk.free
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
    releases = Releases(material, kind)
    build = material.build(releases.root, bundle="new", kind=kind)
    update = material.update(releases.root, releases.first.name)
    for arguments in (build, update):
        needed = releases.needs(arguments)
        for pages in _levels(needed, levels):
            with releases.disk.filled(pages):
                _say({"missing": needed - pages, **releases.tried(arguments)})
    code, _ = run([*update, "--no-activate"])
    assert code == 0
    move = ["releases", "activate", "--releases", str(releases.root), versions(releases.root)[-1]]
    with releases.disk.filled(0):
        _say({"missing": 1, **releases.tried(move)})
    releases.disk.forbid_writing()
    for arguments in (build, update, move):
        _say({"missing": None, **releases.tried(arguments)})


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main_here()
