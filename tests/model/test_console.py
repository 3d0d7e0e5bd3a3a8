"""The frame of every command: exit codes, one line for a failure, progress that can be piped."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from model.console import fail, make_app, print_json, progress, run, warn
from model.errors import BadDataError

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0

WAIT_FOR_CTRL_C = """
import time
from model.console import make_app, run

app = make_app("Wait.")

@app.command()
def wait() -> None:
    print("waiting", flush=True)
    time.sleep(30)

run(app)
"""

app = make_app("Commands to be tested with.")


@app.command()
def work(number: int = 1) -> None:
    """Work."""
    typer.echo(f"did {number}")


@app.command()
def refuse() -> None:
    """Fail on purpose."""
    raise BadDataError("the file logs.tsv\n  is empty; give another")


@app.command()
def unforeseen() -> None:
    """Fail by a mistake."""
    raise ZeroDivisionError("oh")


@app.command()
def missing() -> None:
    """Fail at a file."""
    Path("no/such/file").read_text(encoding="utf-8")


@app.command()
def misused() -> None:
    """Refuse its arguments."""
    raise typer.BadParameter("give --data or --server")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int | str | None
    said: str
    complained: str


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Give a function that runs a command line to its end."""

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["recguru", *arguments])
        with pytest.raises(SystemExit) as ended:
            run(app)
        captured = capsys.readouterr()
        return Done(ended.value.code, captured.out, captured.err)

    return command


def test_success_exits_0_and_says_nothing_on_standard_error(command: Command) -> None:
    assert command("work", "--number", "3") == Done(0, "did 3\n", "")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("refuse", "error: the file logs.tsv is empty; give another\n"),
        ("missing", "error: no/such/file: No such file or directory\n"),
        (
            "unforeseen",
            "error: ZeroDivisionError: oh (run again with --debug for the traceback)\n",
        ),
    ],
)
def test_a_failure_exits_1_with_one_line(name: str, line: str, command: Command) -> None:
    assert command(name) == Done(1, "", line)


@pytest.mark.parametrize("place", [0, 1])
def test_a_traceback_is_there_for_who_asks(place: int, command: Command) -> None:
    arguments = ["refuse"]
    arguments.insert(place, "--debug")
    done = command(*arguments)
    assert done.code == 1
    assert done.complained.startswith("Traceback (most recent call last):")
    assert done.complained.endswith("\nerror: the file logs.tsv is empty; give another\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wrok"], "No such command 'wrok'."),
        (["work", "--nubmer", "3"], "No such option: --nubmer"),
        (["work", "--number", "three"], "Invalid value for '--number'"),
        (["misused"], "Invalid value: give --data or --server"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str, command: Command) -> None:
    done = command(*arguments)
    assert (done.code, done.said) == (2, "")
    assert message in done.complained


def test_help_names_the_commands(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    assert "Commands to be tested with." in done.said
    assert "Fail on purpose." in done.said


def test_ctrl_c_exits_130_without_a_traceback() -> None:
    arguments = [sys.executable, "-c", WAIT_FOR_CTRL_C]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    fail("first\n  second")
    warn("third\tfourth")
    assert capsys.readouterr().err == "error: first second\nwarning: third fourth\n"


def test_figures_for_a_program_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"title": "Käse", "share": 0.25})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"title": "Käse", "share": 0.25}
    assert "Käse" in captured.out
    assert captured.err == ""


def test_progress_off_a_terminal_is_a_plain_line_every_ten_per_cent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("reading", 40) as advance:
        for step in range(40):
            advance(note=f"step {step}")
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 10
    assert lines[0] == "reading 10 % (4/40) step 3"
    assert lines[-1] == "reading 100 % (40/40) step 39"


@pytest.mark.parametrize(("strides", "lines"), [([7], 1), ([3, 4], 2), ([6], 1), ([], 0)])
def test_progress_in_long_strides_says_each_stride_once(
    strides: list[int], lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("reading", 7) as advance:
        for stride in strides:
            advance(stride)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_progress_on_a_terminal_is_a_bar_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich see a terminal
    monkeypatch.setenv("COLUMNS", "100")
    with progress("training", 4) as advance:
        advance(4, note="loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    for part in ("training", "━", "4/4", "0:00:00", "loss 0.5"):
        assert part in captured.err
