"""A training that was killed goes on as if nothing had happened."""

import json
import multiprocessing
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from model.errors import BadArtifactError, OverloadedError, RecGuruError, TrainingError
from model.files import holding
from model.training.loop import train
from model.training.record import EVENTS, METRICS, read_metrics
from model.training.settings import TrainSettings

WAIT_S = 60.0
PHASES = ["pre-training", "adversarial", "fine-tuning/books", "fine-tuning/films", "bridging"]
SERVER = multiprocessing.get_context("forkserver")
"""Starts processes that have torch already: to import it takes far longer than to train."""
SERVER.set_forkserver_preload(["torch", "torch._dynamo", "model.training.loop", __name__])


@pytest.fixture(scope="module")
def quick(quick: TrainSettings) -> TrainSettings:
    """Give quick settings with every phase there is."""
    network = quick.network.model_copy(update={"memory": "other", "bridge_share": 0.5})
    bridging = quick.bridging.model_copy(update={"steps": 60})
    return quick.model_copy(update={"network": network, "bridging": bridging})


@pytest.fixture(scope="module")
def trained(
    tiny_dataset: Path, quick: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(tiny_dataset, run, quick, device="cpu")
    return run


@pytest.mark.parametrize("phase", PHASES)
def test_a_training_killed_in_a_phase_ends_with_the_same_bits(
    phase: str, trained: Path, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    run = tmp_path / "run"
    process = _start(tiny_dataset, run, quick)
    _kill_when_it_reaches(phase, process, run)
    assert not (run / "bundle").exists()

    bundle = train(tiny_dataset, run, quick, resume=True, device="cpu").bundle

    for file in sorted((trained / "bundle").rglob("*.safetensors")):
        mine = bundle / file.relative_to(trained / "bundle")
        assert mine.read_bytes() == file.read_bytes(), (
            f"{file.name} differs after a kill in {phase}"
        )
    assert _figures(run) == _figures(trained)
    assert _shown(run) == _shown(trained)
    assert _phases(run / "summary.txt") == _phases(trained / "summary.txt")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: Path, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    again = train(tiny_dataset, tmp_path / "again", quick, device="cpu").bundle
    other = quick.model_copy(update={"seed": 6})
    otherwise = train(tiny_dataset, tmp_path / "other", other, device="cpu").bundle
    weights = "networks.safetensors"
    assert (again / weights).read_bytes() == (trained / "bundle" / weights).read_bytes()
    assert (otherwise / weights).read_bytes() != (trained / "bundle" / weights).read_bytes()


def test_test_rows_leave_no_trace_in_the_weights(
    trained: Path, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    """Training on a dataset whose test rows are all another item gives the same weights."""
    folder = _with_other_test_rows(tiny_dataset, tmp_path / "dataset")
    bundle = train(folder, tmp_path / "run", quick, device="cpu").bundle
    for file in sorted((trained / "bundle").rglob("*.safetensors")):
        mine = bundle / file.relative_to(trained / "bundle")
        assert mine.read_bytes() == file.read_bytes()


def test_a_run_is_not_trained_over_without_resume(trained: Path, tiny_dataset: Path) -> None:
    with pytest.raises(RecGuruError, match=r"holds something already; use --resume or choose"):
        train(tiny_dataset, trained, TrainSettings(), device="cpu")


def test_a_run_is_not_resumed_with_other_settings(
    trained: Path, tiny_dataset: Path, quick: TrainSettings
) -> None:
    other = quick.model_copy(update={"seed": 99})
    with pytest.raises(RecGuruError, match=r"was made with settings\.seed 5, not 99; resume with"):
        train(tiny_dataset, trained, other, resume=True, device="cpu")


@pytest.mark.parametrize("name", ["notes.txt", ".env", "settings.json"])
def test_a_folder_of_something_else_is_not_resumed_and_stays_as_it_is(
    name: str, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    (tmp_path / name).write_text('{"editor.fontSize": 12}')
    with pytest.raises(RecGuruError, match=r"holds no training to resume; choose another --out$"):
        train(tiny_dataset, tmp_path, quick, resume=True, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"editor.fontSize": 12}'


def test_a_training_killed_as_it_began_is_resumed(
    tiny_dataset: Path, trained: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", ".settings.json.k1ll3d"):
        (run / name).touch()
    bundle = train(tiny_dataset, run, quick, resume=True, device="cpu").bundle
    weights = "networks.safetensors"
    assert (bundle / weights).read_bytes() == (trained / "bundle" / weights).read_bytes()


def test_a_run_that_is_being_trained_is_left_alone(
    trained: Path, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    with (
        holding(run / ".lock"),
        pytest.raises(OverloadedError, match=r"run/\.lock is held by another process"),
    ):
        train(tiny_dataset, run, quick, resume=True, device="cpu")


def test_a_training_holds_its_run(tiny_dataset: Path, tmp_path: Path, quick: TrainSettings) -> None:
    endless = quick.pre_training.model_copy(update={"epochs": 100_000})
    run = tmp_path / "run"
    process = _start(tiny_dataset, run, quick.model_copy(update={"pre_training": endless}))
    try:
        _wait_until_it_reaches("pre-training", process, run)
        with pytest.raises(OverloadedError, match="is held by"), holding(run / ".lock"):
            pass
    finally:
        process.kill()
        process.join(WAIT_S)


def test_a_damaged_checkpoint_is_named(
    trained: Path, tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    newest = max((run / "checkpoints").iterdir()) / "networks.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with pytest.raises(BadArtifactError, match=r"networks\.safetensors is damaged"):
        train(tiny_dataset, run, quick, resume=True, device="cpu")


def test_a_loss_that_is_no_number_stops_training_and_leaves_the_last_checkpoint(
    tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    wild = quick.fine_tuning.model_copy(update={"learning_rate": 1e30})
    run = tmp_path / "run"
    with pytest.raises(
        TrainingError, match=r"(loss is (nan|inf)|is no longer finite); lower the learning rate"
    ):
        train(tiny_dataset, run, quick.model_copy(update={"fine_tuning": wild}), device="cpu")
    newest = max((run / "checkpoints").iterdir())
    weights = load_file(newest / "networks.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert not (run / "bundle").exists()


def test_a_run_holds_what_a_person_looks_at(trained: Path) -> None:
    from model.training.plots import plot_training

    lines = read_metrics(trained)
    assert {line["phase"] for line in lines} == set(PHASES)
    adversarial = next(line for line in lines if line["phase"] == "adversarial")
    assert {"critic_loss", "wasserstein", "gradient_penalty"} <= adversarial.keys()
    assert any((trained / "tensorboard").iterdir())
    plot = plot_training(trained)
    assert plot is not None
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "fine-tuning/films" in (trained / "summary.txt").read_text()


def _start(data: Path, run: Path, settings: TrainSettings) -> BaseProcess:
    process = SERVER.Process(target=_train, args=(data, run, settings))
    process.start()
    return process


def _train(data: Path, run: Path, settings: TrainSettings) -> None:
    torch.set_num_threads(1)
    train(data, run, settings, resume=True, device="cpu")


def _kill_when_it_reaches(phase: str, process: BaseProcess, run: Path) -> None:
    _wait_until_it_reaches(phase, process, run)
    process.kill()
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL


def _wait_until_it_reaches(phase: str, process: BaseProcess, run: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        path = run / METRICS
        if path.exists() and f'"phase": "{phase}"' in path.read_text():
            break
        assert process.is_alive(), f"training ended before {phase}"
        time.sleep(0.005)


def _shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows: by tag, steps and figures."""
    events = EventAccumulator(str(run / EVENTS), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in sorted(events.Tags()["scalars"])
    }


def _phases(summary: Path) -> list[str]:
    """Return the phases in the order of the summary."""
    return [line.split()[0] for line in summary.read_text().splitlines() if line[0] != " "]


def _figures(run: Path) -> list[str]:
    return [json.dumps(line, sort_keys=True) for line in read_metrics(run)]


def _with_other_test_rows(source: Path, folder: Path) -> Path:
    import numpy as np

    from model.data.dataset import Dataset, DomainData, Sequences, write_dataset
    from model.files import publishing

    dataset = Dataset.read(source)
    domains = []
    for domain in dataset.domains:
        rows = np.array(domain.sequences.rows)
        rows[domain.sequences.ends[domain.held_out() > 0] - 1] = 1
        changed = Sequences(rows, domain.sequences.ends)
        domains.append(DomainData(domain.name, domain.vocabulary, domain.users, changed))
    with publishing(folder) as place:
        write_dataset(place, (domains[0], domains[1]), dataset.shared, made={}, report={})
    return folder
