"""An item's neighbours are what it stands near most, and how much they count adds up."""

from itertools import combinations
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle import Bundle
from model.data.dataset import Dataset, Sequences
from model.inference import BundleScorer
from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks, initialise
from model.training.context import Context
from model.training.export import export_bundle
from model.training.joint import JointFineTuning
from model.training.near import WINDOW
from model.training.neighbours import SHARE, SMOOTHING, likest_items
from model.training.settings import FineTuningSettings
from model.training.validation import LiveScorer, validation_of


def histories() -> Sequences:
    """Give forty users of twelve items; item 13 is never used, item 14 stands alone."""
    generator = np.random.default_rng(4)
    lists = [generator.integers(1, 13, generator.integers(2, 15)) for _ in range(40)]
    return Sequences.of([*(each.astype(np.int32) for each in lists), np.array([14], np.int32)])


def test_they_are_those_of_a_slow_loop() -> None:
    sequences, count = histories(), 3
    near = np.zeros((15, 15))
    for user in range(len(sequences)):
        for (i, one), (j, other) in combinations(enumerate(sequences[user].tolist()), 2):
            if j - i <= WINDOW and one != other:
                near[one, other] += 1
                near[other, one] += 1
    occurs = np.bincount(sequences.rows, minlength=15)
    neighbours, shares = likest_items(sequences, 14, count)
    for item in range(1, 13):
        likeness = {
            other: near[item, other]
            / sqrt((occurs[item] + SMOOTHING) * (occurs[other] + SMOOTHING))
            for other in range(1, 13)
        }
        best = sorted(likeness, key=lambda other: (-likeness[other], other))[:count]
        assert neighbours[item].tolist() == best
        total = sum(likeness[other] for other in best)
        wanted = [SHARE * likeness[other] / total for other in best]
        assert shares[item].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("row", [0, 13, 14])
def test_padding_and_an_item_that_stands_near_nothing_have_none(row: int) -> None:
    neighbours, shares = likest_items(histories(), 14, 3)
    assert not neighbours[row].any()
    assert not shares[row].any()


def test_an_item_with_few_neighbours_shares_among_those() -> None:
    sequences = Sequences.of([np.array(each, np.int32) for each in ([1, 2], [3], [1, 2])])
    neighbours, shares = likest_items(sequences, 3, 5)
    assert neighbours[1].tolist() == [2, 0, 0, 0, 0]
    assert shares[1].tolist() == [SHARE, 0, 0, 0, 0]


@pytest.fixture
def mixing(context: Context) -> Context:
    """Give networks that score by neighbours, after a few steps of joint fine-tuning."""
    size = NetworkSettings.model_validate(context.settings.network.model_dump() | {"neighbours": 4})
    settings = context.settings.model_copy(
        update={"network": size, "fine_tuning": FineTuningSettings(joint=True, batch_users=16)}
    )
    networks = TrainingNetworks({each.name: each.items for each in context.data.domains}, size)
    initialise(networks, torch.Generator().manual_seed(1))
    mixing = Context.of(context.data, networks, settings, context.team)
    phase = JointFineTuning(mixing, 2)
    phase.begin()
    for step in range(5):
        phase.step(step)
    networks.eval()
    return mixing


def test_a_bundle_scores_as_training_did(mixing: Context, chained: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    serving = mixing.networks.serving
    export_bundle(folder, chained, serving, mixing.settings.network, training={})
    scorer, live = BundleScorer(Bundle.read(folder)), LiveScorer(mixing)
    asked = [
        {each.name: each.sequences[user] for each in chained.domains} for user in (0, 1, 2, 40)
    ]
    for domain in chained.domains:
        found = scorer.scores(domain.name, asked)
        np.testing.assert_allclose(found, live.scores(domain.name, asked), atol=1e-5)
        read = serving.recommender(domain.name).embedding.items.weight.detach().numpy()
        assert np.abs(Bundle.read(folder).domain(domain.name).item_table - read).max() > 1e-3


def test_only_recommenders_score_by_neighbours(mixing: Context) -> None:
    for domain in mixing.data.domains:
        serving = mixing.networks.serving
        assert serving.recommender(domain.name).embedding.mixed is not None
        assert serving.gur_encoder.embedding(domain.name).mixed is None


def test_every_validation_sees_the_items_as_they_are_by_then(mixing: Context) -> None:
    figure, again = validation_of(mixing, "north"), validation_of(mixing, "north")
    assert figure is not None
    assert again is not None
    before = figure()
    table = mixing.networks.serving.recommender("north").embedding.items.weight
    with torch.no_grad():
        table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(7)))
    assert figure() == again() != before
