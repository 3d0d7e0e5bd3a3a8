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
