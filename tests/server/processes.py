"""`recguru serve` as a process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
READY_S = 60.0  # two cores may be busy with other tests; alone it takes about three seconds
EXIT_S = 10.0


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "recguru_cli", "serve", *map(str, arguments)]


@contextmanager
def process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command until the block is left."""
    with subprocess.Popen(
        command(*arguments), cwd=CHECKOUT, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def port_of(running: subprocess.Popen[str], port_file: Path) -> int:
    """Wait until the server tells its port."""
    deadline_s = time.monotonic() + READY_S
    while not port_file.exists():
        assert running.poll() is None, running.stderr and running.stderr.read()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return int(port_file.read_text())


def failure(*arguments: str | Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*arguments),
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )
    return done.returncode, done.stderr
