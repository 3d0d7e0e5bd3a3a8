"""Co-occurrence against the dense matrix product it stands for, and against values by hand."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.arrays import Floats
from model.baselines.cooccurrence import (
    Cooccurrence,
    CooccurrenceSettings,
    CrossCooccurrence,
    CrossCooccurrenceSettings,
)
from model.baselines.popularity import Popularity, PopularitySettings
from model.data.dataset import Dataset, DomainData
from model.data.popularity import popularity_shares
from model.data.training_data import TrainingData
from model.evaluation.protocol import questions
from model.evaluation.ranking import rank_in_process
from model.metrics import ndcg
from tests.model.dataset_making import dataset_of, random_dataset, read_logs

DATASET = random_dataset(np.random.default_rng(7), users=200, items=60)


def _fit(
    dataset: Dataset, *, decay: float = 1.0, last: int | None = None, smoothing: float = 0.0
) -> Cooccurrence:
    settings = CooccurrenceSettings(decay=decay, last=last, smoothing=smoothing)
    return Cooccurrence.fit(TrainingData.of(dataset), settings, seed=0)


def _dense(data: DomainData) -> Floats:
    baskets = np.zeros((len(data.users), len(data.vocabulary) + 1), np.float32)
    for user in range(len(data.users)):
        baskets[user, data.training()[user]] = 1
    return baskets


def _dense_cosines(left: Floats, right: Floats, smoothing: float = 0.0) -> Floats:
    sizes = np.outer(left.sum(axis=0) + smoothing, right.sum(axis=0) + smoothing)
    cosines: Floats = (left.T @ right / np.sqrt(sizes + 1e-30)).astype(np.float32)
    return cosines


@pytest.mark.parametrize("pairs_together", [50, 4_000_000])
@pytest.mark.parametrize("domain", ["books", "films"])
def test_scores_are_the_dense_matrix_product(
    domain: str, pairs_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.baselines.likeness._PAIRS_TOGETHER", pairs_together)
    sequences = DATASET.domain(domain).sequences
    histories = [{domain: sequences[user]} for user in range(len(sequences))]
    taken = np.zeros((len(histories), len(DATASET.domain(domain).vocabulary) + 1), np.float32)
    for user, history in enumerate(histories):
        taken[user, history[domain]] = 1

    scores = _fit(DATASET).scores(domain, histories)

    baskets = _dense(DATASET.domain(domain))
    cosines = _dense_cosines(baskets, baskets)
    np.fill_diagonal(cosines, 0)
    shares = popularity_shares(DATASET.domain(domain))
    np.testing.assert_allclose(scores, taken @ cosines + 1e-3 * shares, atol=1e-5)


def test_likeness_and_decay_worked_by_hand() -> None:
    dataset = dataset_of(
        {"ann": [1, 2], "bob": [1, 2, 3, 5, 5], "cat": [1, 1], "dan": [3, 4]},
        {"eve": [1]},
        items=(5, 1),
    )
    history = {"books": np.array([1, 4, 3], np.int32)}

    (plain,) = _fit(dataset).scores("books", [history])
    (last,) = _fit(dataset, last=1).scores("books", [history])
    (smooth,) = _fit(dataset, smoothing=2.0).scores("books", [{"books": history["books"][2:]}])
    (recent,) = _fit(dataset, decay=0.5).scores("books", [history])

    # Users: 1 has ann, bob, cat; 2 has ann, bob; 3 has bob, dan; 4 has dan; 5 nobody.
    near, far, own = 2 / np.sqrt(3 * 2), 1 / np.sqrt(2 * 2), 1 / np.sqrt(2 * 3)
    tie_break = 1e-3 * popularity_shares(dataset.domain("books"))
    by_hand = [
        [0, own, near + far, own + 1 / np.sqrt(2), 1 / np.sqrt(2), 0],
        [0, own, far, 0, 1 / np.sqrt(2), 0],
        [0, 1 / np.sqrt(20), 1 / 4, 0, 1 / np.sqrt(12), 0],
        [0, own, near / 4 + far, own / 4 + 0.5 / np.sqrt(2), 1 / np.sqrt(2), 0],
    ]
    np.testing.assert_allclose([plain, last, smooth, recent], by_hand + tie_break, atol=1e-6)


def test_who_has_nothing_is_told_what_is_popular() -> None:
    for domain in ("books", "films"):
        (scores,) = _fit(DATASET).scores(domain, [{}])
        shares = popularity_shares(DATASET.domain(domain))
        assert np.array_equal(
            np.argsort(-scores, kind="stable"), np.argsort(-shares, kind="stable")
        )


@pytest.mark.parametrize("decay", [0.0, 1.5, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValidationError, match="decay"):
        CooccurrenceSettings(decay=decay)


@pytest.mark.parametrize(("smoothing", "least"), [(0.0, 0.1), (3.0, 0.02)])
@pytest.mark.parametrize(("target", "other"), [("books", "films"), ("films", "books")])
def test_rows_of_the_other_domain_vote_through_shared_users_where_there_are_no_own(
    target: str, other: str, smoothing: float, least: float
) -> None:
    settings = CrossCooccurrenceSettings(decay=1.0, last=None, smoothing=smoothing)
    system = CrossCooccurrence.fit(TrainingData.of(DATASET), settings, seed=0)
    places = {"books": DATASET.shared[:, 0], "films": DATASET.shared[:, 1]}
    left, right = (_dense(DATASET.domain(domain))[places[domain]] for domain in (other, target))
    rows = np.array([1, 5, 2], np.int32)

    empty = np.empty(0, np.int32)
    scores = system.scores(target, [{other: rows}, {other: rows, target: empty}])

    votes = _dense_cosines(left, right, smoothing)[rows].sum(axis=0)
    baskets = _dense(DATASET.domain(target))
    within = _dense_cosines(baskets, baskets, smoothing)
    np.fill_diagonal(within, 0)
    votes = votes + votes @ within
    shares = popularity_shares(DATASET.domain(target))
    assert votes.max() > least
    np.testing.assert_allclose(scores, [votes + 1e-3 * shares] * 2, rtol=1e-5, atol=1e-6)


def test_rows_of_the_other_domain_are_silent_where_there_are_own() -> None:
    system = CrossCooccurrence.fit(TrainingData.of(DATASET), CrossCooccurrenceSettings(), seed=0)
    own, foreign = np.array([4, 2], np.int32), np.array([1, 3], np.int32)

    one, other = system.scores("books", [{"books": own}, {"books": own, "films": foreign}])

    assert (one == other).all()


def test_on_real_data_it_beats_popularity_in_both_domains_and_order_adds_to_it(
    data_folder: Path,
) -> None:
    dataset = read_logs(data_folder / "beauty_toys_small")
    for domain in dataset.domains:
        asked = questions(dataset, domain.name, split="validation")
        popular, together, recent = (
            ndcg(rank_in_process(scorer, asked).full, 10)
            for scorer in (
                Popularity.fit(TrainingData.of(dataset), PopularitySettings(), seed=0),
                _fit(dataset),
                _fit(dataset, decay=0.6),
            )
        )
        assert together > 2 * popular
        assert recent > 1.1 * together
