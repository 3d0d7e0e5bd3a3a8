"""BERT4Rec: what is hidden, that it stays hidden, and that both sides are read."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.baselines.bert4rec import Bert4RecSettings, batch_loss, hidden_steps
from model.baselines.sequential import SequenceNetwork, blank_network
from model.data.training_data import TrainingData, TrainingDomain
from model.networks.system import initialise
from model.training.draws import Draws
from tests.model.dataset_making import dataset_of

ITEMS = 30
SETTINGS = Bert4RecSettings(
    width=12,
    heads=3,
    layers=2,
    feed_forward=20,
    max_history=5,
    dropout=0.0,
    softmax="full",
    last_share=0.0,
)


def _network() -> SequenceNetwork:
    network = blank_network(ITEMS, SETTINGS, causal=False)
    initialise(network, torch.Generator().manual_seed(1))
    torch.nn.init.normal_(network.table[1:].data, generator=torch.Generator().manual_seed(2))
    return network.eval()


def _domain(rows: list[int]) -> TrainingDomain:
    dataset = dataset_of({"ann": [*rows, 1, 1]}, {"dan": [1]}, items=(ITEMS, 1))
    return TrainingData.of(dataset).domains[0]


@pytest.mark.parametrize(("share", "expected"), [(0.2, [1, 1, 2]), (0.6, [1, 3, 6])])
def test_a_share_of_each_users_rows_is_hidden_and_no_padding(
    share: float, expected: list[int]
) -> None:
    rows = torch.zeros(3, 10, dtype=torch.int64)
    for user, length in enumerate((2, 5, 10)):
        rows[user, 10 - length :] = torch.arange(1, length + 1)
    settings = SETTINGS.model_copy(update={"masked_share": share})
    generator = torch.Generator().manual_seed(4)
    seen = torch.zeros_like(rows)
    for _ in range(200):
        hidden = hidden_steps(rows, settings, generator)
        assert hidden.sum(dim=1).tolist() == expected
        seen += hidden
    assert torch.equal(seen > 0, rows != 0)


def test_the_last_row_alone_is_hidden_of_a_share_of_the_users() -> None:
    rows = torch.arange(1, 11).repeat(4000, 1)
    settings = SETTINGS.model_copy(update={"masked_share": 0.5, "last_share": 0.3})
    hidden = hidden_steps(rows, settings, torch.Generator().manual_seed(5))
    counts = hidden.sum(dim=1)
    assert set(counts.tolist()) == {1, 5}
    assert hidden[counts == 1, -1].all()
    assert (counts == 1).double().mean().item() == pytest.approx(0.3, abs=0.03)


def test_every_place_is_hidden_about_as_often() -> None:
    rows = torch.arange(1, 9).repeat(4000, 1)
    settings = SETTINGS.model_copy(update={"masked_share": 0.5})
    hidden = hidden_steps(rows, settings, torch.Generator().manual_seed(6))
    np.testing.assert_allclose(hidden.double().mean(dim=0), 0.5, atol=0.04)


def test_only_hidden_rows_are_found_and_none_is_read() -> None:
    truth = [5, 9, 2, 4, 8, 7]
    network, draws = _network(), Draws(0, 0, torch.device("cpu"))
    read: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))

    draws.start_step(1)
    loss = batch_loss(network, _domain(truth), np.array([0]), draws, settings=SETTINGS)

    shown = read[0][0].tolist()
    hidden = [place for place, row in enumerate(shown) if row == network.mask]
    assert len(hidden) == 2  # 0.4 of 6
    assert [row for row in shown if row != network.mask] == [
        row for place, row in enumerate(truth) if place not in hidden
    ]
    states, table = network(torch.tensor([shown]))[0].double(), network.table.double()
    terms = []
    for place in hidden:
        scores = (table[1:] @ states[place]).tolist()
        total = math.log(sum(math.exp(score) for score in scores))
        terms.append(total - scores[truth[place] - 1])
    assert loss.item() == pytest.approx(sum(terms) / 2, rel=1e-5)


def test_a_state_reads_both_sides() -> None:
    network = _network()
    rows = torch.tensor([[4, 9, network.mask, 7, 6]])
    states = network(rows)[0, 2]
    for place in (0, 1, 3, 4):
        others = rows.clone()
        others[0, place] = 20
        assert (network(others)[0, 2] != states).any()


def test_what_comes_next_is_a_hidden_item_after_the_last() -> None:
    network = _network()
    rows = torch.tensor([[0, 4, 9], [3, 8, 1]])
    asked = torch.tensor([[0, 4, 9, network.mask], [3, 8, 1, network.mask]])
    assert torch.equal(network.preferences(rows), network(asked)[:, -1])


def test_a_training_sequence_has_room_for_the_row_that_is_asked_for() -> None:
    network, draws = _network(), Draws(0, 0, torch.device("cpu"))
    read: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    batch_loss(network, _domain(list(range(1, 12))), np.array([0]), draws, settings=SETTINGS)
    assert read[0].shape == (1, SETTINGS.max_history + 1)


def test_no_state_is_compared_with_the_mask() -> None:
    network = _network()
    assert len(network.table) == ITEMS + 1
    assert network.mask == ITEMS + 1
