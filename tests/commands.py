"""The `recguru` command, run in this process."""

import sys
from dataclasses import dataclass

import pytest

from recguru_cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left."""

    code: int
    output: str
    errors: str


class Command:
    """Runs command lines as a terminal would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        """Run one to its end."""
        self._monkeypatch.setattr(sys, "argv", ["recguru", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = self._capsys.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)
