"""A comparison's report in a terminal: a figure of each system and slice, differences, cost."""

from collections.abc import Mapping
from typing import Any

from model.comparison.results import SLICES
from model.comparison.tables import (
    ALIGNMENT,
    NONE,
    Report,
    alignment_cells,
    interval,
    minutes_words,
    origin,
    percent,
    settings_words,
    titles_of,
    untuned,
)
from model.evaluation.report import RANKINGS

CELL = 16
"""Width of a figure."""
_APART = 22
"""Width of a difference with its interval."""


def summary(report: Report) -> str:
    """Spell what fits a terminal: NDCG@10 of every system and slice, minutes, what was tuned.

    Where ranks were kept, each domain's figures are followed by the differences to the system
    that all are compared with, and of the RecGURU family to each slice's best baseline, with their
    95 % intervals.
    """
    lines = [origin(report)]
    titles = titles_of(report)
    longest = max(len(title) for title in titles.values())
    asked = [part for part in SLICES if any(p[part]["users"] for p in report["domains"].values())]
    for domain, parts in report["domains"].items():
        lines += [
            f"{domain}: NDCG@10 in %, full (sampled)",
            f"{'':<{longest}}" + "".join(f"{part:>{CELL}}" for part in asked),
        ]
        for name, title in titles.items():
            cells = [cell(parts[part]["systems"][name]) for part in asked]
            lines.append(f"{title:<{longest}}" + "".join(cells))
        lines += _difference_lines(report, domain, longest)
        lines += _best_lines(report, domain)
    return "\n".join([*lines, *_cost_lines(report, longest), *_tuning_lines(report, longest)])


def cell(figures: Mapping[str, Any] | None) -> str:
    """Spell a system's full and sampled NDCG@10, `CELL` wide; a dash if nobody was asked."""
    full, sampled = (
        None if figures is None else figures[ranking]["ndcg@10"]["mean"] for ranking in RANKINGS
    )
    spelled = NONE if full is None else f"{percent(full)} ({percent(sampled)})"
    return spelled.rjust(CELL)


def _difference_lines(report: Report, domain: str, longest: int) -> list[str]:
    parts = report["domains"][domain]
    apart = {part: parts[part]["differences"]["against"] for part in SLICES}
    known = {part: to for part, to in apart.items() if to and to["systems"]}
    if not known:
        return []
    titles = titles_of(report)
    (base,) = {to["to"] for to in known.values()}
    lines = [
        f"{domain}: difference to {titles[base]}, full NDCG@10 in points of %, 95 % interval",
        f"{'':<{longest}}" + "".join(f"{part:>{_APART}}" for part in known),
    ]
    for name in dict.fromkeys(name for to in known.values() for name in to["systems"]):
        cells = [interval(to["systems"].get(name)).rjust(_APART) for to in known.values()]
        lines.append(f"{titles[name]:<{longest}}" + "".join(cells))
    return lines


def _best_lines(report: Report, domain: str) -> list[str]:
    """Spell how far the family is from the best baseline of each slice, a slice a line."""
    parts = report["domains"][domain]
    found = {part: parts[part]["differences"]["best_baseline"] for part in SLICES}
    known = {part: to for part, to in found.items() if to and to["systems"]}
    ours = [name for name, about in report["systems"].items() if about["ours"]]
    shown = [name for name in ours if any(name in to["systems"] for to in known.values())]
    if not shown:
        return []
    titles = titles_of(report)
    bases = {part: f"{part} to {titles[to['to']]}" for part, to in known.items()}
    longest = max(len(base) for base in bases.values())
    lines = [
        f"{domain}: difference to the best baseline, full NDCG@10 in points of %, 95 % interval",
        f"{'':<{longest}}" + "".join(f"{titles[name]:>{_APART}}" for name in shown),
    ]
    for part, base in bases.items():
        cells = [interval(known[part]["systems"].get(name)).rjust(_APART) for name in shown]
        lines.append(f"{base:<{longest}}" + "".join(cells))
    return lines


def _cost_lines(report: Report, longest: int) -> list[str]:
    heads = ("training minutes", *ALIGNMENT)
    lines = [f"{'':<{longest}}" + "".join(f"{head:>{_APART}}" for head in heads)]
    for about in report["systems"].values():
        cells = [minutes_words(about), *(alignment_cells(about) or [NONE] * len(ALIGNMENT))]
        row = "".join(f"{each:>{_APART}}" for each in cells)
        lines.append(f"{about['title']:<{longest}}{row}")
    return lines


def _tuning_lines(report: Report, longest: int) -> list[str]:
    tuned = {name: about for name, about in report["systems"].items() if about["tuning"]}
    if not tuned:
        return []
    most = max(len(about["tuning"]["trials"]) for about in tuned.values())
    lines = [
        "tuning: full NDCG@10 of validation rows in %, both domains' mean; * is chosen",
        f"{'':<{longest}}" + "".join(f"{f'trial {number}':>10}" for number in range(most)),
    ]
    for about in tuned.values():
        trials, chosen = about["tuning"]["trials"], about["tuning"]["chosen"]
        marks = ["*" if trial["number"] == chosen else " " for trial in trials]
        cells = [_found(trial) + mark for trial, mark in zip(trials, marks, strict=True)]
        row = "".join(f"{each:>10}" for each in cells).ljust(10 * most)
        spelled = settings_words(trials[marks.index("*")]["changes"]) or "the defaults"
        lines.append(f"{about['title']:<{longest}}{row}  {spelled}")
    rest = untuned(report)
    return [*lines, f"not tuned: {rest}"] if rest else lines


def _found(trial: Mapping[str, Any]) -> str:
    return "failed" if trial["failure"] else percent(trial["mean"])
