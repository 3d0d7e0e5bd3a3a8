"""Figures of an evaluation: as a file for programs, as a table for people.

    {"dataset": digest, "release": version or null, "system": name,
     "split": "test", "seed": 0, "negatives": 200,
     "domains": {"<name>": {"users": n,
                            "full": {"hr@5": x, ..., "ndcg@20": x, "mrr": x},
                            "sampled": {...},
                            "slices": {"shared": {"users": n, "full": {...}, "sampled": {...}},
                                       "short": {...}, "cold": {...}}}}}

`full` ranks all items of the domain, `sampled` the target among the negatives. `cold` are shared
users whose history in the domain is hidden. A slice without users has null figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from model.arrays import Flags
from model.evaluation.protocol import Questions
from model.evaluation.ranking import Ranks
from model.files import canonical_json, write_bytes_atomically
from model.metrics import RankArray, hit_rate, mean_reciprocal_rank, ndcg

CUTOFFS = (5, 10, 20)
RANKINGS = ("full", "sampled")
FIGURES = (*(f"hr@{k}" for k in CUTOFFS), *(f"ndcg@{k}" for k in CUTOFFS), "mrr")
_SHOWN = ("hr@10", "ndcg@10", "mrr")


def figures(questions: Questions, ranks: Ranks) -> dict[str, Any]:
    """Make the figures of one domain: of all users and of each slice.

    Args:
        questions: What was asked.
        ranks: How the targets were ranked, in the order of the questions.
    """
    everyone = np.ones(len(questions), np.bool_)
    slices = {"shared": questions.shared, "short": questions.short}
    return {
        **slice_figures(ranks, everyone),
        "slices": {name: slice_figures(ranks, members) for name, members in slices.items()},
    }


def slice_figures(ranks: Ranks, members: Flags) -> dict[str, Any]:
    """Make the figures of the questions flagged, (Q,): `users`, `full` and `sampled`."""
    return {
        "users": int(np.count_nonzero(members)),
        "full": _figures(ranks.full[members]),
        "sampled": _figures(ranks.sampled[members]),
    }


def make_report(
    answered: Sequence[tuple[Questions, Ranks]],
    *,
    dataset: str,
    system: str,
    release: str | None = None,
) -> dict[str, Any]:
    """Put the figures of the domains together with what they are figures of.

    Args:
        answered: The questions and ranks of each domain, all of one split and seed; those asked
            cold after the others of their domain.
        dataset: The dataset's digest.
        system: What answered, in a word.
        release: The version of the release that answered, where it was one.
    """
    first = answered[0][0]
    domains: dict[str, dict[str, Any]] = {}
    for asked, ranks in answered:
        if asked.cold:
            everyone = np.ones(len(asked), np.bool_)
            domains[asked.domain]["slices"]["cold"] = slice_figures(ranks, everyone)
        else:
            domains[asked.domain] = figures(asked, ranks)
    return {
        "dataset": dataset,
        "release": release,
        "system": system,
        "split": first.split,
        "seed": first.seed,
        "negatives": first.negatives.shape[1],
        "domains": domains,
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON; an old file is replaced whole or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, canonical_json(report))


def print_report(report: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Print the main figures of a report as a table, a line a slice; by default to standard output.

    Args:
        report: What `make_report` made, or what was read from its file.
        console: Where to print.
    """
    release = f", release {report['release']}" if report["release"] else ""
    table = Table(
        title=f"{report['system']}{release}, {report['split']} rows",
        caption=f"sampled: among {report['negatives']} negatives drawn with seed {report['seed']}",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("users of", overflow="fold", min_width=10)
    for heading in ("number", *(f"{ranking}\n{name}" for ranking in RANKINGS for name in _SHOWN)):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, domain in report["domains"].items():
        for users, part in {"all": domain, **domain["slices"]}.items():
            cells = [_cell(part[ranking][figure]) for ranking in RANKINGS for figure in _SHOWN]
            label = name if users == "all" else f"  {users}"
            table.add_row(label, f"{part['users']:,}", *cells)
        table.add_section()
    (console or Console()).print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _figures(ranks: RankArray) -> dict[str, float | None]:
    if not len(ranks):
        return dict.fromkeys(FIGURES)
    found: dict[str, float | None] = {f"hr@{k}": hit_rate(ranks, k) for k in CUTOFFS}
    found |= {f"ndcg@{k}": ndcg(ranks, k) for k in CUTOFFS}
    return {**found, "mrr": mean_reciprocal_rank(ranks)}
