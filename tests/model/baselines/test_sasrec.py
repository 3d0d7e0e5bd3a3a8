"""SASRec: nothing later is read, and its losses are what a slow loop makes of them."""

import math

import numpy as np
import pytest
import torch

from model.baselines.sasrec import SasRecSettings, batch_loss, binary_loss, unowned_rows
from model.baselines.sequential import SequenceNetwork, blank_network
from model.data.training_data import TrainingData
from model.networks.system import initialise
from model.training.draws import Draws
from tests.model.dataset_making import dataset_of

SETTINGS = SasRecSettings(width=12, heads=3, layers=2, feed_forward=20, max_history=5, dropout=0.0)
ITEMS = 30


def _network(settings: SasRecSettings = SETTINGS) -> SequenceNetwork:
    network = blank_network(ITEMS, settings, causal=True)
    initialise(network, torch.Generator().manual_seed(1))
    torch.nn.init.normal_(network.table[1:].data, generator=torch.Generator().manual_seed(2))
    return network.eval()


@pytest.mark.parametrize("changed", [1, 2, 3, 4])
def test_a_state_depends_on_no_later_item(changed: int) -> None:
    rows = torch.tensor([[0, 4, 9, 2, 7], [3, 8, 1, 5, 6]])
    others = rows.clone()
    others[:, changed:] = torch.tensor([29, 28, 27, 26])[: 5 - changed]
    network = _network()

    states, of_others = network(rows), network(others)

    assert torch.equal(states[:, :changed], of_others[:, :changed])
    assert (states[:, changed:] != of_others[:, changed:]).any(dim=2).all()


def test_padding_changes_no_state() -> None:
    network = _network()
    short = network(torch.tensor([[4, 9]]))
    padded = network(torch.tensor([[0, 0, 0, 4, 9]]))
    torch.testing.assert_close(padded[:, 3:], short)


def test_what_comes_next_is_asked_of_the_last_step() -> None:
    network = _network()
    rows = torch.tensor([[0, 4, 9], [3, 8, 1]])
    assert torch.equal(network.preferences(rows), network(rows)[:, -1])


def test_the_softmax_finds_each_row_from_those_before_it() -> None:
    dataset = dataset_of(
        {"ann": [5, 9, 2, 4, 1, 1], "bob": [7, 3, 8, 8], "cat": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]},
        {"dan": [1]},
        items=(ITEMS, 1),
    )
    domain = TrainingData.of(dataset).domains[0]
    network, table = _network(), _network().table.double()
    terms = []
    for rows in ([5, 9, 2, 4], [7, 3], [3, 4, 5, 6, 7, 8]):  # cat's newest of 8: 5 read, 5 found
        states = network(torch.tensor([rows[:-1]]))[0].double()
        for state, wanted in zip(states, rows[1:], strict=True):
            scores = (table[1:] @ state).tolist()
            total = math.log(sum(math.exp(score) for score in scores))
            terms.append(total - scores[wanted - 1])

    draws = Draws(0, 0, torch.device("cpu"))
    loss = batch_loss(network, domain, np.array([0, 1, 2]), draws, settings=SETTINGS)

    assert len(terms) == 9
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_the_binary_loss_worked_by_hand() -> None:
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    states = torch.tensor([[1.0, 0.5], [-1.0, 2.0]])
    loss = binary_loss(states, torch.tensor([1, 2]), torch.tensor([3, 1]), table)
    # Scores: 1 against 3.5, and 4 against -1.
    chances = [1 / (1 + math.exp(-score)) for score in (1.0, 3.5, 4.0, -1.0)]
    terms = [math.log(chances[0]) + math.log(1 - chances[1])]
    terms += [math.log(chances[2]) + math.log(1 - chances[3])]
    assert loss.item() == pytest.approx(-sum(terms) / 2, rel=1e-6)


def test_a_drawn_negative_is_none_of_the_users_own_and_any_other_item_alike() -> None:
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]).repeat(2000, 1)
    drawn = unowned_rows(rows, 9, torch.Generator().manual_seed(3))
    assert drawn.shape == rows.shape
    for user, own in enumerate(({1, 2, 3}, {4, 5, 6, 7})):
        counts = np.bincount(drawn[user::2].flatten().numpy(), minlength=10)
        others = sorted(set(range(1, 10)) - own)
        assert counts.sum() == counts[others].sum()
        expected = counts.sum() / len(others)
        assert (abs(counts[others] - expected) < 5 * math.sqrt(expected)).all()


def test_who_has_every_item_still_gets_a_negative() -> None:
    drawn = unowned_rows(torch.tensor([[1, 2]]), 2, torch.Generator().manual_seed(3))
    assert set(drawn.flatten().tolist()) <= {1, 2}


def test_the_binary_loss_takes_the_step_that_stands_at_the_same_place() -> None:
    dataset = dataset_of({"ann": [5, 9, 2, 4, 1, 1]}, {"dan": [1]}, items=(ITEMS, 1))
    domain = TrainingData.of(dataset).domains[0]
    network, draws = _network(), Draws(0, 0, torch.device("cpu"))
    settings = SETTINGS.model_copy(update={"loss": "bce"})
    rows = torch.tensor([[5, 9, 2, 4]])
    draws.start_step(7)
    others = unowned_rows(rows, ITEMS, draws.torch)[0, 1:]
    states = network(rows[:, :-1])[0]
    expected = binary_loss(states, rows[0, 1:], others, network.table)

    draws.start_step(7)
    loss = batch_loss(network, domain, np.array([0]), draws, settings=settings)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
