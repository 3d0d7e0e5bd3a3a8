"""Co-occurrence against the dense matrix product it stands for, and against values by hand."""

from pathlib import Path

import numpy as np
import pytest

from model.baselines.cooccurrence import Cooccurrence
from model.baselines.popularity import Popularity
from model.bundle import Floats
from model.data.dataset import Dataset
from model.errors import BadSettingError
from model.evaluation.protocol import questions
from model.evaluation.ranking import rank_in_process
from model.metrics import ndcg
from tests.model.dataset_making import dataset_of, random_dataset, read_logs

DATASET = random_dataset(np.random.default_rng(7), users=200, items=60)


def _dense_cosines(dataset: Dataset, domain: str) -> Floats:
    data = dataset.domain(domain)
    baskets = np.zeros((len(data.users), len(data.vocabulary) + 1))
    for user in range(len(data.users)):
        baskets[user, data.training()[user]] = 1
    counts = baskets.sum(axis=0)
    cosines = baskets.T @ baskets / np.sqrt(np.outer(counts, counts) + 1e-30)
    np.fill_diagonal(cosines, 0)
    return cosines.astype(np.float32)


@pytest.mark.parametrize("pairs_together", [50, 4_000_000])
@pytest.mark.parametrize("domain", ["books", "films"])
def test_scores_are_the_dense_matrix_product(
    domain: str, pairs_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.baselines.cooccurrence._PAIRS_TOGETHER", pairs_together)
    sequences = DATASET.domain(domain).sequences
    histories = [{domain: sequences[user]} for user in range(len(sequences))]
    taken = np.zeros((len(histories), len(DATASET.domain(domain).vocabulary) + 1), np.float32)
    for user, history in enumerate(histories):
        taken[user, history[domain]] = 1

    scores = Cooccurrence.fit(DATASET).scores(domain, histories)

    np.testing.assert_allclose(scores, taken @ _dense_cosines(DATASET, domain), atol=1e-5)


def test_likeness_and_decay_worked_by_hand() -> None:
    dataset = dataset_of(
        {"ann": [1, 2], "bob": [1, 2, 3, 5, 5], "cat": [1, 1], "dan": [3, 4]},
        {"eve": [1]},
        items=(5, 1),
    )
    history = {"books": np.array([1, 4, 3], np.int32)}

    (plain,) = Cooccurrence.fit(dataset).scores("books", [history])
    (recent,) = Cooccurrence.fit(dataset, decay=0.5).scores("books", [history])

    # Users: 1 has ann, bob, cat; 2 has ann, bob; 3 has bob, dan; 4 has dan; 5 nobody.
    near, far, own = 2 / np.sqrt(3 * 2), 1 / np.sqrt(2 * 2), 1 / np.sqrt(2 * 3)
    assert plain.tolist() == pytest.approx(
        [0, own, near + far, own + 1 / np.sqrt(2), 1 / np.sqrt(2), 0]
    )
    assert recent.tolist() == pytest.approx(
        [0, own, near / 4 + far, own / 4 + 0.5 / np.sqrt(2), 1 / np.sqrt(2), 0]
    )


@pytest.mark.parametrize("decay", [0.0, 1.5, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    message = rf"^decay must be above 0 and at most 1, not {decay}$"
    with pytest.raises(BadSettingError, match=message):
        Cooccurrence.fit(DATASET, decay=decay)


def test_on_real_data_it_beats_popularity_in_both_domains_and_order_adds_to_it(
    data_folder: Path,
) -> None:
    dataset = read_logs(data_folder / "beauty_toys_small")
    for domain in dataset.domains:
        asked = questions(dataset, domain.name, split="validation")
        popular, together, recent = (
            ndcg(rank_in_process(scorer, asked).full, 10)
            for scorer in (
                Popularity.fit(dataset),
                Cooccurrence.fit(dataset),
                Cooccurrence.fit(dataset, decay=0.6),
            )
        )
        assert together > 2 * popular
        assert recent > 1.1 * together
