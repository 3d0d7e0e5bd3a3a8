"""Where training was, so that it goes on as if it had never stopped.

A checkpoint is a folder `RUN/checkpoints/<number>`, written whole or not at all:

    manifest.json        kind, format, what is trained on and with which settings, phase and step
    networks.safetensors the weights
    phase.safetensors    the phase's optimisers, and its best weights and counters so far

Random draws follow from seed, phase and step (`model.training.draws`), so the numbers of phase and
step are the state of every generator.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from model.errors import BadArtifactError, RecGuruError
from model.files import check_files, publishing, read_manifest, write_manifest
from model.tensor_files import writing_tensors
from model.training.phase import Phase

KIND = "recguru-checkpoint"
FORMAT = 1
_KEPT = 2
_NETWORKS = "networks.safetensors"
_PHASE = "phase.safetensors"
_ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is."""

    phase: int
    """Which phase comes next, from 0; the number of phases when all are done."""
    step: int
    """Steps of that phase that are done."""
    written: int
    """Checkpoints written before this one; numbers the folders."""
    summary: Mapping[str, Any]
    """Figures of the finished phases, by phase."""
    seconds: float = 0.0
    """Seconds that the steps of that phase have taken."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, *, made: Mapping[str, Any]) -> None:
        """Take the folder of the checkpoints; `made` names the dataset and settings of all."""
        self._folder = folder
        self._made = dict(made)

    def write(self, progress: Progress, networks: nn.Module, phase: Phase | None) -> None:
        """Write a checkpoint, then remove all but the last two.

        Raises:
            RecGuruError: If the disk is full.
        """
        with publishing(self._place(progress.written), replace=True) as place:
            _save(_contiguous(networks.state_dict()), place / _NETWORKS)
            _save(_phase_tensors(phase), place / _PHASE)
            content = {
                "made": self._made,
                "phase": progress.phase,
                "step": progress.step,
                "summary": dict(progress.summary),
                "seconds": progress.seconds,
            }
            write_manifest(place, kind=KIND, format_number=FORMAT, content=content)
        for old in self._numbers()[:-_KEPT]:
            shutil.rmtree(self._place(old))

    def newest(self) -> Progress | None:
        """Find the newest checkpoint and check that it is whole and belongs to this training.

        Raises:
            BadArtifactError: If it is damaged.
            RecGuruError: If it was made from another dataset or with other settings.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        place = self._place(numbers[-1])
        manifest = read_manifest(place, kind=KIND, format_number=FORMAT)
        check_files(place, manifest)
        if other := _difference(manifest["made"], self._made):
            raise RecGuruError(
                f"{place} was made with {other}; resume with the same, or choose another --out"
            )
        return Progress(
            manifest["phase"],
            manifest["step"],
            numbers[-1],
            manifest["summary"],
            manifest.get("seconds", 0.0),  # earlier ones did not say
        )

    def load_networks(self, progress: Progress, networks: nn.Module) -> None:
        """Put the weights of a checkpoint into the networks."""
        networks.load_state_dict(self._tensors(progress, _NETWORKS))

    def load_phase(self, progress: Progress, phase: Phase) -> None:
        """Put the optimisers' and the selection's state of a checkpoint into a phase."""
        tensors = self._tensors(progress, _PHASE)
        for name, optimiser in phase.optimisers().items():
            _restore_optimiser(optimiser, _below(f"optimiser.{name}.", tensors))
        if phase.selection is not None:
            phase.selection.restore(_below("selection.", tensors))

    def _tensors(self, progress: Progress, name: str) -> dict[str, Tensor]:
        path = self._place(progress.written) / name
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise BadArtifactError(f"{path} cannot be read: {error}") from None

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:08d}"

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with writing_tensors(path):
        save_file(tensors, path)


def _phase_tensors(phase: Phase | None) -> dict[str, Tensor]:
    if phase is None:
        return {}
    tensors: dict[str, Tensor] = {}
    if phase.selection is not None:
        tensors = {f"selection.{name}": value for name, value in phase.selection.state().items()}
    for name, optimiser in phase.optimisers().items():
        for place, moments in optimiser.state_dict()["state"].items():
            for moment, value in moments.items():
                tensors[f"optimiser.{name}.{place}.{moment}"] = torch.as_tensor(value)
    return _contiguous(tensors)


def _restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor | int]] = {}
    for name, value in tensors.items():
        place, moment = name.split(".")
        # Adam by rows counts its steps in an int, and computes otherwise with a tensor.
        counted = value.dtype == torch.int64
        moments.setdefault(int(place), {})[moment] = int(value) if counted else value
    state = optimiser.state_dict()
    optimiser.load_state_dict({**state, "state": moments})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.clone(value.detach().contiguous()) for name, value in tensors.items()}


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any], at: str = "") -> str:
    """Name the first value that two nested mappings differ in, and both; nothing where none.

    Digests are cut short.
    """
    for key in sorted(theirs.keys() | mine.keys()):
        one, other = theirs.get(key, _ABSENT), mine.get(key, _ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            if found := _difference(one, other, f"{at}{key}."):
                return found
        elif one != other:
            return f"{at}{key} {one!s:.24}, not {other!s:.24}"
    return ""
