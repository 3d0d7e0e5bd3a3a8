"""Users a second of every phase of training, where the time goes, and how both grow.

    python -m benchmarks.training --data DATASET [--history 50] [--batch 256] [--steps 12]
    python -m benchmarks.training --items 300000,1400000 --users 2000000 --rows 24
    python -m benchmarks.training --grow items|users|history
    python -m benchmarks.training --grow processes|allocator [--data DATASET]

The first form trains some steps of each phase on a prepared dataset: with the networks of the
preset `paper`, the size the published code was measured in, and for `recguru` the joint phase. A
step's users are those it draws of both domains (fine-tuning: of one). `published` is what the
published code did on one such core at batch 256, `times` the ratio to it; the times of a step are
medians. The second trains on made-up sequences (here of the paper's scale), and like the first
says how long networks and neighbours took. The third lets one number of theirs grow. The fourth
trains in turns, on the same batches: with one process and with two that torchrun starts; or with
the C library as it comes (`plain`) and as `recguru train` has it, keeping what is freed (`keeping`,
which `--allocator` chooses). Peak memory is of the process so far, libraries included (of several,
the first): each part that `---` begins is a process of its own.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.devices import wait
from model.allocator import keep_freed_memory
from model.data.dataset import Dataset, Sequences
from model.data.training_data import TrainingData, TrainingDomain
from model.device import torch_device
from model.networks.system import TrainingNetworks, initialise
from model.training.context import Context
from model.training.fine_tuning import FineTuning
from model.training.joint import JointFineTuning
from model.training.parallel import Team, assemble
from model.training.phase import Phase
from model.training.phases import Adversarial, PreTraining
from model.training.presets import PRESETS
from model.training.settings import TrainSettings

PUBLISHED = {  # users/s at batch 256 on one core, by the longest history
    50: {"pre-training": 104, "adversarial": 40, "fine-tuning": 78},
    100: {"pre-training": 55, "adversarial": 19, "fine-tuning": 30},
}
GROWTH: dict[str, list[int] | list[str]] = {
    "items": [10_000, 100_000, 1_000_000],
    "users": [10_000, 100_000, 1_000_000],
    "history": [10, 50, 100, 200],
    "processes": [1, 2, 1, 2, 1, 2],
    "allocator": ["plain", "keeping"] * 3,
}
IN_TURNS = ("processes", "allocator")
WARM_UP = 3
SHARED = 0.1  # share of made-up users that are shared
PHASES: dict[str, tuple[str, Callable[[Context], Phase]]] = {
    "pre-training": ("paper", lambda context: PreTraining(context, 0)),
    "adversarial": ("paper", lambda context: Adversarial(context, 1)),
    "fine-tuning": ("paper", lambda context: FineTuning(context, 2, context.data.domains[0])),
    "joint": ("recguru", lambda context: JointFineTuning(context, 2)),
}
"""The preset that has it, and how it is begun."""
Measured = tuple[str, float, float, dict[str, float]]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="dataset folder")
    parser.add_argument("--grow", choices=list(GROWTH))
    for size in ("items", "users"):
        parser.add_argument(
            f"--{size}",
            type=of_each_domain,
            default=(20_000, 20_000),
            metavar="N[,N]",
            help="of made-up data, of a domain or of each",
        )
    parser.add_argument("--rows", type=int, help="of each user of made-up data; N unless given")
    parser.add_argument("--history", type=int, default=50, help="longest history (N)")
    parser.add_argument("--batch", type=int, default=256, help="users of a domain in a step")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--allocator", choices=["plain", "keeping"], default="keeping")
    options = parser.parse_args()
    if options.grow:
        if options.data and options.grow not in IN_TURNS:
            parser.error(f"--data has nothing that grows; --grow {options.grow} makes its own")
        grow(options)
        return
    torch.set_num_threads(options.threads)
    if options.allocator == "keeping":
        keep_freed_memory()
    if options.data:
        data = TrainingData.of(Dataset.read(options.data))
    else:
        data = made_up(options.items, options.users, options.rows or options.history)
    with assemble(torch_device(options.device)) as team:
        rows = [(preset, measured(data, preset, options, team)) for preset in ("paper", "recguru")]
        if team.leads:
            show(data, rows, options)


def show(
    data: TrainingData, rows: list[tuple[str, list[Measured]]], options: argparse.Namespace
) -> None:
    """Print a line for each phase of each preset, and the peak memory."""
    print(f"N = {options.history}, batch {options.batch}, {options.threads} threads", end=", ")
    print(", ".join(f"{each.name}: {len(each.training):,} users" for each in data.domains))
    print(f"{'preset':<9}{'phase':<14}{'users/s':>9}{'published':>11}{'times':>7}  time goes to")
    for preset, phases in rows:
        for name, rate, share, parts in phases:
            alike = options.data and (options.batch, options.threads) == (256, 1)
            alike = alike and preset == "paper" and options.device == "cpu"
            floor = PUBLISHED.get(options.history, {}).get(name) if alike else None
            told = f"{floor:>11}{rate / floor:>6.1f}x" if floor else f"{'':>18}"
            shown = ", ".join(f"{part} {100 * each:.0f} %" for part, each in parts.items())
            print(f"{preset:<9}{name:<14}{rate:>9,.0f}{told}  {shown} ({share:.3f} s a step)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


def grow(options: argparse.Namespace) -> None:
    """Run this program once for each size, as a process of its own, or as several."""
    for size in GROWTH[options.grow]:
        print(f"--- {options.grow} {size if isinstance(size, str) else f'{size:,}'}", flush=True)
        values = {**vars(options), options.grow: size}
        command = [sys.executable]
        if options.grow == "processes":
            command += torchrun(values.pop("processes"))
        command += ["-m", "benchmarks.training"]
        for name, value in values.items():
            if name != "grow" and value is not None:
                sizes = value if isinstance(value, tuple) else (value,)
                command += [f"--{name}", ",".join(map(str, sizes))]
        subprocess.run(command, check=True)


def torchrun(processes: int) -> list[str]:
    """Give the arguments of python that let a module be run by so many processes."""
    start = ["-m", "torch.distributed.run", "--standalone"]
    return [*start, "--nproc-per-node", str(processes)]


def measured(
    data: TrainingData, preset: str, options: argparse.Namespace, team: Team
) -> list[Measured]:
    """Train some steps of each phase -> its name, users/s, seconds a step, where the time goes."""
    begun = time.perf_counter()
    context = context_of(data, settings_of(preset, options), team)
    if team.leads:
        print(f"{preset}: networks and neighbours took {time.perf_counter() - begun:.1f} s")
    found = []
    for name, (of, begin) in PHASES.items():
        if of != preset:
            continue
        phase, count = begin(context), options.batch if name == "fine-tuning" else 2 * options.batch
        taken = []
        for step in range(WARM_UP + options.steps):
            begun = time.perf_counter()
            phase.step(step)
            wait(context.device)
            taken.append(time.perf_counter() - begun)
        seconds = statistics.median(taken[WARM_UP:])
        found.append((name, count / seconds, seconds, parts_of(phase, len(taken), context.device)))
    return found


def parts_of(phase: Phase, first: int, device: torch.device) -> dict[str, float]:
    """Profile two steps -> share of the time by kind of operation, the largest first."""
    kinds = {
        "matrix products": ("::mm", "::addmm", "::bmm", "gemm"),
        "attention": ("scaled_dot", "flash"),
        "dropout": ("random_", "::ge"),
        "softmax": ("softmax",),
        "rows of tables": ("index", "embedding", "sparse", "coalesce"),
    }
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for step in (first, first + 1):
            phase.step(step)
    attribute = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spent = dict.fromkeys([*kinds, "other"], 0.0)
    for event in profiler.key_averages():
        chosen = (kind for kind, words in kinds.items() if any(word in event.key for word in words))
        spent[next(chosen, "other")] += getattr(event, attribute)
    total = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda each: -each[1])
    return {kind: each / total for kind, each in ordered}


def settings_of(preset: str, options: argparse.Namespace) -> TrainSettings:
    """Give the settings of a preset but for history and batch."""
    values: dict[str, Any] = dict(PRESETS[preset])
    size = {"max_history": options.history, "recent": options.history}
    values["network"] = {**values.get("network", {}), **size}
    for phase in ("pre_training", "fine_tuning", *(["adversarial"] if preset == "paper" else [])):
        values[phase] = {**values.get(phase, {}), "batch_users": options.batch}
    return TrainSettings.model_validate(values)


def context_of(data: TrainingData, settings: TrainSettings, team: Team) -> Context:
    """Draw networks over the data."""
    networks = TrainingNetworks({each.name: each.items for each in data.domains}, settings.network)
    initialise(networks, torch.Generator().manual_seed(0))
    return Context.of(data, networks, settings, team)


def of_each_domain(given: str) -> tuple[int, int]:
    """Read one number for both domains, or one for each."""
    first, _, second = given.replace("_", "").partition(",")
    return int(first), int(second or first)


def made_up(items: tuple[int, int], users: tuple[int, int], rows: int) -> TrainingData:
    """Make two domains of users with as many rows, a tenth of them shared, popular items first."""
    generator = np.random.default_rng(0)
    shared = np.arange(int(SHARED * min(users)))
    domains = []
    for name, own_items, own_users in zip(("first", "second"), items, users, strict=True):
        drawn = own_items ** generator.random(own_users * rows)  # log-uniform: few are popular
        training = Sequences(
            drawn.astype(np.int32).clip(1, own_items), np.arange(1, own_users + 1) * rows
        )
        other = np.full(own_users, -1)
        other[shared] = shared
        validation = np.zeros(own_users, np.int32)
        domains.append(TrainingDomain(name, own_items, training, validation, other))
    return TrainingData((domains[0], domains[1]), np.stack([shared, shared], axis=1))


if __name__ == "__main__":
    main()
