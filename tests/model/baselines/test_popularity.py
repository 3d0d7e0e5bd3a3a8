"""Popularity against shares counted by hand."""

import pytest

from model.baselines.popularity import Popularity, PopularitySettings, popularity_shares
from model.data.training_data import TrainingData
from tests.model.dataset_making import dataset_of


def test_an_item_scores_its_share_of_the_training_interactions() -> None:
    dataset = dataset_of(
        {"ann": [1, 2, 1, 3, 4], "bob": [1, 4], "cat": [2, 3, 3]}, {"dan": [1]}, items=(5, 1)
    )

    fitted = Popularity.fit(TrainingData.of(dataset), PopularitySettings(), seed=0)
    (scores,) = fitted.scores("books", [{}])

    # Training rows: ann 1 2 1, bob 1 4 (too short to hold out of), cat 2.
    assert scores.tolist() == pytest.approx([0, 3 / 6, 2 / 6, 0, 1 / 6, 0])
    assert (popularity_shares(dataset.domains[0]) == scores).all()
