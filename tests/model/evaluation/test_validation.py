"""What early stopping and tuning look at."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.arrays import Floats
from model.data.training_data import TrainingData
from model.errors import TrainingError
from model.evaluation.protocol import History, Users
from model.evaluation.validation import Validation
from tests.model.dataset_making import random_dataset


class Diverged:
    """Scores nothing but NaN."""

    def __init__(self, items: int) -> None:
        self._items = items

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score as a system does that has diverged."""
        return np.full((len(histories), self._items + 1), np.nan, np.float32)


def test_a_system_that_has_diverged_fails_as_a_training_does() -> None:
    data = TrainingData.of(random_dataset(np.random.default_rng(1), users=30, items=20))
    domain = data.domains[1]

    with pytest.raises(TrainingError) as caught:
        Validation(data, domain.name).ndcg_at_10(Diverged(domain.items))

    assert str(caught.value) == (
        f"domain {domain.name!r}: a score is NaN on validation rows; lower the learning rate"
    )


class Reading:
    """Prefers what a user has, then what follows; keeps what it was shown."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self.histories: list[History] = []
        self.users: list[Users | None] = []

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score the rows of a user 2, the row to be found 1, all others 0."""
        self.histories += histories
        self.users.append(users)
        assert users is not None
        (own,) = [each for each in self._data.domains if each.name == domain]
        scores = np.zeros((len(histories), own.items + 1), np.float32)
        for place, user in enumerate(users[domain].tolist()):
            scores[place, own.validation[user]] = 1
            scores[place, own.training[user]] = 2
        return scores


@pytest.mark.parametrize("place", [0, 1])
def test_what_a_user_has_is_no_answer_and_both_histories_are_shown(place: int) -> None:
    dataset = random_dataset(np.random.default_rng(2), users=40, items=30)
    data = TrainingData.of(dataset)
    own, other = data.domains[place], data.domains[1 - place]
    scorer = Reading(data)

    found = Validation(data, own.name).ndcg_at_10(scorer)

    asked = np.concatenate([users[own.name] for users in scorer.users if users is not None])
    fresh = [own.validation[user] not in own.training[user] for user in asked]
    assert found == pytest.approx(np.mean(fresh))
    assert np.mean(fresh) > 0
    assert {int(own.other[user]) >= 0 for user in asked} == {True, False}
    for user, history in zip(asked.tolist(), scorer.histories, strict=True):
        assert history[own.name].tolist() == own.training[user].tolist()
        partner = int(own.other[user])
        if partner >= 0:
            assert history[other.name].tolist() == other.training[partner].tolist()
        else:
            assert other.name not in history
