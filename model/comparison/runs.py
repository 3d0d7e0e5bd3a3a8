"""One run after the other: fit, ask, write; what is finished already is left alone."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from model.arrays import Flags
from model.comparison.candidates import Candidate
from model.comparison.measure import Cost, measured
from model.comparison.results import (
    DomainRanks,
    Facts,
    Outcome,
    Result,
    RunRanks,
    Trial,
    Tuning,
    code_digest,
    library_versions,
    read_ranks,
    read_record,
    result_path,
    trial_path,
    write_ranks,
    write_record,
)
from model.comparison.settings import CompareSettings
from model.comparison.systems import Entry, Task
from model.data.dataset import Dataset
from model.data.newcomers import draw_newcomers, with_newcomers
from model.data.training_data import TrainingData
from model.errors import RecGuruError, TrainingError
from model.evaluation.protocol import Questions, Scorer, questions
from model.evaluation.ranking import Ranks, rank_in_process
from model.evaluation.report import figures, slice_figures
from model.evaluation.validation import Validation
from model.files import canonical_json, holding
from model.settings import Settings

Say = Callable[[str], None]
"""Told of each run in a line."""

_log = logging.getLogger(__name__)
_TRIAL_SEED = 0
_LEARNED = "learned"
"""The folder of the datasets that systems learn from."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished:
    """A result that is on disk."""

    result: Result
    path: Path

    def ranks(self) -> RunRanks | None:
        """Read its ranks, or nothing where they were not kept."""
        return read_ranks(self.path, self.result)


class Runs:
    """The runs of one comparison, all on one dataset, kept in one folder.

    Systems learn from a copy of the dataset in which newcomers are two users each.
    """

    def __init__(self, data: Path, out: Path, settings: CompareSettings, say: Say) -> None:
        dataset = learned = Dataset.read(data)
        share, seed = settings.newcomer_share, settings.question_seed
        self._folder = data
        if len(draw_newcomers(len(dataset.shared), share=share, seed=seed)):
            self._folder = with_newcomers(dataset, out / _LEARNED, share=share, seed=seed)
            learned = Dataset.read(self._folder)
        self._newcomers = dataset.shared[~np.isin(dataset.shared[:, 0], learned.shared[:, 0])]
        self._data = TrainingData.of(learned)
        self._dataset = dataset
        self._out = out
        self._settings = settings
        self._say = say
        self._questions: dict[tuple[str, bool], Questions] = {}
        self._versions = library_versions()
        self._code = code_digest()

    def tuned(
        self, entry: Entry, candidates: Sequence[Candidate]
    ) -> tuple[Settings, Tuning | None]:
        """Choose the settings of a system on validation rows.

        Returns:
            The settings, and how they were chosen; nothing of that where there is no choice.

        Raises:
            TrainingError: If no candidate could be trained.
        """
        if len(candidates) == 1:
            return candidates[0].settings, None
        outcomes = [self._trial(entry, candidate) for candidate in candidates]
        best = max(outcomes, key=lambda outcome: outcome.mean)
        if best.failure is not None:
            raise TrainingError(f"every trial failed, the first: {best.failure}")
        tuning = Tuning(budget=self._settings.trials, trials=tuple(outcomes), chosen=best.number)
        return candidates[best.number].settings, tuning

    def finished(
        self, entry: Entry, settings: Settings, seed: int, tuning: Tuning | None
    ) -> Finished:
        """Train and evaluate a system once, unless that was done before."""
        facts = self._facts(entry, settings, seed)
        path = result_path(self._out, entry.name, seed)
        old = read_record(path, Result)
        if old is not None and old.facts == facts:
            if old.tuning != tuning:
                old = old.model_copy(update={"tuning": tuning})
                write_record(path, old)
            self._say(f"{old.label}: {self._before(old.code)}")
            return Finished(old, path)
        with self._work(f"{entry.name}-{seed}", facts) as work:
            resumed = any(not path.name.startswith(".") for path in work.iterdir())
            task = self._task(settings, seed, work)
            scorer, cost = _fit(entry, task)
            domains, ranks = self._answered(scorer)
            result = Result(
                facts=facts,
                title=entry.title,
                ours=entry.ours,
                minutes=cost.minutes,
                resumed=resumed,
                peak_mib=cost.peak_mib,
                code=self._code,
                ranks=write_ranks(path, ranks),
                domains=domains,
                tuning=tuning,
                alignment=dict(task.alignment),
            )
            write_record(path, result)
        self._say(f"{result.label}: {_shown(domains)}; {cost.minutes:.2f} minutes")
        return Finished(result, path)

    def _trial(self, entry: Entry, candidate: Candidate) -> Outcome:
        number, changes, settings = candidate.number, candidate.changes, candidate.settings
        facts = self._facts(entry, settings, _TRIAL_SEED)
        path = trial_path(self._out, entry.name, number)
        old = read_record(path, Trial)
        label = f"{entry.name} trial {number}"
        if old is not None and old.facts == facts:
            self._say(f"{label}: {self._before(old.code)}")
            if old.outcome.changes != changes:  # the same settings, with other defaults now
                outcome = old.outcome.model_copy(update={"changes": dict(changes)})
                old = old.model_copy(update={"outcome": outcome})
                write_record(path, old)
            return old.outcome
        names = [domain.name for domain in self._data.domains]
        failure, minutes = None, 0.0
        with self._work(f"{entry.name}-trial-{number}", facts) as work:
            try:
                scorer, cost = _fit(entry, self._task(settings, _TRIAL_SEED, work))
                minutes = cost.minutes
                found = {name: Validation(self._data, name).ndcg_at_10(scorer) for name in names}
            except TrainingError as error:  # a setting that diverges is one that is not chosen
                failure, found = str(error), dict.fromkeys(names, 0.0)
            outcome = Outcome(
                number=number,
                changes=dict(changes),
                ndcg_at_10=found,
                mean=sum(found.values()) / len(found) if failure is None else -1.0,
                minutes=minutes,
                failure=failure,
            )
            write_record(path, Trial(facts=facts, outcome=outcome, code=self._code))
        shown = failure or f"validation NDCG@10 {100 * outcome.mean:.2f} %"
        self._say(f"{label}: {shown}; {minutes:.2f} minutes; {_spelled(changes)}")
        return outcome

    def _before(self, code: str) -> str:
        other = "" if code == self._code else " (by other code; remove it to run it again)"
        return f"finished before{other}"

    def _task(self, settings: Settings, seed: int, work: Path) -> Task:
        return Task(self._data, self._folder, settings, seed, work, self._settings.device)

    def _answered(self, scorer: Scorer) -> tuple[dict[str, dict[str, Any]], RunRanks]:
        found: dict[str, dict[str, Any]] = {}
        kept: dict[str, DomainRanks] = {}
        for domain in self._data.domains:
            asked, ranks = self._ranked(scorer, domain.name, cold=False)
            asked_cold, ranks_cold = self._ranked(scorer, domain.name, cold=True)
            everyone = figures(asked, ranks)
            slices = everyone.pop("slices")
            cold = figures(asked_cold, ranks_cold)
            del cold["slices"]
            found[domain.name] = {"all": everyone, **slices, "cold": cold}
            new = self._are_new(asked_cold)
            if len(self._newcomers):
                found[domain.name]["newcomers"] = slice_figures(ranks_cold, new)
            kept[domain.name] = DomainRanks.of(asked, ranks, ranks_cold, new)
        return found, kept

    def _are_new(self, asked: Questions) -> Flags:
        """Say whose questions are those of newcomers, (Q,)."""
        place = [domain.name for domain in self._dataset.domains].index(asked.domain)
        return np.isin(asked.users, self._newcomers[:, place])

    def _ranked(self, scorer: Scorer, domain: str, *, cold: bool) -> tuple[Questions, Ranks]:
        if (domain, cold) not in self._questions:
            seed = self._settings.question_seed
            self._questions[domain, cold] = questions(self._dataset, domain, seed=seed, cold=cold)
        asked = self._questions[domain, cold]
        return asked, rank_in_process(scorer, asked)

    def _facts(self, entry: Entry, settings: Settings, seed: int) -> Facts:
        return Facts(
            system=entry.name,
            dataset=self._dataset.digest,
            settings=settings.model_dump(mode="json"),
            seed=seed,
            question_seed=self._settings.question_seed,
            newcomer_share=self._settings.newcomer_share if len(self._newcomers) else 0.0,
            device=self._settings.device if entry.on_device else "cpu",
            versions=self._versions,
        )

    @contextmanager
    def _work(self, name: str, facts: Facts) -> Iterator[Path]:
        """Give the work folder of a run to this process alone; it goes when the run is done.

        One of other facts, or begun by other code, is removed.

        Raises:
            OverloadedError: If another process makes this run in the same place.
        """
        made_from = {"facts": facts.model_dump(mode="json"), "code": self._code}
        digest = sha256(canonical_json(made_from)).hexdigest()[:12]
        place = self._out / "work" / name / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        with holding(place.parent.with_suffix(".lock")):
            for other in place.parent.glob("*"):
                if other != place:
                    _log.info("work of another run removed folder=%s", other)
                    shutil.rmtree(other)
            place.mkdir(exist_ok=True)
            yield place
            shutil.rmtree(place.parent)


def run_all(
    runs: Runs, tries: Sequence[tuple[Entry, Sequence[Candidate]]], seeds: Sequence[int]
) -> tuple[list[Finished], list[str]]:
    """Tune all systems, then train each with each seed; a failure ends that run alone.

    Args:
        runs: What trains them.
        tries: The systems, each with the settings it is tried with.
        seeds: What each is trained with.

    Returns:
        The finished runs, and a line for each that failed.
    """
    attempts = Attempts()
    chosen = [
        (entry, settings)
        for entry, candidates in tries
        for settings in attempts.made(entry.name, partial(runs.tuned, entry, candidates))
    ]
    finished = [
        run
        for place, seed in enumerate(dict.fromkeys(seeds))
        for entry, (settings, tuning) in chosen
        if entry.seeded or not place
        for run in attempts.made(
            f"{entry.name} seed {seed}", partial(runs.finished, entry, settings, seed, tuning)
        )
    ]
    return finished, attempts.failures


class Attempts:
    """Keeps hours of finished work from being lost to the failure of one run."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def made(self, label: str, attempt: Callable[[], T]) -> list[T]:
        """Return what the attempt returns, or nothing where it fails, and note that."""
        try:
            return [attempt()]
        except RecGuruError as error:
            self.failures.append(f"{label}: {error}")
        except Exception as error:  # noqa: BLE001  # logged, and the other runs go on
            self.failures.append(f"{label}: {type(error).__name__}: {error}")
            _log.exception("run failed run=%s", label)
        return []


def _fit(entry: Entry, task: Task) -> tuple[Scorer, Cost]:
    with measured() as cost:
        scorer = entry.fit(task)
    return scorer, cost


def _shown(domains: Mapping[str, Mapping[str, Any]]) -> str:
    cells = [
        f"{name} {100 * parts['all']['full']['ndcg@10']:.2f} %"
        for name, parts in domains.items()
        if parts["all"]["users"]
    ]
    return "full NDCG@10 " + ", ".join(cells)


def _spelled(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in changes.items()) or "the defaults"
