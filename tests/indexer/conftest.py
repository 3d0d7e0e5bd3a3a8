"""A bundle for each test of the indexer."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import recguru_cli
from model.bundle import Bundle
from tests.indexer.index_making import write_small_bundle

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recguru(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run a command line of `recguru` -> exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recguru", *(str(argument) for argument in arguments)])
        code: object = 0
        try:
            recguru_cli.main()
        except SystemExit as end:
            code = end.code
        output = capsys.readouterr()
        return int(code or 0), output.out, output.err  # type: ignore[call-overload]  # a number

    return call


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a small bundle of two domains."""
    return Bundle.read(write_small_bundle(tmp_path / "bundle"))
