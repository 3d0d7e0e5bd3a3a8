"""How far the losses of two processes are from those of one, phase by phase.

    python -m benchmarks.traces --data DATASET [--history 50] [--batch 256] [--steps 20] [--double]

Trains the first steps of each phase without dropout, which is each process' own, from fresh
networks and on the same batches: by one process, and by two that torchrun starts. Printed is the
largest relative difference of any loss of a phase, of the first step and of all steps; with
`--double` of networks that compute in double precision.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.training import PHASES, context_of, settings_of, torchrun
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.device import torch_device
from model.training.parallel import Team, assemble

Trace = list[dict[str, float]]
"""Every loss of each step."""


def main() -> None:
    """Compare the traces and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--history", type=int, default=50, help="longest history (N)")
    parser.add_argument("--batch", type=int, default=256, help="users of a domain in a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        with assemble(torch_device("cpu")) as team:
            found = traces(options, team)
            if team.leads:
                options.trace.write_text(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        alone, shared = (trained(count, Path(folder) / f"{count}.json") for count in (1, 2))
    print(f"{'phase':<14}{'first step':>12}{f'{options.steps} steps':>12}")
    for name, trace in alone.items():
        apart = [
            max(abs(shared[name][step][loss] / value - 1) for loss, value in losses.items())
            for step, losses in enumerate(trace)
        ]
        print(f"{name:<14}{apart[0]:>12.1e}{max(apart):>12.1e}")


def trained(processes: int, place: Path) -> dict[str, Trace]:
    """Run this program as so many processes -> the traces that it wrote."""
    command = [sys.executable, *torchrun(processes), "-m", "benchmarks.traces"]
    subprocess.run([*command, *sys.argv[1:], "--trace", str(place)], check=True)
    found: dict[str, Trace] = json.loads(place.read_text())
    return found


def traces(options: argparse.Namespace, team: Team) -> dict[str, Trace]:
    """Train some steps of each phase."""
    torch.set_num_threads(1)
    if options.double:
        torch.set_default_dtype(torch.float64)
    data = TrainingData.of(Dataset.read(options.data))
    found: dict[str, Trace] = {}
    for name, (preset, begin) in PHASES.items():
        settings = settings_of(preset, options)
        network = settings.network.model_copy(update={"dropout": 0.0, "encoder_dropout": 0.0})
        phase = begin(context_of(data, settings.model_copy(update={"network": network}), team))
        found[name] = [team.totals(phase.step(step)) for step in range(options.steps)]
    return found


if __name__ == "__main__":
    main()
