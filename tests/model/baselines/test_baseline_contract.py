"""What every system that is compared promises, whichever it is."""

from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load, save

from model.arrays import Floats, Rows
from model.baselines.system import System, Tensors
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.errors import BadArtifactError, NotFoundError
from model.evaluation.protocol import Users, questions
from model.evaluation.ranking import rank_in_process
from model.metrics import ndcg
from tests.model.baselines.systems_under_test import SYSTEMS, UnderTest
from tests.model.dataset_making import (
    CHANCE_OF_KINDS,
    GAINS,
    dataset_of,
    dataset_of_kinds,
    random_dataset,
    with_other_held_out_rows,
)

DOMAINS = ("books", "films")
DATASET = random_dataset(np.random.default_rng(1), users=90, items=40)


@pytest.fixture(params=list(SYSTEMS))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of one of the systems."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def under_test(name: str) -> UnderTest:
    """Return what is tested of that name."""
    return SYSTEMS[name]


def _fit(under_test: UnderTest, dataset: Dataset, *, seed: int = 0) -> System:
    return under_test.kind.fit(TrainingData.of(dataset), under_test.settings, seed=seed)


@cache
def _fitted(name: str) -> System:
    return _fit(SYSTEMS[name], DATASET)


@cache
def _fitted_to_kinds(name: str) -> System:
    return _fit(SYSTEMS[name], dataset_of_kinds())


def _asked(
    dataset: Dataset, domain: str, *, count: int = 40
) -> tuple[list[dict[str, Rows]], Users]:
    """Return the training rows of the first users of a domain, and who they are."""
    data = TrainingData.of(dataset)
    own = next(each for each in data.domains if each.name == domain)
    other = data.other_than(own)
    users = np.arange(count)
    histories = [{domain: own.training[user]} for user in range(count)]
    return histories, {domain: users, other.name: own.other[users]}


def _scores(system: System, dataset: Dataset, domain: str) -> Floats:
    return system.scores(domain, *_asked(dataset, domain))


def _same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_it_learns_a_planted_answer(under_test: UnderTest) -> None:
    generator = np.random.default_rng(2)
    together = {
        f"u{user:02d}": [*generator.permutation([7, 3]), *generator.integers(8, 30, 4)]
        for user in range(60)
    }
    together["u99"] = [3, 9, 3, 10, 11]
    dataset = dataset_of(together, {"u00": [1, 2, 3, 4], "u01": [2, 1, 4]}, items=(30, 4))
    history = {"books": np.array([3], np.int32)}
    who = {"books": np.array([60]), "films": np.array([-1])}

    (scores,) = _fit(under_test, dataset).scores("books", [history], who)
    scores[[0, 3]] = -np.inf

    assert scores.argmax() == 7


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", [name for name, each in SYSTEMS.items() if each.personal])
def test_it_learns_which_kind_of_item_a_user_wants(name: str, domain: str) -> None:
    ranks = rank_in_process(_fitted_to_kinds(name), questions(dataset_of_kinds(), domain)).full

    assert ndcg(ranks, 10) > 2 * CHANCE_OF_KINDS


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", [name for name, each in SYSTEMS.items() if each.transfers])
def test_it_carries_what_a_user_wants_to_a_domain_the_user_is_new_to(
    name: str, domain: str
) -> None:
    cold = questions(dataset_of_kinds(), domain, cold=True)
    ranks = rank_in_process(_fitted_to_kinds(name), cold).full

    assert ndcg(ranks, 10) > 2 * CHANCE_OF_KINDS


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_batch_answers_as_its_rows_do_singly(name: str, domain: str) -> None:
    system = _fitted(name)
    histories, users = _asked(DATASET, domain)

    batch = system.scores(domain, histories, users)

    assert batch.shape == (40, len(DATASET.domain(domain).vocabulary) + 1)
    assert batch.dtype == np.float32
    for place, (scores, history) in enumerate(zip(batch, histories, strict=True)):
        alone = {each: places[[place]] for each, places in users.items()}
        np.testing.assert_allclose(
            scores, system.scores(domain, [history], alone)[0], rtol=1e-5, atol=1e-6
        )


def test_what_it_has_learned_is_stored_and_taken_back_unchanged(
    name: str, under_test: UnderTest
) -> None:
    system = _fitted(name)
    stored = load(save(dict(system.tensors())))

    restored = under_test.kind.restore(TrainingData.of(DATASET), under_test.settings, stored)

    assert _same(restored.tensors(), system.tensors())
    for domain in DOMAINS:
        assert (_scores(restored, DATASET, domain) == _scores(system, DATASET, domain)).all()


def test_what_was_learned_from_other_data_is_not_taken_back(
    name: str, under_test: UnderTest
) -> None:
    other = random_dataset(np.random.default_rng(3), users=60, items=50)

    with pytest.raises(BadArtifactError):
        under_test.kind.restore(
            TrainingData.of(other), under_test.settings, _fitted(name).tensors()
        )


def test_the_same_seed_learns_the_same_and_another_seed_another(
    name: str, under_test: UnderTest
) -> None:
    learned = _fitted(name).tensors()

    assert _same(_fit(under_test, DATASET, seed=0).tensors(), learned)
    assert _same(_fit(under_test, DATASET, seed=1).tensors(), learned) is not under_test.draws


def test_a_second_fit_starts_afresh_and_leaves_the_first_alone(
    name: str, under_test: UnderTest
) -> None:
    first = _fitted(name)
    before = _scores(first, DATASET, "books")

    second = _fit(under_test, random_dataset(np.random.default_rng(3), users=60, items=40))

    assert (_scores(first, DATASET, "books") == before).all()
    assert not _same(second.tensors(), first.tensors())


def test_test_rows_change_nothing_that_is_learned(name: str, under_test: UnderTest) -> None:
    changed = with_other_held_out_rows(DATASET, np.random.default_rng(4), back=1)

    assert _same(_fit(under_test, changed).tensors(), _fitted(name).tensors())


@pytest.mark.parametrize("name", [name for name, each in SYSTEMS.items() if not each.stops_early])
def test_validation_rows_change_nothing_where_none_says_when_to_stop(name: str) -> None:
    changed = with_other_held_out_rows(DATASET, np.random.default_rng(4), back=2)

    assert _same(_fit(SYSTEMS[name], changed).tensors(), _fitted(name).tensors())


def test_training_rows_do_change_what_is_learned(name: str, under_test: UnderTest) -> None:
    changed = with_other_held_out_rows(DATASET, np.random.default_rng(4), back=3)

    assert not _same(_fit(under_test, changed).tensors(), _fitted(name).tensors())


def test_where_rows_are_drawn_at_random_it_is_as_good_as_chance(under_test: UnderTest) -> None:
    generator = np.random.default_rng(6)
    lists = [
        {
            f"u{user:05d}": (generator.permutation(60)[:6] + 1).tolist()
            for user in range(begin, begin + 300)
        }
        for begin in (0, 150)
    ]
    dataset = dataset_of(lists[0], lists[1], items=(60, 60))
    system = _fit(under_test, dataset)

    found = [ndcg(rank_in_process(system, questions(dataset, each)).full, 10) for each in DOMAINS]

    gains = np.zeros(60 - 5)
    gains[:10] = GAINS
    assert np.mean(found) <= gains.mean() + 4 * gains.std() / np.sqrt(600)


@pytest.mark.parametrize("domain", DOMAINS)
def test_who_is_new_to_a_domain_is_answered_without_what_it_knows_of_them(
    name: str, domain: str
) -> None:
    system = _fitted(name)
    cold = questions(DATASET, domain, cold=True)
    places = range(min(len(cold), 20))
    histories, users = [cold.history(place) for place in places], cold.users_at(places)

    scores = system.scores(domain, histories, users)
    nobody = system.scores(domain, [{}, {}], None)

    assert len(places) > 5
    assert (users[domain] == -1).all()
    assert all(domain not in history for history in histories)
    assert np.isfinite(scores).all()
    assert np.isfinite(nobody).all()
    assert (nobody[0] == nobody[1]).all()


def test_an_unknown_domain_is_refused_by_name(name: str) -> None:
    message = r"^domain 'games' is not in the dataset; it has books, films$"
    with pytest.raises(NotFoundError, match=message):
        _fitted(name).scores("games", [{}])
