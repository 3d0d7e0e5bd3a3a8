"""A dataset in which some shared users are two users each: newcomers to whoever learns from it.

A user with a history in both domains can be asked as if new to one of them, that history hidden.
But who has learned from both, and that they are one user's, has learned to tell the one from the
other: nobody knows that of a user who comes from the other domain tomorrow.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.arrays import Places
from model.data.dataset import FORMAT, KIND, Dataset, write_dataset
from model.data.report import shared_figures
from model.errors import NotFoundError, RecGuruError
from model.files import canonical_json, publishing, read_manifest

_DRAW = 2
"""Sets these draws apart from those of the sampled negatives of either domain."""
_HAIR = 1e-9
"""More than a product of floats is off, less than a user: 0.29 of 100 are 29."""


def draw_newcomers(shared: int, *, share: float, seed: int) -> Places:
    """Draw a share of so many shared users, rounded down -> places among them, ascending, (K,).

    With one seed, those of a lower share are among those of a higher one.
    """
    return draw_untied(shared, share=share, path=(seed, _DRAW))


def draw_untied(shared: int, *, share: float, path: tuple[int, ...]) -> Places:
    """Draw which of so many shared users are taken for two users each -> places, ascending, (K,).

    Args:
        shared: How many there are.
        share: Of them, at least 0 and below 1; rounded down.
        path: What the draw follows from.
    """
    order = np.random.default_rng(path).permutation(shared)
    return np.sort(order[: int(share * shared + _HAIR)])


def with_newcomers(dataset: Dataset, out: Path, *, share: float, seed: int) -> Path:
    """Write a dataset in which a share of the shared users are two users each, unless it is there.

    Users, items and sequences are the same, and stand in the same places.

    Args:
        dataset: The dataset to start from.
        out: A folder of such datasets, each under a name of its own; nothing in it is replaced.
        share: Of the shared users, at least 0 and below 1.
        seed: What `draw_newcomers` draws them with.

    Returns:
        The folder of that one.

    Raises:
        BadArtifactError: If its manifest is damaged.
        RecGuruError: If something else is in its place, or the disk is full.
    """
    options = {"share": share, "seed": seed}
    made = {"command": "compare", "dataset": dataset.digest, "options": options}
    folder = out / hashlib.sha256(canonical_json(made)).hexdigest()[:12]
    if not _is_there(folder, made):
        places = draw_newcomers(len(dataset.shared), share=share, seed=seed)
        shared = np.delete(dataset.shared, places, axis=0)
        report = _report(dataset, len(shared))
        try:
            with publishing(folder) as place:
                write_dataset(place, dataset.domains, shared, made=made, report=report)
        except RecGuruError:
            if not _is_there(folder, made):  # else another process was quicker
                raise
    return folder


def _is_there(folder: Path, made: Mapping[str, Any]) -> bool:
    try:
        return bool(read_manifest(folder, kind=KIND, format_number=FORMAT)["made"] == made)
    except NotFoundError:
        return False


def _report(dataset: Dataset, shared: int) -> dict[str, Any]:
    """Count the shared users anew; all else in the statistics is as it was.

    So are the warnings: they ask about ids and sequences, and not who is shared.
    """
    before = dataset.report.get("domains", {})
    domains = {
        domain.name: {
            **before.get(domain.name, {}),
            **shared_figures(len(domain.users), shared),
        }
        for domain in dataset.domains
    }
    return {**dataset.report, "shared_users": shared, "domains": domains}
