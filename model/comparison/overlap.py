"""The overlap study of the paper's Table 3: the same comparison with fewer and fewer shared users.

<out>/overlap-<percent>/dataset    the dataset with so many of the shared users
<out>/overlap-<percent>/…          its comparison, as any other
<out>/overlap.json, overlap.md     NDCG@10 and HR@10 of all systems against the share

    {"made": {"<percent>": {"dataset", "seeds", "versions", "code"}},
     "asked_shared_users": {"<percent>": n},
     "domains": {"<domain>": {"<title>": {"<percent>": {"<slice>": {"full": {"ndcg@10": ...}}}}}}}

A shared user is asked in a domain if the history there is long enough; the domain that asks more of
them is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from model.comparison.compare import compare, planned, report_of_folders, write_report
from model.comparison.registry import SYSTEMS
from model.comparison.results import SLICES
from model.comparison.runs import Say
from model.comparison.settings import CompareSettings
from model.comparison.summary import CELL, cell
from model.comparison.systems import Entry
from model.comparison.tables import origin, percent
from model.data.dataset import FORMAT, KIND
from model.data.overlap import with_overlap
from model.errors import BadArtifactError
from model.evaluation.report import RANKINGS
from model.files import MANIFEST, canonical_json, read_manifest, write_bytes_atomically

JSON, MARKDOWN = "overlap.json", "overlap.md"
_FIGURES = ("hr@10", "ndcg@10")
_TOLD = ("all", "cold")
"""The slices of users in the table; the JSON has all."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class Study:
    """A study that is written, and what is missing from it."""

    content: dict[str, Any]
    failures: list[str]


def study_overlap(
    data: Path,
    out: Path,
    settings: CompareSettings,
    percents: Sequence[int],
    *,
    say: Say,
    registry: Mapping[str, Entry] = SYSTEMS,
) -> Study:
    """Compare systems on datasets that differ in how many users stay shared.

    Args:
        data: The dataset folder to start from, with many shared users.
        out: Where everything goes; what is finished there is not done again.
        settings: What to run on each.
        percents: Shared users that stay shared, of a hundred.
        say: Told of each run.
        registry: The systems there are.

    Raises:
        NotFoundError: If a system is unknown, or there is no dataset.
        BadSettingError: Before anything is written, if a value given for a system is refused.
        BadArtifactError: If a dataset in `out` was made from another one.
        BadDataError: If the dataset has no shared users.
    """
    planned(settings, registry)  # what it refuses is refused before a dataset is made
    source = str(read_manifest(data, kind=KIND, format_number=FORMAT)["digest"])
    reports: dict[str, Mapping[str, Any]] = {}
    failures: list[str] = []
    for number in percents:
        say(f"{number} % of the shared users")
        place = out / _folder(number)
        _make(data, source, place / "dataset", number)
        done = compare(place / "dataset", place, settings, say=say, registry=registry)
        reports[str(number)] = done.report
        failures += [f"{number} %: {failure}" for failure in done.failures]
    content = _content(reports)
    _write_study(content, out)
    return Study(content, failures)


def rebuild_study(
    folders: Sequence[Path],
    out: Path,
    settings: CompareSettings,
    percents: Sequence[int],
    *,
    registry: Mapping[str, Entry] = SYSTEMS,
) -> dict[str, Any]:
    """Write a study of all runs that are finished in the folders of some; nothing is trained.

    Raises:
        NotFoundError: If there is no run at one of the shares, or none of the system to compare
            with.
        BadArtifactError: If a result is damaged, or two cannot stand in one table or one study.
    """
    reports: dict[str, Mapping[str, Any]] = {
        str(number): report_of_folders(
            [folder / _folder(number) for folder in folders], settings, registry=registry
        )
        for number in percents
    }
    _check_alike(reports)
    content = _content(reports)
    for number in percents:
        write_report(reports[str(number)], out / _folder(number))
    _write_study(content, out)
    return content


def _check_alike(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that reports can be of one study: the domains, what is asked and who is set apart.

    Settings may differ: systems are tuned at each share.
    """
    (first, base), *others = reports.items()
    for number, report in others:
        if set(report["domains"]) != set(base["domains"]):
            raise BadArtifactError(f"{first} % and {number} % are of different domains")
        if report["question_seed"] != base["question_seed"]:
            raise BadArtifactError(f"{first} % and {number} % differ in their question_seed")
        for name in report["systems"].keys() & base["systems"].keys():
            shares = {each["systems"][name]["newcomer_share"] for each in (base, report)}
            if len(shares - {0.0}) > 1:  # 0 also where there are too few to set one apart
                raise BadArtifactError(
                    f"{first} % and {number} % differ in the newcomer_share of {name}"
                )


def _folder(number: int) -> str:
    return f"overlap-{number:02d}"


def _write_study(content: Mapping[str, Any], out: Path) -> None:
    write_bytes_atomically(out / JSON, canonical_json(content))
    write_bytes_atomically(out / MARKDOWN, study_markdown(content).encode())


def _make(data: Path, source: str, place: Path, number: int) -> None:
    """Make the dataset with so many per cent of the shared users unless it is there."""
    if not (place / MANIFEST).exists():
        with_overlap(data, place, share=number / 100, seed=_SEED)
    manifest = read_manifest(place, kind=KIND, format_number=FORMAT)
    if manifest["made"].get("dataset") != source:
        raise BadArtifactError(f"{place} was made from another dataset; choose another --out")


def _content(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    first = next(iter(reports.values()))
    titles = {
        name: about["title"] for each in reports.values() for name, about in each["systems"].items()
    }
    return {
        "made": {
            number: {name: report[name] for name in ("dataset", "seeds", "versions", "code")}
            for number, report in reports.items()
        },
        "asked_shared_users": {
            number: max(parts["shared"]["users"] for parts in report["domains"].values())
            for number, report in reports.items()
        },
        "domains": {
            domain: {
                title: {
                    number: _point(report["domains"][domain], name)
                    for number, report in reports.items()
                    if name in report["systems"]
                }
                for name, title in titles.items()
            }
            for domain in first["domains"]
        },
    }


def _point(parts: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        part: {
            ranking: {figure: parts[part]["systems"][name][ranking][figure] for figure in _FIGURES}
            for ranking in RANKINGS
        }
        for part in SLICES
    }


def study_summary(content: Mapping[str, Any]) -> str:
    """Spell what fits a terminal: full and sampled NDCG@10 of all users and of cold starts."""
    numbers = list(content["made"])
    lines = [f"{number} %: {origin(made)}" for number, made in content["made"].items()]
    for (domain, systems), part in product(content["domains"].items(), _TOLD):
        longest = max(len(title) for title in systems)
        lines += [
            f"{domain}, {part}: NDCG@10 in %, full (sampled), by the share that stays shared",
            f"{'':<{longest}}" + "".join(f"{number + ' %':>{CELL}}" for number in numbers),
        ]
        for title, points in systems.items():
            cells = [cell(points[number][part] if number in points else None) for number in numbers]
            lines.append(f"{title:<{longest}}" + "".join(cells))
    return "\n".join(lines)


def study_markdown(content: Mapping[str, Any]) -> str:
    """Spell a study like the paper's Table 3, in per cent."""
    numbers = list(content["made"])
    asked = ", ".join(
        f"{number} %: {users:,}, dataset `{content['made'][number]['dataset'][:12]}`"
        for number, users in content["asked_shared_users"].items()
    )
    lines = [
        "# Overlap study",
        "",
        f"A pair of domains with part of its shared users (asked: {asked}).",
        "Mean over seeds, in per cent.",
        "",
        "| domain | users | ranking | metric | system | "
        + " | ".join(f"{number} %" for number in numbers)
        + " |",
        "|" + " --- |" * (5 + len(numbers)),
    ]
    for domain, systems in content["domains"].items():
        for part, ranking, figure in product(_TOLD, RANKINGS, _FIGURES):
            for title, points in systems.items():
                cells = [
                    percent(
                        points[number][part][ranking][figure]["mean"] if number in points else None
                    )
                    for number in numbers
                ]
                row = [domain, part, ranking, figure.upper(), title, *cells]
                lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
