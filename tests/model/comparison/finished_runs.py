"""Runs on disk with ranks given by hand."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.comparison.results import (
    DomainRanks,
    Facts,
    Result,
    result_path,
    write_ranks,
    write_record,
)
from model.comparison.runs import Finished
from model.evaluation.ranking import Ranks
from model.evaluation.report import CUTOFFS

SHARED = np.array([True, True, False, True])
SHORT = np.array([False, False, True, False])
NEW = np.array([False, True, True])


def write_run(
    folder: Path,
    system: str,
    seed: int,
    full: Sequence[int],
    *,
    newcomer_share: float = 0.0,
    **more: object,
) -> Finished:
    """Write a run on four questions of one domain; sampled ranks are half of the full ones."""
    ranks = np.array(full)
    warm = Ranks(ranks, (ranks + 1) // 2)
    cold = Ranks(ranks[SHARED] * 2, ranks[SHARED])
    path = result_path(folder, system, seed)
    new = NEW if newcomer_share else np.zeros(3, np.bool_)
    kept = {"books": DomainRanks(warm, SHARED, SHORT, cold, new)}
    domains = {
        "books": {
            "all": by_hand(warm, np.ones(4, np.bool_)),
            "shared": by_hand(warm, SHARED),
            "short": by_hand(warm, SHORT),
            "cold": by_hand(cold, np.ones(3, np.bool_)),
        }
    }
    if newcomer_share:
        domains["books"]["newcomers"] = by_hand(cold, new)
    facts = Facts(
        system=system,
        dataset="d" * 64,
        settings={"depth": 2},
        seed=seed,
        question_seed=0,
        newcomer_share=newcomer_share,
        device="cpu",
        versions={"numpy": "2"},
    )
    result = Result.model_validate(
        {
            "facts": facts,
            "title": system.upper(),
            "ours": False,
            "minutes": 2.0 + seed,
            "resumed": False,
            "peak_mib": 100.0,
            "code": "c" * 64,
            "ranks": write_ranks(path, kept),
            "domains": domains,
            "tuning": None,
            **more,
        }
    )
    write_record(path, result)
    return Finished(result, path)


def by_hand(ranks: Ranks, members: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    found: dict[str, Any] = {"users": int(members.sum())}
    for name, places in (("full", ranks.full), ("sampled", ranks.sampled)):
        of = [int(place) for place in places[members]]
        figures = {"mrr": sum(1 / place for place in of) / len(of)}
        for k in CUTOFFS:
            hits = [place for place in of if place <= k]
            figures[f"hr@{k}"] = len(hits) / len(of)
            figures[f"ndcg@{k}"] = sum(1 / math.log2(1 + place) for place in hits) / len(of)
        found[name] = figures
    return found
