"""The loop around the phases: resume, checkpoints, records, the bundle at the end."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.console import Advance, progress
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.device import torch_device
from model.errors import BadSettingError, RecGuruError
from model.files import canonical_json, holding, write_bytes_atomically
from model.networks.system import TrainingNetworks, initialise
from model.training.alignment import measure_alignment, sample_gurs, write_gurs
from model.training.bridging import Bridging
from model.training.checkpoint import Checkpoints, Progress
from model.training.context import Context
from model.training.export import export_bundle
from model.training.fine_tuning import FineTuning
from model.training.health import Health, check_weights
from model.training.joint import JointFineTuning
from model.training.parallel import Team, assemble
from model.training.phase import Phase
from model.training.phases import Adversarial, PreTraining
from model.training.record import Keeper, Record, Unrecorded
from model.training.settings import TrainSettings
from model.training.summary import SUMMARY, Trained, summary_text

_SETTINGS = "settings.json"
_LOCK = ".lock"
_LOGGED_STEPS = 10
_JUDGES = 2**32 - 1  # apart from the numbers of steps, which draws follow from too


def train(
    dataset_folder: Path,
    run: Path,
    settings: TrainSettings,
    *,
    resume: bool = False,
    device: str = "auto",
) -> Trained:
    """Train the phases on a dataset and write the bundle.

    Args:
        dataset_folder: The dataset.
        run: Where checkpoints, records, plots and the bundle go.
        settings: How to train.
        resume: Whether to go on from the run's newest checkpoint; without one it starts anew.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The bundle, `run/bundle`, and what each phase came to.

    Raises:
        RecGuruError: If the run exists already and `resume` is not set, is no training's, belongs
            to another training, or another process trains in it.
        TrainingError: If a loss is no longer finite, the critic collapsed, or one of several
            processes is gone; the last good checkpoint is intact.
    """
    with (
        _threads(settings.threads),
        assemble(torch_device(device)) as team,
        ExitStack() as held,
    ):
        with team.first_first():
            dataset = Dataset.read(dataset_folder)
            made = {"dataset": dataset.digest, "settings": settings.model_dump(mode="json")}
            if team.leads:
                held.enter_context(_opened(run, made, resume=resume))
        if team.told(lambda: made) != made:
            raise BadSettingError(
                "this process has another dataset or other settings than the first one; start all "
                "with the same"
            )
        context = _context(dataset, settings, team)
        started = time.monotonic()
        summary = _Training(context, run, Checkpoints(run / "checkpoints", made=made)).run()
        minutes = (time.monotonic() - started) / 60
        bundle = run / "bundle"
        digest = team.told(lambda: _export(bundle, dataset, context, summary))
        trained = Trained(bundle, digest, summary, minutes)
        if team.leads:
            write_bytes_atomically(run / SUMMARY, summary_text(trained).encode())
        return trained


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch take so many CPU threads, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def phases_of(context: Context) -> list[Phase]:
    """List the phases of Algorithm 1 in their order; fine-tuning is one per domain or joint.

    Bridges come last, where there are any.
    """
    phases: list[Phase] = [PreTraining(context, 0), Adversarial(context, 1)]
    if context.settings.fine_tuning.joint:
        phases.append(JointFineTuning(context, len(phases)))
    else:
        phases += [FineTuning(context, 2 + i, each) for i, each in enumerate(context.data.domains)]
    if context.settings.network.bridge_share:
        phases.append(Bridging(context, len(phases)))
    return phases


@contextmanager
def _opened(run: Path, made: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Hold a run for this training alone; what is no training's, or another's, is refused."""
    if run.exists() and not all(_is_of_a_start(path) for path in run.iterdir()):
        if not resume:
            raise RecGuruError(
                f"{run} holds something already; use --resume or choose another --out"
            )
        if not _is_of_a_training(run):
            raise RecGuruError(f"{run} holds no training to resume; choose another --out")
    run.mkdir(parents=True, exist_ok=True)
    with holding(run / _LOCK):
        Checkpoints(run / "checkpoints", made=made).newest()
        write_bytes_atomically(run / _SETTINGS, canonical_json(made))
        yield


def _is_of_a_start(path: Path) -> bool:
    """Say whether a training that was killed as it began may have left a file."""
    return path.name == _LOCK or path.name.startswith(f".{_SETTINGS}.")


def _is_of_a_training(run: Path) -> bool:
    try:
        made = json.loads((run / _SETTINGS).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(made, dict) and made.keys() == {"dataset", "settings"}


def _export(bundle: Path, dataset: Dataset, context: Context, summary: Mapping[str, Any]) -> str:
    settings = context.settings
    training = {"settings": settings.model_dump(mode="json"), "summary": summary}
    return export_bundle(
        bundle, dataset, context.networks.serving, settings.network, training=training
    )


def _context(dataset: Dataset, settings: TrainSettings, team: Team) -> Context:
    data = TrainingData.of(dataset)
    items = {domain.name: domain.items for domain in data.domains}
    networks = TrainingNetworks(items, settings.network)
    initialise(networks, torch.Generator().manual_seed(settings.seed))
    return Context.of(data, networks, settings, team)


class _Training:
    def __init__(self, context: Context, run: Path, checkpoints: Checkpoints) -> None:
        self._context = context
        self._team = context.team
        self._run = run
        self._checkpoints = checkpoints
        self._phases = phases_of(context)
        self._summary: dict[str, Mapping[str, float]] = {}
        self._written = 0
        self._began_s = 0.0
        self._health = Health()
        self._note = ""

    def run(self) -> Mapping[str, Mapping[str, float]]:
        reached = self._resumed()
        names = [phase.name for phase in self._phases]
        where = (reached.phase, reached.step)
        with self._record(names, where) as record:
            for place in range(reached.phase, len(self._phases)):
                step = reached.step if place == reached.phase else 0
                self._run_phase(place, step, record)
        return self._summary

    def _record(self, names: list[str], where: tuple[int, int]) -> AbstractContextManager[Keeper]:
        if self._team.leads:
            return Record(self._run, phases=names, reached=where)
        return nullcontext(Unrecorded())

    def _resumed(self) -> Progress:
        reached = self._checkpoints.newest()
        number = reached.written if reached else -1
        if self._team.told(lambda: number) != number:
            raise RecGuruError(
                f"this process finds another newest checkpoint in {self._run} than the first one; "
                "give all the same folder"
            )
        if reached is not None:
            self._load(reached)
        self._team.wait()  # the first process may soon remove what the others still read
        return reached or Progress(0, 0, 0, {})

    def _load(self, reached: Progress) -> None:
        self._checkpoints.load_networks(reached, self._context.networks)
        if reached.step:
            self._checkpoints.load_phase(reached, self._phases[reached.phase])
        done = [phase.name for phase in self._phases[: reached.phase]]
        self._summary = {name: reached.summary[name] for name in done}  # on disk they are sorted
        self._written = reached.written
        self._began_s = time.monotonic() - reached.seconds

    def _run_phase(self, place: int, step: int, record: Keeper) -> None:
        phase = self._phases[place]
        self._note = ""
        if step == 0:
            self._began_s = time.monotonic()
            phase.begin()
            self._team.spread(self._context.networks)
        with progress(phase.name, phase.steps, quiet=not self._team.leads) as advance:
            advance(step)
            over = False
            while step < phase.steps and not over:
                step, over = self._step(phase, step, record, advance)
                if step % self._context.settings.checkpoint_steps == 0 and not over:
                    self._checkpoint(place, step, phase)
        best = phase.selection.finish() if phase.selection else {}
        seconds = time.monotonic() - self._began_s
        judged: Mapping[str, float] = {}
        if phase.moves_gurs and (step or not place):  # before anything is aligned, and after it
            judged = self._team.told(lambda: self._judged(place, step, record))
        self._summary[phase.name] = {**best, **judged, "steps": step, "seconds": seconds}
        self._checkpoint(place + 1, 0, None)

    def _step(self, phase: Phase, step: int, record: Keeper, advance: Advance) -> tuple[int, bool]:
        figures = phase.step(step)
        step += 1
        selection, last = phase.selection, step == phase.steps
        looked = selection is not None and (last or selection.is_due(step))
        if last or looked or step % _LOGGED_STEPS == 0:
            numbers = self._team.totals(figures)
            if self._team.leads:  # one line about a failure, not one of each process
                self._health.check(phase.name, step, numbers)
            if selection is not None and looked:
                numbers |= selection.look()
            record.add(phase.name, step, numbers)
            self._note = " ".join(f"{name} {number:.4f}" for name, number in numbers.items())
        advance(1, note=self._note)
        return step, selection is not None and selection.is_over

    def _judged(self, place: int, step: int, record: Keeper) -> Mapping[str, float]:
        name, context = self._phases[place].name, self._context
        generator = np.random.default_rng([context.settings.seed, place, _JUDGES])
        sample = sample_gurs(context, generator)
        figures = measure_alignment(context, sample, generator).figures()
        record.add(name, step, figures)
        write_gurs(self._run, name, sample)
        return figures

    def _checkpoint(self, place: int, step: int, phase: Phase | None) -> None:
        if not self._team.leads:
            return
        check_weights(self._context.networks)
        self._written += 1
        seconds = time.monotonic() - self._began_s if step else 0.0
        reached = Progress(place, step, self._written, self._summary, seconds)
        self._checkpoints.write(reached, self._context.networks, phase)
