"""The commands `recguru data ...` as a person types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.data.cli import data_app
from model.data.dataset import Dataset
from model.data.prepare_settings import PrepareSettings, seconds
from model.errors import BadSettingError
from model.settings import load_settings

LOG = "user\tx,y,z\nann\tx,y\n"


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Return the arguments of a preparation that works, without `--out`."""
    for name, item in (("shop", "x"), ("news", "n")):
        (tmp_path / f"{name}.sequences.tsv").write_text(LOG.replace("x", item))
    (tmp_path / "news.items.tsv").write_text("n\tNews\n")
    logs = [f"--domain={name}={tmp_path / name}.sequences.tsv" for name in ("shop", "news")]
    return ["prepare", *logs, "--format=sequences"]


def test_prepare_prints_tables_and_writes_a_dataset(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(data_app, [*arguments, f"--out={tmp_path / 'out'}"])

    assert result.exit_code == 0, result.output
    assert "2 (100.0%)" in result.stdout
    assert "note: news: titles of 1 of 3 items from news.items.tsv" in result.stdout
    assert "warning: shop and news share 2 item ids" in result.stderr
    dataset = Dataset.read(tmp_path / "out")
    assert [domain.name for domain in dataset.domains] == ["shop", "news"]


def test_describe_prints_what_prepare_printed(arguments: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    prepared = CliRunner().invoke(data_app, [*arguments, "--out", out, "--json"])
    described = CliRunner().invoke(data_app, ["describe", "--data", out, "--json"])
    table = CliRunner().invoke(data_app, ["describe", "--data", out])

    report = json.loads(described.stdout)
    assert report["digest"] == Dataset.read(tmp_path / "out").digest
    assert report == json.loads(prepared.stdout)
    assert list(report["domains"]) == ["shop", "news"]
    assert "removed by each step" in table.stdout
    assert f"digest: {report['digest']}" in table.stdout
    assert "warning: shop and news share 2 item ids" in table.stderr


def test_flags_win_over_the_environment_and_that_over_the_file(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text("[data]\nmin_length = 5\nseed = 5\n[data.columns]\n")
    monkeypatch.setenv("RECGURU_DATA_MIN_LENGTH", "3")
    out = tmp_path / "out"

    result = CliRunner().invoke(
        data_app, [*arguments, f"--config={config}", f"--out={out}", "--seed=7"]
    )

    assert result.exit_code == 0, result.output
    options = json.loads((out / "manifest.json").read_text())["made"]["options"]
    assert (options["min_length"], options["seed"]) == (3, 7)


@pytest.mark.parametrize("moment", ["2017-10-02", "1506902400", '"2017-10-02T02:00:00+02:00"'])
def test_a_file_may_give_the_window_as_a_date_or_a_number(tmp_path: Path, moment: str) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text(f"[data]\nsince = {moment}\n")

    settings = load_settings(
        PrepareSettings, table="data", config=config, flags={"format": "table"}
    )

    assert seconds(settings.since) == 1_506_902_400


def test_digits_that_spell_a_date_are_one_and_others_that_are_no_moment_are_refused() -> None:
    assert seconds("20171002") == 1_506_902_400
    for wrong in ("2017", "20171302", "nan", "1e999"):
        with pytest.raises(ValueError, match="neither an ISO date nor unix seconds"):
            seconds(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--domain=third=x"], "two domains are needed, not 3"),
        (["--domain=shop=x"], "'shop' is given twice"),
        (["--domain=shop"], "'shop' is not NAME=VALUE"),
        (["--titles=other=x"], "there is no domain 'other'"),
        (["--format=csv"], "'csv' is not one of"),
        (["--core-passes=many"], "'many' is not one of"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], tmp_path: Path, change: list[str], message: str
) -> None:
    result = CliRunner().invoke(data_app, [*arguments, *change, f"--out={tmp_path / 'out'}"])

    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_options_of_one_format_on_another_are_a_failure_not_a_traceback(
    arguments: list[str], tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        data_app, [*arguments, f"--out={tmp_path / 'out'}", "--min-rating=2"]
    )

    assert isinstance(result.exception, BadSettingError)


@pytest.mark.parametrize("command", ["prepare", "simulate", "describe"])
def test_help_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(data_app, [command, "--help"])

    assert result.exit_code == 0
    assert "Example:" in result.stdout


def test_simulated_logs_can_be_prepared(tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    simulated = CliRunner().invoke(
        data_app,
        [
            *("simulate", f"--out={logs}", "--users=60", "--users=50", "--items=120"),
            *("--shared-rate=0.4", "--seed=3"),
        ],
    )
    assert simulated.exit_code == 0, simulated.output

    result = CliRunner().invoke(
        data_app,
        [
            *("prepare", "--format=sequences", f"--out={out}", "--json"),
            *(f"--domain={name}={logs / name}.sequences.tsv" for name in ("books", "films")),
        ],
    )

    report = json.loads(result.stdout)
    assert [report["domains"][name]["users"] for name in ("books", "films")] == [60, 50]
    assert report["shared_users"] == 20
    assert Dataset.read(out).domain("films").vocabulary.title(1)
