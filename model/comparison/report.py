"""Finished runs to one report: means and deviations over seeds, differences with their intervals.

    {"dataset": digest, "seeds": [0, ...], "question_seed": 0, "versions": [{...}],
     "code": [digest],
     "systems": {"<name>": {"title", "ours", "seeds", "newcomer_share", "settings", "minutes",
                            "peak_mib", "alignment", "tuning"}},
     "domains": {"<domain>": {"<slice>": {
         "users": n,
         "systems": {"<name>": {"full": {"ndcg@10": {"mean": x, "deviation": y}, ...},
                                "sampled": {...}}},
         "differences": {"best_baseline": {"to": name, "systems": {"<name>": {
                             "mean", "relative", "low", "high"}}},
                         "against": {...}}}}}}

A deviation is that of a sample (n - 1); null where there is one seed. `relative` is the difference
as a part of what it is a difference to. Shapes: D differences, Q users.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from model.comparison.bootstrap import Numbers, intervals
from model.comparison.results import SLICES, Result, RunRanks
from model.comparison.runs import Finished
from model.errors import BadArtifactError
from model.evaluation.report import FIGURES, RANKINGS
from model.metrics import gains

MAIN = "ndcg@10"
"""Of the full ranking; what systems are chosen and compared by."""
_CUTOFF = 10
_BOOTSTRAP_SEED = 0
STRONG = "sasrec-strong"


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one system."""

    results: list[Result]
    ranks: list[RunRanks]
    """Of all of them, or of none."""

    def gains(self, domain: str, part: str) -> Numbers:
        """Return each user's full NDCG@10, the mean over the seeds, (Q,)."""
        each = [gains(ranks[domain].full(part), _CUTOFF) for ranks in self.ranks]
        mean: Numbers = np.mean(each, axis=0)
        return mean

    def figure(self, domain: str, part: str, ranking: str, name: str) -> dict[str, float | None]:
        """Return a figure's mean and deviation over the seeds."""
        if not self.users(domain, part):
            return _spread([])
        return _spread([run.domains[domain][part][ranking][name] for run in self.results])

    def users(self, domain: str, part: str) -> int:
        """Count the users of a slice; 0 of newcomers where nobody was set apart."""
        users: int = self.results[0].domains[domain].get(part, {"users": 0})["users"]
        return users


def make_report(
    finished: Iterable[Finished], *, against: str | None, resamples: int
) -> dict[str, Any]:
    """Put finished runs together.

    Args:
        finished: At least one, in the order of the table; runs of a system may stand apart.
        against: A system whose difference to all others is reported.
        resamples: Bootstrap resamples of the users.

    Raises:
        BadArtifactError: If two of them cannot stand in one table.
    """
    runs = _by_system(list(finished))
    first = next(iter(runs.values())).results[0]
    results = [result for system in runs.values() for result in system.results]
    named = (against or STRONG) if (against or STRONG) in runs else None
    return {
        "dataset": first.facts.dataset,
        "seeds": sorted({result.facts.seed for result in results}),
        "question_seed": first.facts.question_seed,
        "resamples": resamples,
        "versions": _distinct(result.facts.versions for result in results),
        "code": _distinct(result.code for result in results),
        "systems": {name: _about(system.results) for name, system in runs.items()},
        "domains": {
            domain: {
                part: _slice(runs, domain, part, against=named, resamples=resamples)
                for part in SLICES
            }
            for domain in first.domains
        },
    }


def _by_system(finished: Sequence[Finished]) -> dict[str, _Runs]:
    check_together(finished)
    runs: dict[str, _Runs] = {}
    seen: set[tuple[str, int]] = set()
    for run in finished:
        facts = run.result.facts
        if (facts.system, facts.seed) in seen:
            continue
        seen.add((facts.system, facts.seed))
        mine = runs.setdefault(facts.system, _Runs([], []))
        mine.results.append(run.result)
        ranks = run.ranks()
        if ranks is not None:
            mine.ranks.append(ranks)
    for mine in runs.values():
        if len(mine.ranks) != len(mine.results):
            mine.ranks.clear()
    return runs


def check_together(finished: Sequence[Finished]) -> None:
    """Check that runs can stand in one table: one dataset, one set of settings for each system.

    Runs that set nobody apart may stand beside those that did, without figures of newcomers.

    Raises:
        BadArtifactError: Naming two files that differ.
    """
    first = finished[0]
    of_system: dict[str, Finished] = {}
    of_share: dict[bool, Finished] = {}
    for run in finished:
        facts, other = run.result.facts, of_system.setdefault(run.result.facts.system, run)
        for name in ("dataset", "question_seed"):
            if getattr(facts, name) != getattr(first.result.facts, name):
                raise BadArtifactError(f"{first.path} and {run.path} differ in their {name}")
        alike = of_share.setdefault(facts.newcomer_share > 0, run)
        for name, of in (
            ("settings", other),
            ("device", other),
            ("newcomer_share", other),
            ("newcomer_share", alike),
        ):
            if getattr(facts, name) != getattr(of.result.facts, name):
                raise BadArtifactError(
                    f"{of.path} and {run.path} differ in their {name}; remove one of them"
                )


def _about(results: Sequence[Result]) -> dict[str, Any]:
    first = results[0]
    return {
        "title": first.title,
        "ours": first.ours,
        "seeds": [result.facts.seed for result in results],
        "newcomer_share": first.facts.newcomer_share,
        "settings": first.facts.settings,
        "minutes": _spread([result.minutes for result in results]),
        "resumed": any(result.resumed for result in results),
        "peak_mib": max(result.peak_mib for result in results),
        "alignment": {
            name: _spread([result.alignment.get(name) for result in results])
            for name in first.alignment
        },
        "tuning": None if first.tuning is None else first.tuning.model_dump(mode="json"),
    }


def _slice(
    runs: Mapping[str, _Runs], domain: str, part: str, *, against: str | None, resamples: int
) -> dict[str, Any]:
    users = max(system.users(domain, part) for system in runs.values())
    systems = {
        name: {
            ranking: {figure: system.figure(domain, part, ranking, figure) for figure in FIGURES}
            for ranking in RANKINGS
        }
        for name, system in runs.items()
    }
    differences: dict[str, Any] = {"best_baseline": None, "against": None}
    if users:
        to = {"best_baseline": _best_baseline(runs, domain, part), "against": against}
        differences = _differences(runs, domain, part, to, resamples=resamples)
    return {"users": users, "systems": systems, "differences": differences}


def _best_baseline(runs: Mapping[str, _Runs], domain: str, part: str) -> str | None:
    means = {
        name: system.figure(domain, part, "full", MAIN)["mean"] or 0.0
        for name, system in runs.items()
        if not system.results[0].ours and system.users(domain, part)
    }
    return max(means, key=lambda name: means[name], default=None)


def _differences(
    runs: Mapping[str, _Runs],
    domain: str,
    part: str,
    to: Mapping[str, str | None],
    *,
    resamples: int,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: None if base is None else {"to": base, "systems": {}} for name, base in to.items()
    }
    each = {
        name: system.gains(domain, part)
        for name, system in runs.items()
        if system.ranks and system.users(domain, part)
    }
    pairs = [
        (kind, name, base)
        for kind, base in to.items()
        for name in each
        if base in each and base != name
    ]
    if not pairs:
        return found
    apart = np.stack([each[name] - each[base] for _, name, base in pairs])  # (D, Q)
    ends = intervals(apart, resamples=resamples, seed=_BOOTSTRAP_SEED)
    for (kind, name, base), difference, (low, high) in zip(
        pairs, apart.mean(axis=1), ends, strict=True
    ):
        level = float(each[base].mean())
        found[kind]["systems"][name] = {
            "mean": float(difference),
            "relative": float(difference) / level if level else None,
            "low": float(low),
            "high": float(high),
        }
    return found


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "deviation": None}
    return {"mean": fmean(known), "deviation": stdev(known) if len(known) > 1 else None}


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
