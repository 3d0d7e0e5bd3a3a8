"""Processes of the `recguru` command that are killed at a moment.

    python -m tests.indexer.killed_commands

A line of input is a pair in JSON, a command line as a list and whether to run it again and again;
the next line asks to wait for its end. It runs in a process of its own, forked from this one, which
has imported what commands import; so a moment falls into the work and not into the imports. A line
of output is its process id, the next how it ended, as `os.waitpid` says.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import model.data.attribute_file  # noqa: F401  # a build with attributes imports it late
from recguru_cli import main

START_S = 60.0


class Commands:
    """Runs command lines, one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, arguments: list[str], root: Path) -> float:
        """Run one to its end, which is a success; give the seconds it was at work in a root."""
        self._start(arguments)
        _wait_for_work(root)
        begun_s = time.monotonic()
        assert self._asked("wait") == 0
        return time.monotonic() - begun_s

    def kill(self, arguments: list[str], after_s: float, root: Path | None) -> bool:
        """Start one and kill it after a while; say whether it had ended by then.

        Seconds are counted from its start, or where a root is given, from its first work there.
        """
        process = self._start(arguments)
        if root is not None:
            _wait_for_work(root)
        time.sleep(after_s)
        os.kill(process, signal.SIGKILL)  # one that has ended keeps its id until it is waited for
        ended = self._asked("wait")
        assert ended in {0, signal.SIGKILL}
        return ended == 0

    def repeat(self, arguments: list[str]) -> int:
        """Run one again and again until its process, whose id is given, is stopped."""
        return self._start(arguments, again=True)

    def stop(self, process: int) -> None:
        """Kill the process started last and wait until it is dead."""
        os.kill(process, signal.SIGKILL)
        assert self._asked("wait") == signal.SIGKILL, "it ended before it was killed"

    def _start(self, arguments: list[str], *, again: bool = False) -> int:
        return self._asked(json.dumps([arguments, again]))

    def _asked(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _wait_for_work(root: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not any(root.glob(".building-*")):
        assert time.monotonic() < deadline_s
        time.sleep(0.0005)


@contextmanager
def commands() -> Iterator[Commands]:
    """Give what runs command lines; all its processes are gone afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.indexer.killed_commands"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            yield Commands(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def serve() -> None:
    """Run what the lines of input say."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            arguments, again = json.loads(line)
            _run(arguments, again=again)
        _say(process)
        sys.stdin.readline()
        _say(os.waitpid(process, 0)[1])


def _run(arguments: list[str], *, again: bool) -> None:
    sys.argv = ["recguru", *arguments]
    status: object = 1
    try:
        status = _status()
        while again and status == 0:
            status = _status()
    finally:
        os._exit(status if isinstance(status, int) else 1)


def _status() -> object:
    try:
        main()
    except SystemExit as left:
        return left.code or 0
    return 1


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
