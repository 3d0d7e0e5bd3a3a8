"""A comparison's report as Markdown: the paper's Table 2, then every slice, then how it was made.

Figures are in per cent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model.comparison.results import SLICES
from model.evaluation.report import FIGURES, RANKINGS

Report = Mapping[str, Any]
_TABLE_2 = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
_MEANING = {
    "all": "all users",
    "shared": "shared users",
    "short": "users with at most 3 training items in the domain",
    "cold": "cold start: shared users whose history in the domain is hidden",
    "newcomers": "cold start of users whose two histories were two users' in training",
}
_RANKED = {
    "full": "full ranking over all items",
    "sampled": "target among 200 sampled negatives",
}
ALIGNMENT = ("domain accuracy", "rank, tied", "rank, untied")
"""What is said of GURs: the accuracy in per cent."""
NONE = "-"
"""What stands where there is no figure."""
_TUNED = (
    "Each of these systems was tried within the same budget, seed 0, and its settings chosen by the"
    " mean full NDCG@10 of both domains' validation rows; test rows were asked of those alone."
)
_JUDGED = (
    "Of how many users it has not met a fresh classifier names the domain by their GUR, in per cent"
    " (50 is chance), and the median rank of a shared user's GUR of the other domain among those of"
    " other shared users; untied are users whom no loss of shared users drew."
)
_TO = {"best_baseline": "to the best baseline", "against": "to"}


def as_markdown(report: Report) -> str:
    """Spell a whole report."""
    parts = [
        "# Comparison",
        _introduction(report),
        "## Table 2",
        *(_table_2(report, ranking) for ranking in ("sampled", "full")),
        "## Slices",
        *(_slices(report, domain) for domain in report["domains"]),
        "## Differences in full NDCG@10",
        _differences_words(report),
        *(_differences(report, domain) for domain in report["domains"]),
        _alignment(report),
        "## Cost and settings",
        _costs(report),
        _tunings(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def untuned(report: Report) -> str:
    """Name the systems that ran with their defaults alone."""
    titles = [about["title"] for about in report["systems"].values() if not about["tuning"]]
    return "; ".join(titles)


def origin(made: Mapping[str, Any]) -> str:
    """Say what was compared, and by what: dataset, seeds, versions and code of a report."""
    versions = "; ".join(
        ", ".join(f"{name} {version}" for name, version in sorted(each.items()))
        for each in made["versions"]
    )
    seeds = ", ".join(str(seed) for seed in made["seeds"])
    code = ", ".join(digest[:12] for digest in made["code"])
    return f"dataset {made['dataset'][:12]}, seeds {seeds}; {versions}; code {code}"


def _introduction(report: Report) -> str:
    return (
        f"Compared on {origin(report)}. Test rows; sampled negatives drawn with seed"
        f" {report['question_seed']}. All figures in per cent, mean ± deviation over seeds."
        f" {_newcomers(report)}"
    )


def _newcomers(report: Report) -> str:
    """Say which systems learned that newcomers are shared users."""
    shares = {about["title"]: about["newcomer_share"] for about in report["systems"].values()}
    told = [title for title, share in shares.items() if not share]
    if len(told) == len(shares):
        return "All shared users were known to be shared in training."
    but = f", but not to {', '.join(told)}" if told else ""
    share = 100 * max(shares.values())
    return f"{share:g} % of the shared users, the newcomers, were two users each in training{but}."


def _table_2(report: Report, ranking: str) -> str:
    titles = titles_of(report)
    rows = [f"All users, {_RANKED[ranking]}; mean over seeds, best in bold.", ""]
    rows += _head(["domain", "metric", *titles.values()])
    for domain, parts in report["domains"].items():
        for figure in _TABLE_2:
            means = [parts["all"]["systems"][name][ranking][figure]["mean"] for name in titles]
            best = max((mean for mean in means if mean is not None), default=None)
            cells = [
                f"**{percent(mean)}**" if mean is not None and mean == best else percent(mean)
                for mean in means
            ]
            rows.append(_row([domain, _metric(figure), *cells]))
    return "\n".join(rows)


def _slices(report: Report, domain: str) -> str:
    tables = []
    for part in SLICES:
        content = report["domains"][domain][part]
        if not content["users"]:
            continue
        tables.append(f"### {domain}, {_MEANING[part]} ({content['users']:,})")
        for ranking in RANKINGS:
            rows = [f"{_RANKED[ranking].capitalize()}:", ""]
            rows += _head(["system", *(_metric(figure) for figure in FIGURES)])
            for name, title in titles_of(report).items():
                figures = content["systems"][name][ranking]
                rows.append(_row([title, *(_spread(figures[figure]) for figure in FIGURES)]))
            tables.append("\n".join(rows))
    return "\n\n".join(tables)


def _differences_words(report: Report) -> str:
    return (
        "Points of per cent, of each user's mean over the seeds; in brackets the 95 % interval of"
        f" a paired bootstrap over users ({report['resamples']:,} resamples), and the difference"
        " as a part of what it is a difference to. The best baseline is that of the slice, on"
        " these very test rows, which favours it."
    )


def _differences(report: Report, domain: str) -> str:
    tables = []
    for part in SLICES:
        content = report["domains"][domain][part]
        kinds = {kind: to for kind, to in content["differences"].items() if to and to["systems"]}
        if not kinds:
            continue
        titles = titles_of(report)
        heads = [f"{_TO[kind]}: {titles[to['to']]}" for kind, to in kinds.items()]
        rows = [f"### {domain}, {_MEANING[part]}", "", *_head(["system", *heads])]
        for name, title in titles.items():
            cells = [_difference(to["systems"].get(name)) for to in kinds.values()]
            rows.append(_row([title, *cells]))
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


def _difference(found: Mapping[str, Any] | None) -> str:
    part = None if found is None else found["relative"]
    return interval(found) + ("" if part is None else f", {100 * part:+.1f} %")


def interval(found: Mapping[str, Any] | None) -> str:
    """Spell a difference and its interval in points of per cent."""
    if found is None:
        return NONE
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _alignment(report: Report) -> str:
    cells = {name: alignment_cells(about) for name, about in report["systems"].items()}
    if not any(cells.values()):
        return ""
    rows = ["## Alignment of the domains", "", _JUDGED, ""]
    rows += _head(["system", *ALIGNMENT])
    rows += [_row([titles_of(report)[name], *found]) for name, found in cells.items() if found]
    return "\n".join(rows)


def alignment_cells(about: Mapping[str, Any]) -> list[str]:
    """Spell how far a system's GURs are of one domain, in the order of `ALIGNMENT`, if judged."""
    found = about["alignment"]
    if not found:
        return []
    ranks = [
        f"{found[f'{kind}_rank']['mean']:.0f} of {found[f'{kind}_looked_up']['mean']:.0f}"
        for kind in ("shared", "untied")
    ]
    return [_spread(found["domain_accuracy"]), *ranks]


def _costs(report: Report) -> str:
    rows = _head(["system", "name", "seeds", "training minutes", "peak memory, MiB", "settings"])
    for name, about in report["systems"].items():
        cells = [
            about["title"],
            f"`{name}`",
            ", ".join(str(seed) for seed in about["seeds"]),
            minutes_words(about),
            f"{about['peak_mib']:,.0f}",
            settings_words(about["settings"]),
        ]
        rows.append(_row(cells))
    return "\n".join(rows)


def minutes_words(about: Mapping[str, Any]) -> str:
    """Spell the minutes of a system's trainings."""
    minutes = about["minutes"]
    spread = "" if minutes["deviation"] is None else f" ± {minutes['deviation']:.2f}"
    least = "≥ " if about["resumed"] else ""  # an interrupted training forgot its first part
    return f"{least}{minutes['mean']:.2f}{spread}"


def _tunings(report: Report) -> str:
    tuned = {name: about for name, about in report["systems"].items() if about["tuning"]}
    if not tuned:
        return "No system was tuned: every one ran with the settings above."
    parts = [
        "### Tuning",
        _TUNED,
    ]
    for name, about in tuned.items():
        tuning = about["tuning"]
        parts.append(
            f"**{about['title']}** (`{name}`): {len(tuning['trials'])} settings tried of a budget"
            f" of {tuning['budget']}; trial {tuning['chosen']} chosen."
        )
        parts.append("\n".join(_trials(tuning)))
    rest = untuned(report)
    if rest:
        parts.append(f"Not tuned, with the settings above: {rest}.")
    return "\n\n".join(parts)


def _trials(tuning: Mapping[str, Any]) -> list[str]:
    rows = _head(["trial", "differs from the defaults in", "validation NDCG@10", "minutes"])
    for trial in tuning["trials"]:
        mark = "**" if trial["number"] == tuning["chosen"] else ""
        found = trial["failure"] or percent(trial["mean"])
        cells = [
            str(trial["number"]),
            settings_words(trial["changes"]) or "nothing",
            f"{mark}{found}{mark}",
            f"{trial['minutes']:.2f}",
        ]
        rows.append(_row(cells))
    return rows


def settings_words(values: Mapping[str, Any]) -> str:
    """Spell settings in a line."""
    spelled = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            spelled.append(f"{key}: ({settings_words(value)})")
        else:
            spelled.append(f"{key} {value}")
    return ", ".join(spelled)


def titles_of(report: Report) -> dict[str, str]:
    """Return the title of every system."""
    return {name: about["title"] for name, about in report["systems"].items()}


def _metric(figure: str) -> str:
    return figure.upper()


def _spread(figure: Mapping[str, float | None]) -> str:
    deviation = figure["deviation"]
    return percent(figure["mean"]) + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def percent(value: float | None) -> str:
    """Spell a figure in per cent."""
    return NONE if value is None else f"{100 * value:.2f}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
