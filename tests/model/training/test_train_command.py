"""`recguru train` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.bundle import Bundle
from model.inference import BundleScorer
from model.training.loop import train
from model.training.settings import TrainSettings
from tests.commands import Command

ROOT = Path(__file__).parents[3]
WAIT_S = 120
CONFIG = """
[train]
checkpoint_steps = 5
[train.network]
width = 8
heads = 1
layers = 1
feed_forward = 8
max_history = 6
recent = 6
[train.pre_training]
epochs = 1
[train.adversarial]
steps = 2
[train.fine_tuning]
epochs = 1
least_steps = 0
"""


def trained(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recguru_cli", "train", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_a_training_prints_its_figures_and_leaves_a_bundle(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text(CONFIG)
    run = tmp_path / "run"
    done = trained("--data", tiny_dataset, "--out", run, "--config", config, "--seed", 3, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    bundle = Bundle.read(run / "bundle")
    assert figures["digest"] == bundle.digest
    assert figures["fine-tuning"]["steps"] == 1  # 60 users at most, 256 a step
    assert 0 <= figures["fine-tuning"]["domain_accuracy"] <= 1
    assert "pre-training 100 %" in done.stderr
    assert json.loads((run / "settings.json").read_text())["settings"]["seed"] == 3
    assert (run / "training.png").exists()
    assert (run / "alignment.png").exists()
    assert "GURs: a fresh classifier names the domain" in (run / "summary.txt").read_text()
    BundleScorer(bundle).scores("books", [{}])


def test_the_papers_preset_fine_tunes_each_domain_by_itself(
    tiny_dataset: Path, tmp_path: Path, recguru: Command
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text(CONFIG)
    arguments = ["--data", tiny_dataset, "--out", tmp_path / "run", "--config", config]
    done = recguru("train", *arguments, "--preset", "paper", "--json")
    assert done.code == 0, done.errors
    figures = json.loads(done.output)
    phases = ["pre-training", "adversarial", "fine-tuning/books", "fine-tuning/films"]
    assert [name for name in figures if name in phases] == phases
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert settings["fine_tuning"]["loss"] == "bpr"
    assert settings["network"]["width"] == 8  # the file goes on top of the preset


def test_an_unknown_preset_is_wrong_usage(
    tiny_dataset: Path, tmp_path: Path, recguru: Command
) -> None:
    done = recguru("train", "--data", tiny_dataset, "--out", tmp_path / "run", "--preset", "best")
    assert done.code == 2
    assert "there are recguru, paper" in done.errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        (
            ["--data", "nowhere"],
            {},
            "error: nowhere is not a recguru-dataset: there is no such folder",
        ),
        (
            ["--data", "DATASET", "--config", "absent.toml"],
            {},
            "error: config file absent.toml: No such file or directory",
        ),
        (
            ["--data", "DATASET"],
            {"RECGURU_TRAIN_NETWORK__WIDTH": "1"},
            "error: setting train.network.width: Input should be greater than or equal to 2",
        ),
        (
            ["--data", "DATASET"],
            {"RECGURU_TRAIN_NETWORK__HEADS": "3"},
            "error: setting train.network: width 128 must be a multiple of heads 3\n",
        ),
        (
            ["--data", "DATASET", "--seed", str(2**63)],
            {},
            "error: setting train.seed: Input should be less than 9223372036854775808",
        ),
        (
            ["--data", "DATASET"],
            {"RECGURU_TRAIN_NETWORK__MEMORY": "own", "RECGURU_TRAIN_NETWORK__BRIDGE_SHARE": "0"},
            "error: setting train: fine_tuning.cold_weight above 0 needs a memory",
        ),
        (
            ["--data", "DATASET"],
            {"RECGURU_TRAIN_TREADS": "2"},
            "error: environment RECGURU_TRAIN_TREADS: there is no setting train.treads",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    tiny_dataset: Path,
    tmp_path: Path,
    wrong: tuple[list[str], dict[str, str], str],
    recguru: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, environment, message = wrong
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = [str(tiny_dataset) if each == "DATASET" else each for each in arguments]
    done = recguru("train", *given, "--out", tmp_path / "run")
    assert done.code == 1
    assert done.errors.startswith(message)
    assert done.errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_said(
    tiny_dataset: Path, tmp_path: Path, recguru: Command
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = recguru("train", "--data", tiny_dataset, "--out", tmp_path / "run", "--device", "cuda")
    assert done.code == 1
    assert done.errors == (
        "error: device cuda was asked for, but torch sees no GPU; use --device cpu or auto\n"
    )


def test_a_missing_flag_is_wrong_usage(recguru: Command) -> None:
    done = recguru("train", "--out", "run")
    assert done.code == 2
    assert "Missing option '--data'" in done.errors


@pytest.mark.gpu
def test_the_three_phases_train_on_a_gpu(
    tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    end = train(tiny_dataset, tmp_path / "run", quick, device="cuda")
    scores = BundleScorer(Bundle.read(end.bundle)).scores("films", [{}])
    assert scores.shape == (1, 301)
