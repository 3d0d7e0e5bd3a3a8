"""A dataset with fewer shared users, made from one with many (section 6.3.2 of the paper).

A shared user that does not stay shared keeps the sequence of one domain, chosen at random, and
loses the other; items that nobody has any more are left out. Users and items keep their ids.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from model.data.dataset import Dataset, DomainData, write_dataset
from model.data.histories import Histories, resampled, shared_places
from model.data.report import history_figures, sharing_notes
from model.data.suspicions import suspicions
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadDataError, BadSettingError
from model.files import publishing


def with_overlap(data: Path, out: Path, *, share: float, seed: int = 0) -> str:
    """Write a dataset in which only so many of the shared users stay shared; return its digest.

    The same source, share and seed give the same bytes. With one seed, those who stay at a lower
    share are among those who stay at a higher one.

    Args:
        data: The dataset folder to start from.
        out: Where the new one is to appear.
        share: How many of the shared users stay, between 0 and 1.
        seed: What decides who stays and in which domain the others do.

    Raises:
        BadSettingError: If `share` is out of range.
        BadDataError: If the dataset has no shared users, or nobody is left in a domain.
        RecGuruError: If there is something at `out`.
    """
    if not 0 <= share <= 1:
        raise BadSettingError(f"share must be between 0 and 1, not {share:g}")
    dataset = Dataset.read(data)
    if not len(dataset.shared):
        raise BadDataError(f"{data} has no shared users")
    before = (_histories(dataset.domains[0]), _histories(dataset.domains[1]))
    # `resampled` takes the rate that the paper's table 4 states, of the first domain's users
    rate = round(share * len(dataset.shared)) / len(dataset.domains[0].users)
    after = resampled(*before, rate, seed=seed)
    for domain, histories in zip(dataset.domains, after, strict=True):
        if not len(histories.user_ids):
            raise BadDataError(
                f"domain {domain.name}: all its users are shared, and at share {share:g} with seed"
                f" {seed} none of them stays in it; choose a higher share"
            )
    shared = shared_places(after[0].user_ids, after[1].user_ids)
    first, second = (
        _domain(domain, histories) for domain, histories in zip(dataset.domains, after, strict=True)
    )
    options = {"share": share, "seed": seed}
    made = {"command": "overlap", "dataset": dataset.digest, "options": options}
    names = [domain.name for domain in dataset.domains]
    report = {
        "shared_users": len(shared),
        "notes": [*dataset.report.get("notes", []), *sharing_notes(names, len(shared))],
        "warnings": _of_logs(dataset.report, names, before) + suspicions(names, after),
        "domains": {
            domain.name: _account(
                domain, histories, dataset.report, shared=len(shared), share=share
            )
            for domain, histories in zip(dataset.domains, after, strict=True)
        },
    }
    with publishing(out) as folder:
        return write_dataset(folder, (first, second), shared, made=made, report=report)


def _of_logs(
    report: Mapping[str, Any], names: Sequence[str], domains: Sequence[Histories]
) -> list[str]:
    """Return the warnings of a report that are not of what its domains hold, but of their logs."""
    outdated = suspicions(names, domains)
    return [warning for warning in report.get("warnings", []) if warning not in outdated]


def _histories(domain: DomainData) -> Histories:
    return Histories(
        pl.Series(list(domain.users), dtype=pl.String),
        pl.Series(list(domain.vocabulary.ids), dtype=pl.String),
        domain.sequences,
    )


def _domain(before: DomainData, histories: Histories) -> DomainData:
    item_ids = histories.item_ids.to_list()
    titles = None
    if before.vocabulary.titles is not None:
        rows = before.vocabulary.rows(item_ids).tolist()
        titles = StringTable.of(before.vocabulary.title(row) for row in rows)
    return DomainData(
        before.name,
        Vocabulary(StringTable.of(item_ids), titles),
        StringTable.of(histories.user_ids.to_list()),
        histories.sequences,
    )


def _account(
    before: DomainData,
    histories: Histories,
    report: Mapping[str, Any],
    *,
    shared: int,
    share: float,
) -> dict[str, Any]:
    old = report.get("domains", {}).get(before.name, {})
    counts = (len(before.users), len(before.vocabulary), len(before.sequences.rows))
    figures = history_figures(histories, shared)
    names = ("users", "items", "interactions")
    step = {
        "name": "overlap",
        "rule": f"{share:g} of the shared users",
        "removed": {name: count - figures[name] for name, count in zip(names, counts, strict=True)},
        "left": {name: figures[name] for name in names},
    }
    return {**old, **figures, "steps": [*old.get("steps", []), step]}
