"""What every baseline promises, whichever it is."""

from collections.abc import Callable

import numpy as np
import pytest

from model.baselines.cooccurrence import Cooccurrence
from model.baselines.popularity import Popularity
from model.data.dataset import Dataset
from model.data.vocabulary import Rows
from model.errors import NotFoundError
from model.evaluation.protocol import Scorer
from tests.model.dataset_making import dataset_of, random_dataset, with_other_held_out_rows

Fit = Callable[[Dataset], Scorer]

BASELINES: dict[str, Fit] = {
    "popularity": Popularity.fit,
    "co-occurrence": Cooccurrence.fit,
    "co-occurrence, recent first": lambda dataset: Cooccurrence.fit(dataset, decay=0.6),
}


@pytest.fixture(params=list(BASELINES.values()), ids=list(BASELINES))
def fit(request: pytest.FixtureRequest) -> Fit:
    """Return the way one of the baselines is fitted."""
    way: Fit = request.param
    return way


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Return two unlike domains."""
    return random_dataset(np.random.default_rng(1), users=150, items=70)


def _histories(dataset: Dataset, domain: str) -> list[dict[str, Rows]]:
    training = dataset.domain(domain).training()
    return [{domain: training[user]} for user in range(40)]


def test_it_learns_a_planted_answer(fit: Fit) -> None:
    generator = np.random.default_rng(2)
    together = {
        f"u{user}": [*generator.permutation([7, 3]), *generator.integers(8, 30, 4)]
        for user in range(50)
    }
    dataset = dataset_of(together, {"u0": [1, 2, 3, 4]}, items=(30, 4))

    (scores,) = fit(dataset).scores("books", [{"books": np.array([3], np.int32)}])
    scores[[0, 3]] = -np.inf

    assert scores.argmax() == 7


@pytest.mark.parametrize("domain", ["books", "films"])
def test_a_batch_answers_as_its_rows_do_singly(fit: Fit, dataset: Dataset, domain: str) -> None:
    scorer, histories = fit(dataset), _histories(dataset, domain)

    batch = scorer.scores(domain, histories)

    assert batch.shape == (40, len(dataset.domain(domain).vocabulary) + 1)
    assert batch.dtype == np.float32
    for scores, history in zip(batch, histories, strict=True):
        assert (scores == scorer.scores(domain, [history])[0]).all()


def test_a_second_fit_starts_afresh_and_leaves_the_first_alone(fit: Fit, dataset: Dataset) -> None:
    other = random_dataset(np.random.default_rng(3), users=90, items=70)
    histories = _histories(dataset, "books")
    first = fit(dataset)
    before = first.scores("books", histories)

    second = fit(other).scores("books", histories)

    assert (first.scores("books", histories) == before).all()
    assert (second == fit(other).scores("books", histories)).all()
    assert (second != before).any()


@pytest.mark.parametrize("back", [1, 2])
def test_held_out_rows_change_no_score(fit: Fit, dataset: Dataset, back: int) -> None:
    changed = with_other_held_out_rows(dataset, np.random.default_rng(4), back=back)

    for domain in ("books", "films"):
        histories = _histories(dataset, domain)
        scores = [fit(each).scores(domain, histories) for each in (dataset, changed)]
        assert (scores[0] == scores[1]).all()


def test_a_training_row_does_change_scores(fit: Fit, dataset: Dataset) -> None:
    changed = with_other_held_out_rows(dataset, np.random.default_rng(4), back=3)

    histories = _histories(dataset, "films")
    scores = [fit(each).scores("films", histories) for each in (dataset, changed)]
    assert (scores[0] != scores[1]).any()


def test_a_user_without_a_history_gets_finite_scores(fit: Fit, dataset: Dataset) -> None:
    scores = fit(dataset).scores("films", [{}, {"books": np.array([1], np.int32)}])

    assert np.isfinite(scores).all()
    assert (scores[0] == scores[1]).all()


def test_an_unknown_domain_is_refused_by_name(fit: Fit, dataset: Dataset) -> None:
    message = r"^domain 'games' is not in the dataset; it has books, films$"
    with pytest.raises(NotFoundError, match=message):
        fit(dataset).scores("games", [{}])
