"""The statistics of a dataset: those of the paper's tables 1 and 4, and more."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.data.dataset import FORMAT, KIND
from model.data.histories import Histories
from model.data.steps import Account
from model.data.suspicions import suspicions
from model.files import check_files, read_manifest

QUANTILES = (5, 25, 50, 75, 95)
"""Per cent of the users whose sequence is at most so long as the report says."""


def dataset_report(
    accounts: Sequence[Account], domains: Sequence[Histories], *, shared: int
) -> dict[str, Any]:
    """Return the report of a dataset as its manifest holds it.

    Args:
        accounts: What each step removed, domain by domain.
        domains: What is left.
        shared: Users that stand in both domains.
    """
    names = [account.domain for account in accounts]
    notes = [note for account in accounts for note in account.notes]
    warnings = [warning for account in accounts for warning in account.warnings]
    return {
        "domains": {
            account.domain: {
                **history_figures(histories, shared),
                "records": account.records,
                "unusable_records": account.unusable,
                "steps": account.steps(),
            }
            for account, histories in zip(accounts, domains, strict=True)
        },
        "shared_users": shared,
        "notes": notes + sharing_notes(names, shared),
        "warnings": warnings + suspicions(names, domains),
    }


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of a dataset folder, with its digest, after checking every file.

    Raises:
        NotFoundError: If it is not a dataset folder.
        BadArtifactError: If it is of another format or damaged; the file is named.
    """
    manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
    check_files(folder, manifest)
    report = dict(manifest["report"])
    report["domains"] = {name: report["domains"][name] for name in manifest["domains"]}
    return {"digest": manifest["digest"], **report}


def history_figures(histories: Histories, shared: int) -> dict[str, Any]:
    """Return the counts of one domain as the report holds them.

    Args:
        histories: Its sequences.
        shared: Users that stand in both domains.
    """
    lengths = histories.sequences.lengths
    cuts = np.quantile(lengths, np.array(QUANTILES) / 100, method="inverted_cdf")
    return {
        "users": len(histories.user_ids),
        "items": len(histories.item_ids),
        "interactions": len(histories.sequences.rows),
        "length": {
            "mean": round(float(lengths.mean()), 4),
            "min": int(lengths.min()),
            **{f"p{quantile}": int(cut) for quantile, cut in zip(QUANTILES, cuts, strict=True)},
            "max": int(lengths.max()),
        },
        **shared_figures(len(histories.user_ids), shared),
    }


def sharing_notes(names: Sequence[str], shared: int) -> list[str]:
    """Return what is to be said of so many users that stand in both domains."""
    return [] if shared else [f"{' and '.join(names)} share no users"]


def shared_figures(users: int, shared: int) -> dict[str, Any]:
    """Return how many of a domain's users stand in both domains, as the report holds it."""
    return {"shared_users": shared, "shared_share": round(shared / users, 4)}
