"""Ranks of the targets of questions, from any model that runs in this process.

Shapes: Q questions, B questions in a batch, V items; row 0 is padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.arrays import Floats
from model.console import Advance
from model.errors import BadArtifactError
from model.evaluation.protocol import BATCH, Questions, Scorer
from model.metrics import RankArray, rank_among, rank_of_target


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the target of each question stands, by both figures of the protocol."""

    full: RankArray
    """Among all items but the user's earlier ones, (Q,), from 1; 0 is a miss: the target is one
    of the user's earlier items, or the search did not find it."""
    sampled: RankArray
    """Among the sampled negatives, (Q,), from 1."""


def rank_in_process(
    scorer: Scorer, questions: Questions, *, advance: Advance | None = None, batch: int = BATCH
) -> Ranks:
    """Let a model score every item for every question, and rank the targets.

    Args:
        scorer: The model.
        questions: What to ask.
        advance: Told of each batch that is done, in questions.
        batch: Questions scored together.

    Raises:
        BadArtifactError: If the scores have another shape than the domain's items ask for, or one
            is NaN.
    """
    full = np.zeros(len(questions), np.int64)
    sampled = np.zeros(len(questions), np.int64)
    for places in questions.batches(batch):
        rows = slice(places.start, places.stop)
        histories = [questions.history(place) for place in places]
        scores = scorer.scores(questions.domain, histories, questions.users_at(places))
        full[rows], sampled[rows] = _ranks(scores, questions, places)
        if advance is not None:
            advance(len(places))
    return Ranks(full, sampled)


def _ranks(
    scores: Floats, questions: Questions, places: Sequence[int]
) -> tuple[RankArray, RankArray]:
    expected = (len(places), questions.items + 1)
    if scores.shape != expected:
        raise BadArtifactError(
            f"domain {questions.domain!r}: the model gave scores of shape {scores.shape}, "
            f"not {expected}; it was made from another dataset"
        )
    targets = questions.targets[places[0] : places[-1] + 1]
    negatives = questions.negatives[places[0] : places[-1] + 1]
    seen = [questions.known[int(questions.users[place])] for place in places]
    allowed = np.array(scores)  # a scorer may hand out what it keeps
    owners = np.repeat(np.arange(len(places)), [len(rows) for rows in seen])
    allowed[owners, np.concatenate(seen)] = -np.inf
    try:
        return rank_of_target(allowed, targets), rank_among(scores, targets, negatives)
    except ValueError as error:
        raise BadArtifactError(
            f"domain {questions.domain!r}: {error}; this model must not be used"
        ) from None
