"""Popularity against shares counted by hand."""

import numpy as np
import pytest

from model.baselines.popularity import (
    LatestPopularity,
    LatestPopularitySettings,
    Popularity,
    PopularitySettings,
)
from model.data.popularity import popularity_shares
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


def test_who_comes_from_the_other_domain_is_answered_by_what_shared_users_took_last() -> None:
    dataset = dataset_of(
        {"ann": [1, 2, 2, 3, 4], "bob": [1, 4], "cat": [5, 3], "dan": [1, 1, 1, 1, 2]},
        {"ann": [1], "cat": [1]},
        items=(6, 1),
    )
    some = np.array([1], np.int32)
    asked = [{"films": some}, {"books": some, "films": some}, {"books": some}, {}]

    settings = LatestPopularitySettings(last=2)
    fitted = LatestPopularity.fit(TrainingData.of(dataset), settings, seed=0)
    newcomer, *others = fitted.scores("books", asked).tolist()

    # Training rows: ann 1 2 2, bob 1 4, cat 5 3, dan 1 1 1; the latest two: 2 2, 1 4, 5 3, 1 1.
    everyone = [0, 3 / 8, 2 / 8, 1 / 8, 1 / 8, 1 / 8, 0]
    assert others == [pytest.approx(everyone)] * 3
    of_shared = [0, 0, 2, 1, 0, 1, 0]
    expected = [(mine + share) / 5 for mine, share in zip(of_shared, everyone, strict=True)]
    assert newcomer == pytest.approx(expected)


def test_without_shared_users_everyone_decides_for_newcomers() -> None:
    dataset = dataset_of({"ann": [2, 2, 1]}, {"dan": [1]}, items=(3, 1))

    fitted = LatestPopularity.fit(TrainingData.of(dataset), LatestPopularitySettings(), seed=0)
    newcomer, stranger = fitted.scores("books", [{"films": np.array([1], np.int32)}, {}])

    assert newcomer.tolist() == stranger.tolist()
