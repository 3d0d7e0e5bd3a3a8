"""Ranks of whole sets of questions, against plain loops, chance, and scorers that misbehave."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.arrays import Floats
from model.baselines.popularity import Popularity
from model.data.dataset import Dataset
from model.errors import BadArtifactError
from model.evaluation.protocol import NEGATIVES, History, Questions, Users, questions
from model.evaluation.ranking import rank_in_process
from tests.model.dataset_making import dataset_of, random_dataset


class Fixed:
    """Scores by rule: a table, plus what each history row adds to its successor."""

    def __init__(self, table: Floats, *, own: float = 0.0) -> None:
        self.table = table
        self.own = own

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score the items of one domain."""
        scores = np.tile(self.table, (len(histories), 1))
        for user, history in enumerate(histories):
            scores[user, history[domain]] += self.own
        return scores


class Chance:
    """Scores at random."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.generator = np.random.default_rng(1)

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:  # the protocol's
        """Score all items alike."""
        return self.generator.random((len(histories), self.items + 1), np.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Return a dataset of a few hundred users with enough items for all negatives."""
    return random_dataset(np.random.default_rng(12), users=400, items=1000)


@pytest.fixture(scope="module")
def asked(dataset: Dataset) -> Questions:
    """Return the test questions of its first domain."""
    return questions(dataset, "books")


def test_ranks_are_those_of_plain_loops(asked: Questions) -> None:
    generator = np.random.default_rng(3)
    table = generator.integers(0, 60, asked.items + 1).astype(np.float32)  # many ties
    ranks = rank_in_process(Fixed(table), asked)

    for place in range(len(asked)):
        seen = set(asked.history(place)["books"].tolist())
        target = int(asked.targets[place])
        ahead = [
            row
            for row in range(1, asked.items + 1)
            if row != target and row not in seen and table[row] >= table[target]
        ]
        negatives = [row for row in asked.negatives[place].tolist() if table[row] >= table[target]]
        assert ranks.full[place] == 1 + len(ahead)
        assert ranks.sampled[place] == 1 + len(negatives)


def test_a_constant_scorer_gets_the_worst_rank(asked: Questions) -> None:
    ranks = rank_in_process(Fixed(np.zeros(asked.items + 1, np.float32)), asked)

    lengths = [len(asked.history(place)["books"]) for place in range(len(asked))]
    assert (ranks.full == asked.items - np.array(lengths)).all()
    assert (ranks.sampled == NEGATIVES + 1).all()


def test_a_random_scorer_hits_as_often_as_chance_says(asked: Questions) -> None:
    repeats = 20
    scorer = Chance(asked.items)
    hits = np.zeros(2)
    for _ in range(repeats):
        ranks = rank_in_process(scorer, asked)
        hits += [(ranks.full <= 10).sum(), (ranks.sampled <= 10).sum()]

    lengths = np.array([len(asked.history(place)["books"]) for place in range(len(asked))])
    for found, chance in zip(
        hits, (10 / (asked.items - lengths), np.full(len(asked), 10 / (NEGATIVES + 1))), strict=True
    ):
        sigma = np.sqrt(repeats * (chance * (1 - chance)).sum())
        assert abs(found - repeats * chance.sum()) <= 3 * sigma


def test_what_the_user_has_never_outranks_the_target(asked: Questions) -> None:
    table = np.random.default_rng(4).random(asked.items + 1, np.float32)

    plain = rank_in_process(Fixed(table), asked)
    loved = rank_in_process(Fixed(table, own=1e6), asked)

    assert (plain.full == loved.full).all()
    assert (plain.sampled == loved.sampled).all()


def test_a_target_the_user_had_before_is_a_miss() -> None:
    dataset = dataset_of({"ann": [1, 2, 1, 2, 1], "bob": [3, 4, 5]}, {"cat": [1]}, items=(9, 1))
    table = np.arange(10, 0, -1).astype(np.float32)

    ranks = rank_in_process(Fixed(table), questions(dataset, "books"))

    assert ranks.full.tolist() == [3, 0]  # bob's 5 after 1 and 2; ann's 1 is not offered again


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_size_of_a_batch_changes_no_rank_and_progress_counts_every_question(
    asked: Questions, batch: int
) -> None:
    scorer = Fixed(np.random.default_rng(5).random(asked.items + 1, np.float32), own=0.5)
    done: list[int] = []

    def advance(steps: int = 1, *, note: str = "") -> None:
        assert not note
        done.append(steps)

    one, other = (
        rank_in_process(scorer, asked),
        rank_in_process(scorer, asked, advance=advance, batch=batch),
    )

    assert (one.full == other.full).all()
    assert (one.sampled == other.sampled).all()
    assert sum(done) == len(asked)


def test_the_scores_a_scorer_keeps_are_left_as_they_are(asked: Questions) -> None:
    class Keeper:
        kept = np.random.default_rng(6).random((64, asked.items + 1), np.float32)

        def scores(
            self, domain: str, histories: Sequence[History], users: Users | None = None
        ) -> Floats:  # the protocol's
            return self.kept[: len(histories)]

    before = Keeper.kept.copy()
    rank_in_process(Keeper(), asked)

    assert (Keeper.kept == before).all()


def test_scores_of_another_shape_are_refused_and_both_shapes_named(asked: Questions) -> None:
    message = (
        r"^domain 'books': the model gave scores of shape \(64, 5\), not \(64, 1001\); "
        "it was made from another dataset$"
    )
    with pytest.raises(BadArtifactError, match=message):
        rank_in_process(Popularity({"books": np.zeros(5, np.float32)}), asked)


def test_a_score_that_is_nan_is_refused(asked: Questions) -> None:
    table = np.zeros(asked.items + 1, np.float32)
    table[17] = np.nan

    with pytest.raises(
        BadArtifactError, match=r"^domain 'books': a score is NaN; this model must not be used$"
    ):
        rank_in_process(Fixed(table), asked)
