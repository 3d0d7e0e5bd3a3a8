"""What the commands share: one line for a failure, figures for people or for programs, progress."""

import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from model.errors import RecGuruError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads numpy, torch and faiss take."""
FAILURE = 1
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_LINES_APART = 10  # per cent of the work between two plain progress lines


def make_app(about: str) -> typer.Typer:
    """Make a group of commands that leaves failures to `run`."""
    return typer.Typer(
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def run(app: typer.Typer) -> None:
    """Run a command line and leave the process with its exit code.

    0 on success, 2 on wrong usage, 130 on Ctrl-C, 1 on failure with one line on standard error that
    says what to do; a traceback only where `--debug` is among the arguments.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    _keep_examples(app)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its core tells of every bad handshake
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        app(arguments)
    except Exception as error:  # noqa: BLE001  # the last place before the caller's terminal
        if "--debug" in sys.argv:
            traceback.print_exc()
        fail(_line(error))
        sys.exit(FAILURE)


def limit_threads() -> None:
    """Have numpy and torch take the threads that OMP_NUM_THREADS says, one each if it says nothing.

    Each reads its variable when it is imported; one that is set stays. On busy cores two runtimes
    of two threads took five times as long.
    """
    wanted = os.environ.get(THREADS[0], "1")
    for name in THREADS:
        os.environ.setdefault(name, wanted)


def fail(message: str) -> None:
    """Write one line about a failure to standard error."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")


def warn(message: str) -> None:
    """Write one line of warning to standard error."""
    sys.stderr.write(f"warning: {' '.join(message.split())}\n")


def print_json(value: object) -> None:
    """Write figures for a program to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class Advance(Protocol):
    """Moves a progress display."""

    def __call__(self, steps: int = 1, *, note: str = "") -> None:
        """Count `steps` more as done; `note` replaces the text after the title."""


@contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far some work is: a bar with the time left on a terminal, plain lines elsewhere.

    Both go to standard error, so figures on standard output can be piped. `quiet` shows neither.
    """
    console = Console(stderr=True)
    if quiet:
        yield _silent
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, note="")

            def advance(steps: int = 1, *, note: str = "") -> None:
                bar.update(task, advance=steps, note=note)

            yield advance
    else:
        yield _plain(title, total)


def _silent(steps: int = 1, *, note: str = "") -> None:
    """Show nothing: another process does."""


def _plain(title: str, total: int) -> Advance:
    done, said = 0, 0

    def advance(steps: int = 1, *, note: str = "") -> None:
        nonlocal done, said
        done += steps
        share = 100 * done // max(total, 1)
        if share >= said + _LINES_APART or (done >= total and said < 100):  # noqa: PLR2004  # per cent
            said = share - share % _LINES_APART
            sys.stderr.write(f"{title} {share} % ({done}/{total}) {note}".rstrip() + "\n")

    return advance


def _keep_examples(app: typer.Typer) -> None:
    r"""Turn the `\b` of raw docstrings into the character that keeps a block of help unwrapped."""
    for command in app.registered_commands:
        if command.help is None and command.callback is not None:
            text = inspect.cleandoc(command.callback.__doc__ or "")
            command.help = text.replace("\\b\n", "\b\n")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _keep_examples(group.typer_instance)


def _line(error: Exception) -> str:
    if isinstance(error, RecGuruError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}:" if error.filename else ""
        return f"{place} {error.strerror}".strip()
    return f"{type(error).__name__}: {error} (run again with --debug for the traceback)"
