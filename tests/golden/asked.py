"""What every golden release is asked, and its answers as plain values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.dataset import Dataset
from model.errors import RecGuruError
from server.engine import Engine
from server.messages import Choice, EncodeQuestion, Filter, Recommendation, RecommendQuestion

Answer = dict[str, Any]

HERE = Path(__file__).parent
EXPECTED = "expected.json"
FEW, THIRD = "few", "every-third"
"""Candidate sets: one narrow enough to be a list of rows, one stored as a bitmap."""
COLD = "films-a-cold-one"

HISTORIES: Mapping[str, Mapping[str, list[str]]] = {
    "both": {"books": ["books-003", "books-031"], "films": ["films-007", "films-040", "films-011"]},
    "films": {"films": ["films-090", "films-002"]},
    "books": {"books": [f"books-{item:03d}" for item in range(20, 40)]},
    "nobody": {},
    "unknown": {"books": ["nothing we know"], "films": ["films-055"]},
}

QUESTIONS: Mapping[str, RecommendQuestion] = {
    "all films": RecommendQuestion(
        domain="films",
        histories=HISTORIES["both"],
        choice=Choice(k=12),
        rank_item_ids=["films-001", COLD, "films-099"],
    ),
    "books of who is known by films": RecommendQuestion(
        domain="books", histories=HISTORIES["films"], choice=Choice(k=12)
    ),
    "popular films": RecommendQuestion(
        domain="films", histories=HISTORIES["nobody"], choice=Choice(k=5)
    ),
    "a narrow set": RecommendQuestion(
        domain="films", histories=HISTORIES["books"], choice=Choice(k=9, candidate_set=FEW)
    ),
    "a broad set and exclusions": RecommendQuestion(
        domain="films",
        histories=HISTORIES["unknown"],
        choice=Choice(k=9, candidate_set=THIRD, exclude_item_ids=["films-000", "films-003"]),
    ),
    "listed candidates": RecommendQuestion(
        domain="books",
        histories=HISTORIES["both"],
        choice=Choice(k=9, candidate_items=["books-050", "books-001", "books-031", "nowhere"]),
        exclude_history=False,
    ),
    "filters": RecommendQuestion(
        domain="films",
        histories=HISTORIES["both"],
        choice=Choice(
            k=9,
            filters=[
                Filter(attribute="genre", values=["crime", "löve"]),
                Filter(attribute="decade", values=["1980s"], negate=True),
            ],
        ),
    ),
}


def answers_of(folder: Path) -> Answer:
    """Load a release and ask it everything."""
    engine = Engine.load(folder, device="cpu")
    engine.probe()
    found = engine.recommend(list(QUESTIONS.values()))
    encoded = {
        domain: engine.encode(EncodeQuestion(domain=domain, users=list(HISTORIES.values())))
        for domain in ("books", "films")
    }
    return {
        "digest": engine.version.index,
        "bundle": engine.version.model,
        "kinds": {each.name: each.index_kind for each in engine.info.domains},
        "items": {each.name: each.items for each in engine.info.domains},
        "recommended": {
            name: {
                "item_ids": list(each.ranking.item_ids),
                "scores": list(each.ranking.scores),
                "ranks": [[rank.item_id, rank.rank, rank.score] for rank in each.ranks],
                "basis": each.basis.name,
                "unknown_history_items": each.unknown_history_items,
                "unknown_candidates": each.unknown_candidates,
            }
            for name, each in zip(QUESTIONS, map(_answered, found), strict=True)
        },
        "encoded": {
            domain: {
                "gurs": each.gurs.tolist(),
                "preferences": each.preferences.tolist(),
                "bases": [basis.name for basis in each.bases],
            }
            for domain, each in encoded.items()
        },
    }


def content_of(folder: Path) -> Answer:
    """Read all that a dataset says."""
    dataset = Dataset.read(folder)
    return {
        "digest": dataset.digest,
        "shared": dataset.shared.tolist(),
        "domains": {
            domain.name: {
                "items": list(domain.vocabulary.ids),
                "titles": list(domain.vocabulary.titles or []),
                "users": list(domain.users),
                "sequences": [domain.sequences[user].tolist() for user in range(len(domain.users))],
            }
            for domain in dataset.domains
        },
    }


def _answered(found: Recommendation | RecGuruError) -> Recommendation:
    if isinstance(found, RecGuruError):
        raise found
    return found
