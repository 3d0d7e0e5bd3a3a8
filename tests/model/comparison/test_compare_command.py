"""`recguru compare` as a user types it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from model.console import THREADS
from tests.commands import Command, Outcome

ROOT = Path(__file__).parents[3]
WAIT_S = 120


@pytest.fixture
def compare(recguru: Command) -> Callable[..., Outcome]:
    """Compare in this process."""
    return partial(recguru, "compare")


def compared_by_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recguru_cli", "compare", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_a_comparison_prints_its_table_and_is_merged_with_another(
    tiny_dataset: Path, tmp_path: Path, compare: Callable[..., Outcome]
) -> None:
    pytest.importorskip("matplotlib")
    config = tmp_path / "recguru.toml"
    config.write_text("[compare]\nresamples = 100\n[compare.settings.co-occurrence]\ndecay = 0.5\n")
    first, second = tmp_path / "first", tmp_path / "second"
    done = compared_by_process(
        *("--data", tiny_dataset, "--systems", "popularity,co-occurrence", "--seeds", "0,1"),
        *("--config", config, "--out", first),
    )
    assert done.returncode == 0, done.stderr
    assert "books: NDCG@10 in %, full (sampled)" in done.stdout
    assert done.stdout.endswith(f"report in {first / 'report.md'}\n")
    assert done.stderr.startswith("popularity seed 0: full NDCG@10 books ")
    assert sorted(path.name for path in first.glob("report.*")) == [
        "report.json",
        "report.md",
        "report.png",
    ]
    written = json.loads((first / "report.json").read_text())
    assert written["systems"]["co-occurrence"]["settings"]["decay"] == 0.5
    assert written["resamples"] == 100

    more = compare(
        *("--data", tiny_dataset, "--systems", "cross-co-occurrence", "--seeds", "0"),
        *("--trials", 2, "--out", second),
    )
    assert more.code == 0, more.errors
    merged = compare(
        *("--report-only", "--results", first, "--results", second),
        *("--out", tmp_path / "merged", "--json"),
    )
    assert merged.code == 0, merged.errors
    report = json.loads(merged.output)
    assert list(report["systems"]) == ["popularity", "co-occurrence", "cross-co-occurrence"]
    assert report["systems"]["cross-co-occurrence"]["tuning"]["budget"] == 2
    assert report["dataset"] == written["dataset"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--data", "DATASET", "--systems", "popularity,magic"],
            1,
            "error: system 'magic' is unknown; there are popularity, latest-popularity, co-occ",
        ),
        (
            ["--data", "nowhere"],
            1,
            "error: nowhere is not a recguru-dataset: there is no such folder",
        ),
        (
            ["--report-only"],
            1,
            "error: there is no result in OUT/results",
        ),
        (
            ["--report-only", "--overlap", "10,30"],
            1,
            "error: there is no result in OUT/overlap-10/results",
        ),
        (
            ["--data", "DATASET", "--seeds", "0,one"],
            2,
            "Invalid value for --seeds: '0,one' is not a list of numbers like 0,1,2",
        ),
        (
            ["--data", "DATASET", "--overlap", "10,300"],
            2,
            "Invalid value for --overlap: more than 100 %",
        ),
        (
            ["--data", "DATASET", "--systems", "popularity", "--device", "banana"],
            2,
            "Invalid value for '--device': Value error, 'banana' is not one of 'auto', 'cpu', ",
        ),
        ([], 2, "Invalid value for --data, --report-only: give one of the two"),
        (["--data", "DATASET", "--trials", "0"], 2, "Invalid value for '--trials'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    tiny_dataset: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    compare: Callable[..., Outcome],
) -> None:
    out = tmp_path / "out"
    given = [str(tiny_dataset) if each == "DATASET" else each for each in arguments]
    done = compare(*given, "--out", out)

    assert done.code == code
    assert message.replace("OUT", str(out)) in done.errors
    assert code == 2 or done.errors.count("\n") == 1
    assert not out.exists()


THREADS_LEFT = """
import sys
from recguru_cli import main

sys.argv = ["recguru", "compare", "--report-only", "--out", "nowhere"]
try:
    main()
except SystemExit:
    import os, torch

    print(torch.get_num_threads(), os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize(("said", "taken"), [({}, "1 1"), ({"OMP_NUM_THREADS": "2"}, "2 2")])
def test_numpy_and_torch_get_one_thread_each_unless_the_environment_says_otherwise(
    said: dict[str, str], taken: str
) -> None:
    left = {name: value for name, value in os.environ.items() if name not in THREADS}
    done = subprocess.run(
        [sys.executable, "-c", THREADS_LEFT],
        cwd=ROOT,
        env={**left, **said},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )

    assert done.stdout.strip() == taken


def test_an_empty_search_space_is_refused(
    tiny_dataset: Path, tmp_path: Path, compare: Callable[..., Outcome]
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text("[compare]\ntrials = 3\n[compare.spaces.co-occurrence]\nlast = []\n")

    done = compare("--data", tiny_dataset, "--config", config, "--out", tmp_path / "out")

    assert done.code == 1
    assert "setting compare.spaces.co-occurrence.last: " in done.errors
    assert not (tmp_path / "out").exists()


def test_it_is_not_started_several_times_at_once(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compare: Callable[..., Outcome],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = compare("--data", str(tiny_dataset), "--out", tmp_path / "out")
    assert done.code == 1
    assert "error: compare trains in one process; start it without torchrun" in done.errors
    assert not (tmp_path / "out").exists()
