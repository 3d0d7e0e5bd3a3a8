"""The tables of `docs/results.md` and the reports beside it are what the commands make of them."""

import re
import shlex
from pathlib import Path

import pytest

from tests.commands import Command

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```console\n\$ recguru (compare --report-only [^\n]*) --out report\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PRINTED = BLOCK.findall(PAGE)
"""Arguments and output of every command."""


def test_the_page_has_no_block_but_what_commands_print() -> None:
    assert len(PRINTED) >= 2
    assert PAGE.count("```") == 2 * len(PRINTED)


@pytest.mark.parametrize(
    ("arguments", "output"), PRINTED, ids=[arguments.split("/")[-1] for arguments, _ in PRINTED]
)
def test_a_table_is_what_its_command_prints(
    arguments: str,
    output: str,
    recguru: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)

    done = recguru(*shlex.split(arguments), "--out", tmp_path / "report")

    assert done.code == 0, done.errors
    *table, place = done.output.splitlines(keepends=True)
    assert place.startswith(("report in ", "study in "))
    assert "".join(table) == output


@pytest.mark.parametrize("pair", ["beauty_toys", "sport_cloth"])
def test_a_report_is_what_its_command_writes(
    pair: str, recguru: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder = Path("docs") / "results" / pair

    done = recguru("compare", "--report-only", "--results", folder, "--out", tmp_path / "report")

    assert done.code == 0, done.errors
    assert (tmp_path / "report" / "report.md").read_text("utf-8") == (
        (folder / "report.md").read_text("utf-8")
    )
