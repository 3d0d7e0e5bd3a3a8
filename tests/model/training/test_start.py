"""Items start near what stands near them."""

import numpy as np
import pytest

from model.data.dataset import Sequences
from model.data.training_data import TrainingData
from model.training.near import Pairs, near_pairs
from model.training.start import (
    NORM,
    item_vectors,
    joint_item_vectors,
    positive_information,
)
from tests.model.dataset_making import dataset_of


def two_worlds() -> Sequences:
    """Give sixty users who stay among items 1 to 10 or 11 to 20; item 21 is never used."""
    generator = np.random.default_rng(1)
    return Sequences.of(
        [generator.integers(1, 11, 15).astype(np.int32) + 10 * (user % 2) for user in range(60)]
    )


def test_information_is_that_of_the_definition() -> None:
    pairs = Pairs(np.array([1, 2, 1, 3]), np.array([2, 1, 3, 1]), np.array([6, 6, 2, 2]))
    by_hand = np.log((6 / 16) / ((8 / 16) * (6 / 16)))  # p(1, 2) = 6/16, p(1) = 8/16, p(2) = 6/16
    assert positive_information(pairs, 3)[0] == pytest.approx(by_hand)
    assert (positive_information(pairs, 3) >= 0).all()


def test_items_of_one_world_are_closer_than_items_of_two() -> None:
    vectors = item_vectors(two_worlds(), 21, 8, np.random.default_rng(2))
    cosine = (vectors[1:21] @ vectors[1:21].T) / NORM**2
    same = (np.arange(20)[:, None] < 10) == (np.arange(20) < 10)
    np.fill_diagonal(same, val=False)
    other = (np.arange(20)[:, None] < 10) != (np.arange(20) < 10)
    assert cosine[same].mean() > cosine[other].mean() + 0.2


def test_the_decomposition_agrees_with_a_dense_one() -> None:
    sequences = two_worlds()
    pairs = near_pairs(sequences, 21)
    dense = np.zeros((22, 22))
    dense[pairs.left, pairs.right] = positive_information(pairs, 21)
    values, basis = np.linalg.eigh(dense)
    chosen = np.argsort(-np.abs(values))[:4]
    exact = basis[:, chosen] * np.sqrt(np.abs(values[chosen]))
    vectors = item_vectors(sequences, 21, 4, np.random.default_rng(3))
    exact *= NORM / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(
        vectors[1:21] @ vectors[1:21].T, exact[1:21] @ exact[1:21].T, atol=1e-3
    )


def test_every_item_has_a_vector_of_the_same_length_and_padding_none() -> None:
    vectors = item_vectors(two_worlds(), 21, 64, np.random.default_rng(4))
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), NORM, rtol=1e-5)
    assert not vectors[0].any()


def test_items_that_stand_near_nothing_have_that_length_too() -> None:
    lonely = [np.array([item], np.int32) for item in range(1, 21)]
    together = [np.array([item, item + 1], np.int32) for item in range(21, 100)]
    vectors = item_vectors(Sequences.of(lonely + together), 100, 8, np.random.default_rng(4))
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), NORM, rtol=1e-5)


def test_sequences_of_one_item_give_a_random_start() -> None:
    lonely = Sequences.of([np.array([1], np.int32), np.array([2], np.int32)])
    vectors = item_vectors(lonely, 2, 4, np.random.default_rng(5))
    assert np.isfinite(vectors).all()
    assert vectors[1:].any(axis=1).all()


def test_items_that_only_shared_users_join_stand_together_across_domains() -> None:
    generator = np.random.default_rng(6)
    books, films = {}, {}
    for user in range(120):
        world = 10 * (user % 2)
        books[f"u{user:03d}"] = (generator.integers(1, 11, 9) + world).tolist()
        films[f"u{user:03d}"] = (generator.integers(1, 11, 7) + world).tolist()
    data = TrainingData.of(dataset_of(books, films, items=(20, 25)))

    first, second = joint_item_vectors(data, 8, generator)

    assert first.shape == (21, 8)
    assert second.shape == (26, 8)
    assert not first[0].any()
    assert not second[0].any()
    likeness = first[1:21] @ second[1:21].T / NORM**2
    same = (np.arange(20)[:, None] < 10) == (np.arange(20) < 10)
    assert likeness[same].mean() > likeness[~same].mean() + 0.2
