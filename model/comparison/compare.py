"""A comparison from the dataset to the report, and a report from finished runs alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.comparison.candidates import Candidate, candidates_of
from model.comparison.registry import SYSTEMS
from model.comparison.report import make_report
from model.comparison.results import RESULTS, Result, read_record
from model.comparison.runs import Finished, Runs, Say, run_all
from model.comparison.settings import CompareSettings
from model.comparison.systems import Entry, find
from model.comparison.tables import as_markdown
from model.errors import NotFoundError, RecGuruError
from model.files import canonical_json, write_bytes_atomically

JSON, MARKDOWN = "report.json", "report.md"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A report that is written, and what is missing from it."""

    report: dict[str, Any]
    failures: list[str]
    """A line for each run that failed."""


def compare(
    data: Path,
    out: Path,
    settings: CompareSettings,
    *,
    say: Say,
    registry: Mapping[str, Entry] = SYSTEMS,
) -> Comparison:
    """Tune, train and evaluate systems on a dataset, and write the report of these runs.

    Runs that are finished in `out` and were made from the same are not done again.

    Args:
        data: The dataset folder.
        out: Where results, trials and the report go.
        settings: What to run.
        say: Told of each run.
        registry: The systems there are.

    Raises:
        NotFoundError: If a system is unknown, or there is no dataset.
        BadSettingError: Before anything is written, if a value given for a system is refused.
        RecGuruError: If no run succeeded.
    """
    settings, tries = planned(settings, registry)
    runs = Runs(data, out, settings, say)
    finished, failures = run_all(runs, tries, settings.seeds)
    if not finished:
        raise RecGuruError(f"no run succeeded; the first: {failures[0]}")
    report = make_report(finished, against=settings.against, resamples=settings.resamples)
    write_report(report, out)
    return Comparison(report, failures)


def planned(
    settings: CompareSettings, registry: Mapping[str, Entry]
) -> tuple[CompareSettings, list[tuple[Entry, list[Candidate]]]]:
    """List the systems of a comparison, each with the settings it is tried with.

    Returns:
        The settings of the comparison, with the device that there is in place of `auto`; and the
        systems.

    Raises:
        NotFoundError: If a system is unknown.
        BadSettingError: If a value given for a system is refused.
        UnavailableDeviceError: If a system can take a GPU, one is asked for, and there is none.
    """
    entries = find(settings.systems, registry)
    _check_names(settings, [entry.name for entry in entries], registry)
    tries = [(entry, candidates_of(entry, settings)) for entry in entries]
    if any(entry.on_device for entry in entries):
        from model.device import torch_device  # noqa: PLC0415  # torch, where it is needed

        settings = settings.model_copy(update={"device": torch_device(settings.device).type})
    return settings, tries


def rebuild(
    folders: Sequence[Path],
    out: Path,
    settings: CompareSettings,
    *,
    registry: Mapping[str, Entry] = SYSTEMS,
) -> Comparison:
    """Write the report of all runs that are finished in some folders; nothing is trained.

    Raises:
        NotFoundError: If there is none, or none of the system to compare with.
        BadArtifactError: If a result is damaged, or two cannot stand in one table.
    """
    report = report_of_folders(folders, settings, registry=registry)
    write_report(report, out)
    return Comparison(report, [])


def report_of_folders(
    folders: Sequence[Path],
    settings: CompareSettings,
    *,
    registry: Mapping[str, Entry] = SYSTEMS,
) -> dict[str, Any]:
    """Make the report of all runs that are finished in some folders, and write nothing.

    Raises:
        NotFoundError: If there is none, or none of the system to compare with.
        BadArtifactError: If a result is damaged, or two cannot stand in one table.
    """
    finished = [run for folder in folders for run in _found(folder)]
    if not finished:
        places = ", ".join(str(folder / RESULTS) for folder in folders)
        raise NotFoundError(f"there is no result in {places}")
    order = {name: place for place, name in enumerate(registry)}
    finished.sort(
        key=lambda run: (
            order.get(run.result.facts.system, len(order)),
            run.result.facts.system,
            run.result.facts.seed,
        )
    )
    _check_against(settings, list(dict.fromkeys(run.result.facts.system for run in finished)))
    return make_report(finished, against=settings.against, resamples=settings.resamples)


def write_report(report: Mapping[str, Any], out: Path) -> None:
    """Write a report as JSON and as Markdown; `out` is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(out / JSON, canonical_json(report))
    write_bytes_atomically(out / MARKDOWN, as_markdown(report).encode())


def _check_names(
    settings: CompareSettings, names: Sequence[str], registry: Mapping[str, Entry]
) -> None:
    for table in ("settings", "spaces"):
        for name in getattr(settings, table):
            if name not in registry:
                known = ", ".join(registry)
                raise NotFoundError(
                    f"setting compare.{table}: no system {name!r}; there are {known}"
                )
    _check_against(settings, names)


def _check_against(settings: CompareSettings, names: Sequence[str]) -> None:
    if settings.against is not None and settings.against not in names:
        known = ", ".join(names)
        raise NotFoundError(f"system {settings.against!r} is not compared; there are {known}")


def _found(folder: Path) -> list[Finished]:
    found = []
    for path in sorted((folder / RESULTS).glob("*.json")):
        result = read_record(path, Result)
        if result is not None:
            found.append(Finished(result, path))
    return found
