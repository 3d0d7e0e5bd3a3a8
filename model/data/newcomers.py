"""A dataset in which some shared users are two users each: newcomers to whoever learns from it.

A user with a history in both domains can be asked as if new to one of them, that history hidden.
But who has learned from both, and that they are one user's, has learned to tell the one from the
other: nobody knows that of a user who comes from the other domain tomorrow.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import FORMAT, KIND, Dataset, write_dataset
from model.errors import NotFoundError
from model.files import publishing, read_manifest

_COMMAND = "untie"
_NEWCOMERS = 2
"""Sets these draws apart from those of the sampled negatives of either domain."""


def draw_newcomers(shared: int, *, share: float, seed: int) -> NDArray[np.int64]:
    """Draw a share of so many shared users -> places among them, ascending, (K,).

    With one seed, those of a lower share are among those of a higher one.
    """
    order = np.random.default_rng([seed, _NEWCOMERS]).permutation(shared)
    return np.sort(order[: int(share * shared)])


def untied(dataset: Dataset, out: Path, *, share: float, seed: int) -> Path:
    """Write a dataset in which a share of the shared users are two users each, unless it is there.

    Users, items and sequences are the same, and stand in the same places.

    Args:
        dataset: The dataset to start from.
        out: Where the new one is to appear; one made from other data or options is replaced.
        share: Of the shared users, at least 0 and below 1.
        seed: What `draw_newcomers` draws them with.

    Returns:
        `out`.

    Raises:
        RecGuruError: If there is something else at `out`, or the disk is full.
    """
    options = {"share": share, "seed": seed}
    made = {"command": _COMMAND, "dataset": dataset.digest, "options": options}
    old = _made(out)
    if old != made:
        places = draw_newcomers(len(dataset.shared), share=share, seed=seed)
        shared = np.delete(dataset.shared, places, axis=0)
        report = _report(dataset, len(shared))
        with publishing(out, replace=old.get("command") == _COMMAND) as folder:
            write_dataset(folder, dataset.domains, shared, made=made, report=report)
    return out


def _made(folder: Path) -> dict[str, Any]:
    """Say what the dataset in a folder was made from; nothing of that where there is none."""
    try:
        return dict(read_manifest(folder, kind=KIND, format_number=FORMAT)["made"])
    except NotFoundError:
        return {}


def _report(dataset: Dataset, shared: int) -> dict[str, Any]:
    """Count the shared users anew; all else in the statistics is as it was."""
    before = dataset.report.get("domains", {})
    domains = {
        domain.name: {
            **before.get(domain.name, {}),
            "shared_users": shared,
            "shared_share": round(shared / len(domain.users), 4),
        }
        for domain in dataset.domains
    }
    return {**dataset.report, "shared_users": shared, "domains": domains}
