"""A small disk to be filled, for a process that may mount: one in a mount namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
PAGE = 4096  # tmpfs gives room by the page


class SmallDisk:
    """A disk in memory."""

    def __init__(self, place: Path, size_bytes: int) -> None:
        """Make a folder and mount the disk there."""
        self.place = place
        place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", place)

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

    def forbid_writing(self) -> None:
        """Let nobody write to it any more."""
        _mount("-o", "remount,ro", self.place)


def outcomes_of(namespace: list[str], module: str, *arguments: object) -> list[dict[str, Any]]:
    """Run a module of tests in a mount namespace; give the JSON of each line that it prints."""
    done = subprocess.run(
        [*namespace, sys.executable, "-m", module, *map(str, arguments)],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "proto"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["/usr/bin/env", "mount", *map(str, arguments)], check=True)
