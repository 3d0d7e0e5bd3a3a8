"""Several processes train what one trains.

Every process is real, and started as a user starts it: by torchrun.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
import torch

from model.errors import BadSettingError, UnavailableDeviceError
from model.training.draws import Draws
from model.training.loop import train
from model.training.parallel import Team, assemble
from model.training.record import METRICS, read_metrics
from model.training.settings import TrainSettings
from tests.model.training.in_doubles import doubles

ROOT = Path(__file__).parents[3]
WAIT_S = 120.0
CLOSE = 1e-9
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def made(
    quick: TrainSettings,
    phases: str,
    *,
    dense_items: int = 200_000,
    shared_loss: str = "l2",
    whitened: bool = False,
) -> TrainSettings:
    """Give settings without dropout, which is a process' own, for some of the phases.

    Adam makes full steps of slopes that are little more than rounding, and how much there is of
    that depends on the processor. So trainings are compared in double precision.
    """
    whole = quick.model_dump()
    tuned = phases in {"apart", "joint", "no shared losses"}
    # Seven users leave parts of unequal size; the last batch of an epoch may leave one empty.
    few = {"batch_users": 7, "critic_steps": 2, "shared_users": 9, "shared_loss": shared_loss}
    terms: dict[str, dict[str, object]] = {
        "joint": {
            "cold_weight": 0.5,
            "adversarial_weight": 0.3,
            "shared_weight": 0.7,
            "reconstruction_weight": 0.4,
        },
        "no shared losses": {"cold_weight": 0, "adversarial_weight": 0, "shared_weight": 0},
    }
    changes: dict[str, dict[str, object]] = {
        "network": {"dropout": 0.0, "neighbours": 3},
        "pre_training": {"epochs": 2 if phases == "pre-training" else 0},
        "adversarial": {"steps": 16 if phases == "adversarial" else 0, "whitened": whitened},
        "fine_tuning": {
            "epochs": 2 if tuned else 0,
            "joint": phases in terms,
            **terms.get(phases, {}),
        },
    }
    for name, table in changes.items():
        known = few.keys() & whole[name].keys()
        whole[name] |= table | {key: few[key] for key in known}
    if phases == "no shared losses":  # only who reads a GUR in this very batch trains the encoder
        whole["network"] |= {"memory": "other"}
    if phases == "bridging":
        whole["network"] |= {"memory": "other", "bridge_share": 0.5}
        whole["bridging"] |= {"steps": 60, "batch_users": 9}
    return TrainSettings.model_validate(
        {**whole, "dense_items": dense_items, "checkpoint_steps": 5}
    )


def command(data: Path, run: Path, settings: TrainSettings, *more: str) -> list[str]:
    config = run.with_suffix(".toml")
    config.write_text(toml({"train": settings.model_dump(mode="json")}))
    place = ["train", "--data", str(data), "--out", str(run)]
    return [*place, "--preset", "paper", "--config", str(config), "--device", "cpu", *more]


def started(*commands: list[str]) -> subprocess.Popen[str]:
    arguments = [each for command in commands for each in (",", free_port(), *command)][1:]
    return subprocess.Popen(
        [sys.executable, *TWO, "-m", "tests.model.training.in_doubles", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    workers = psutil.Process(process.pid).children(recursive=True)
    try:
        out, errors = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        for each in [*workers, *psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
        raise
    return process.returncode, out, errors


def toml(table: Mapping[str, Any], path: str = "") -> str:
    values = [(name, value) for name, value in table.items() if not isinstance(value, dict)]
    lines = [f"[{path}]"] if path else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in values if value is not None]
    below = [(name, value) for name, value in table.items() if isinstance(value, dict)]
    lines += [toml(value, f"{path}.{name}" if path else name) for name, value in below]
    return "\n".join(lines) + "\n"


def assert_same_trace(one: Path, other: Path, case: object, *, close: float = CLOSE) -> None:
    first, second = read_metrics(one), read_metrics(other)
    assert len(first) > 2, case
    for mine, yours in zip(first, second, strict=True):
        assert mine.pop("phase") == yours.pop("phase"), case
        assert mine == pytest.approx(yours, rel=close, abs=close), case


Case = tuple[str, int, str, bool]
"""Phases, the most items whose rows all move in a step, loss of shared users, whitened critic."""
FEW: tuple[Case, ...] = (
    ("pre-training", 0, "l2", False),
    ("adversarial", 200_000, "l2", True),
    ("apart", 0, "l2", False),
    ("joint", 0, "contrastive", False),
    ("bridging", 0, "l2", False),
    ("no shared losses", 0, "l2", False),
)
"""Every phase, and each part of a step that processes share."""
OTHERS: tuple[Case, ...] = (
    ("pre-training", 200_000, "l2", False),
    ("adversarial", 200_000, "l2", False),
    ("adversarial", 0, "l2", False),
    ("apart", 200_000, "l2", False),
    ("joint", 200_000, "l2", False),
    ("joint", 200_000, "l2", True),
)


@pytest.mark.parametrize(
    "cases", [FEW, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["few", "others"]
)
def test_two_processes_leave_the_trace_of_one(
    tiny_dataset: Path, quick: TrainSettings, tmp_path: Path, cases: Sequence[Case]
) -> None:
    every = [
        made(quick, phases, dense_items=dense_items, shared_loss=shared_loss, whitened=whitened)
        for phases, dense_items, shared_loss, whitened in cases
    ]
    commands = [
        command(tiny_dataset, tmp_path / f"two-{place}", settings)
        for place, settings in enumerate(every)
    ]
    code, out, errors = ended(started(*commands))
    assert code == 0, errors
    assert out.count("trained in") == len(cases)  # the first process alone speaks
    for place, (case, settings) in enumerate(zip(cases, every, strict=True)):
        one = tmp_path / f"one-{place}"
        with doubles():
            train(tiny_dataset, one, settings, device="cpu")
        # Whitening makes rounding, where GURs hardly spread, as large as what they spread
        # elsewhere.
        close = 50 * CLOSE if case[0] == "joint" and case[3] else CLOSE
        assert_same_trace(one, tmp_path / f"two-{place}", case, close=close)


def test_a_training_that_lost_a_process_goes_on_with_two_or_with_one(
    tiny_dataset: Path, tmp_path: Path, quick: TrainSettings
) -> None:
    settings = made(quick, "joint", dense_items=0)
    whole, run, alone = (tmp_path / name for name in ("whole", "run", "alone"))
    process = started(command(tiny_dataset, whole, settings), command(tiny_dataset, run, settings))
    wait_for(run, step=10, process=process)
    worker_of(process, rank=1).kill()
    code, _, errors = ended(process)
    assert code == 1
    assert not (run / "bundle").exists()
    shutil.copytree(run, alone)

    code, _, errors = ended(started(command(tiny_dataset, run, settings, "--resume")))
    assert code == 0, errors
    assert read_metrics(run) == read_metrics(whole)
    weights = "bundle/networks.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()

    with doubles():
        train(tiny_dataset, alone, settings, resume=True, device="cpu")
    assert_same_trace(alone, whole, "resumed by one")


def test_a_failure_is_told_once(tiny_dataset: Path, tmp_path: Path, quick: TrainSettings) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "something").touch()
    code, _, errors = ended(started(command(tiny_dataset, run, quick)))
    assert code == 1
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    told = f"error: {run} holds something already; use --resume or choose another --out"
    assert lines == [told]


def wait_for(run: Path, *, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    path = run / METRICS
    while not path.exists() or f'"step": {step}' not in path.read_text():
        assert process.poll() is None, "training ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def worker_of(process: subprocess.Popen[str], *, rank: int) -> psutil.Process:
    workers = psutil.Process(process.pid).children(recursive=True)
    return next(each for each in workers if each.environ().get("RANK") == str(rank))


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 2), (7, 3), (64, 4), (2, 5)])
def test_parts_are_a_batch_in_its_order(count: int, size: int) -> None:
    parts = [Team(torch.device("cpu"), rank, size).part(count) for rank in range(size)]
    taken = np.concatenate([np.arange(start, end) for start, end in parts])
    np.testing.assert_array_equal(taken, np.arange(count))
    sizes = [end - start for start, end in parts]
    assert max(sizes) - min(sizes) <= 1


def test_dropout_differs_between_processes_and_moves_no_other_draw() -> None:
    draws = [Draws(3, 1, torch.device("cpu"), apart=rank) for rank in range(2)]
    for each in draws:
        each.start_step(7)
    dropped = [
        torch.rand(count, generator=each.dropout) for count, each in zip((5, 9), draws, strict=True)
    ]
    assert not torch.equal(dropped[0], dropped[1][:5])
    first, second = (torch.rand(4, generator=each.torch) for each in draws)
    assert torch.equal(first, second)
    assert draws[0].numpy.random() == draws[1].numpy.random()


def test_several_processes_without_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    told = (
        "WORLD_SIZE asks for 2 processes, but RANK is not set; start them with torchrun, or unset "
        "WORLD_SIZE"
    )
    with (
        pytest.raises(BadSettingError, match=f"^{re.escape(told)}$"),
        assemble(torch.device("cpu")),
    ):
        pass


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    told = "WORLD_SIZE is 'two', which is no number; start with torchrun"
    with (
        pytest.raises(BadSettingError, match=f"^{re.escape(told)}$"),
        assemble(torch.device("cpu")),
    ):
        pass


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = torch.cuda.device_count()
    names = {"WORLD_SIZE": 99, "RANK": there, "LOCAL_RANK": there, "MASTER_PORT": 1}
    for name, value in {**names, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    told = (
        f"process {there + 1} of this host has no GPU of its own, there are {there}; start at most "
        f"{there} a host, or use --device cpu"
    )
    with (
        pytest.raises(UnavailableDeviceError, match=f"^{re.escape(told)}$"),
        assemble(torch.device("cuda")),
    ):
        pass
