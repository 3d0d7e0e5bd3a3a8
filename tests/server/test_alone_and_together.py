"""Whoever is asked about in the same pass, an answer is the one it would have been alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from indexer.release import latest
from model.basis import Basis
from model.errors import RecGuruError
from model.networks.settings import Memory
from server.engine import Engine
from server.messages import Choice, ItemRank, Ranking, Recommendation, RecommendQuestion
from tests.server.three_domains import ITEMS, random_questions, release_of

TOLERANCE = 1e-5
MAX_BATCH = 64
Answer = Recommendation | RecGuruError


class Comparison:
    """Compares answers, and counts those that rounding has put in another order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reordered = 0

    def check(self, question: RecommendQuestion, alone: Answer, together: Answer) -> None:
        """Check that two answers to a question are the same but for ties."""
        if isinstance(alone, RecGuruError):
            assert (type(together), str(together)) == (type(alone), str(alone))
            return
        assert isinstance(together, Recommendation)
        assert (alone.basis, alone.unknown_history_items, alone.unknown_candidates) == (
            together.basis,
            together.unknown_history_items,
            together.unknown_candidates,
        )
        assert alone.version == together.version
        if alone.basis is Basis.POPULARITY:  # nothing is computed, so nothing is rounded
            assert alone.ranking.item_ids == together.ranking.item_ids
            assert alone.ranks == together.ranks
        self._check_ranking(alone.ranking, together.ranking)
        self._check_ranks(question, alone.ranks, together.ranks)

    def _check_ranking(self, alone: Ranking, together: Ranking) -> None:
        np.testing.assert_allclose(together.scores, alone.scores, rtol=0, atol=TOLERANCE)
        if together.item_ids == alone.item_ids:
            return
        self.reordered += 1
        # Place by place the scores are the same: what has moved stands where its like has stood.
        found = dict(zip(together.item_ids, together.scores, strict=True))
        for item, score in zip(alone.item_ids, alone.scores, strict=True):
            # Only at the end of the list may an item have made way for one that is not in it.
            assert abs(found.get(item, together.scores[-1]) - score) < TOLERANCE

    def _check_ranks(
        self, question: RecommendQuestion, alone: Sequence[ItemRank], together: Sequence[ItemRank]
    ) -> None:
        for one, other in zip(alone, together, strict=True):
            assert one.item_id == other.item_id
            assert abs(one.score - other.score) < TOLERANCE
            if one.rank != other.rank:
                self.reordered += 1
                assert min(one.rank, other.rank) > 0
                assert abs(one.rank - other.rank) <= self._ties(question, one)

    def _ties(self, question: RecommendQuestion, rank: ItemRank) -> int:
        """Count the other items that score nearly as an item does."""
        choice = Choice(
            k=ITEMS[question.domain],
            candidate_items=question.choice.candidate_items,
            candidate_set=question.choice.candidate_set,
            exclude_item_ids=question.choice.exclude_item_ids,
            filters=question.choice.filters,
        )
        everything = RecommendQuestion(
            domain=question.domain,
            histories=question.histories,
            choice=choice,
            exclude_history=question.exclude_history,
        )
        answer = self._engine.recommend([everything])[0]
        assert isinstance(answer, Recommendation)
        scores = np.asarray(answer.ranking.scores)
        return int((np.abs(scores - rank.score) < TOLERANCE).sum()) - 1


def answered_together(
    engine: Engine, questions: Sequence[RecommendQuestion], generator: np.random.Generator
) -> list[Answer]:
    """Ask in batches of random sizes and in random order -> the answers in the order given."""
    answers: dict[int, Answer] = {}
    order = generator.permutation(len(questions)).tolist()
    while order:
        size = int(generator.integers(1, MAX_BATCH + 1))
        places, order = order[:size], order[size:]
        outcomes = engine.recommend([questions[place] for place in places])
        answers.update(zip(places, outcomes, strict=True))
    return [answers[place] for place in range(len(questions))]


def compare(folder: Path, memory: Memory, count: int, *, seed: int) -> None:
    generator = np.random.default_rng(seed)
    engine = Engine.load(latest(release_of(folder, memory, seed=seed)), device="cpu")
    questions = random_questions(count, generator)
    together = answered_together(engine, questions, generator)
    comparison = Comparison(engine)
    bases = set()
    for question, answer in zip(questions, together, strict=True):
        alone = engine.recommend([question])[0]
        comparison.check(question, alone, answer)
        bases.add(None if isinstance(alone, RecGuruError) else alone.basis)
    crossed = set() if memory in {"none", "own"} else {Basis.CROSS_DOMAIN}
    assert bases == {None, Basis.PERSONALIZED, Basis.POPULARITY} | crossed
    assert comparison.reordered <= count / 100


@pytest.mark.parametrize("memory", ["cold", "both"])
def test_a_question_is_answered_in_any_company_as_alone(tmp_path: Path, memory: Memory) -> None:
    compare(tmp_path, memory, 250, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4, 5])  # a test for each: all at once would take minutes
@pytest.mark.parametrize("memory", ["cold", "both", "own"])
def test_ten_thousand_questions_are_answered_in_any_company_as_alone(
    tmp_path: Path, memory: Memory, seed: int
) -> None:
    compare(tmp_path, memory, 2_500, seed=seed)
