"""Adam over everything, or over the rows that a step has looked up."""

import pytest
import torch

from model.networks.autoencoder import DomainEmbedding
from model.networks.settings import NetworkSettings
from model.training.descent import Descent
from model.training.parallel import Team
from model.training.settings import TrainSettings

ALONE = Team(torch.device("cpu"))
SIZE = NetworkSettings(width=4, heads=1, max_history=3, recent=3, dropout=0.0)
ROWS = torch.tensor([[2, 5], [0, 2]])


def _embedding() -> DomainEmbedding:
    torch.manual_seed(1)
    return DomainEmbedding(6, SIZE)


def _stepped(dense_items: int, *, steps: int = 1, row_rate: float = 1.0) -> DomainEmbedding:
    embedding = _embedding()
    settings = TrainSettings(dense_items=dense_items, row_rate=row_rate)
    descent = Descent([embedding], betas=(0.9, 0.98), settings=settings, team=ALONE)
    for step in range(steps):
        rows = ROWS if step == 0 else torch.tensor([[4]])
        descent.step(embedding.item_vectors(rows).square().sum(), 0.01)
    return embedding


def test_a_step_moves_the_rows_it_has_looked_up_alone() -> None:
    before, after = _embedding().items.weight, _stepped(5).items.weight
    moved = (before != after).any(dim=1)
    assert moved.tolist() == [False, False, True, False, False, True, False]


def test_the_first_step_is_that_of_plain_adam() -> None:
    torch.testing.assert_close(_stepped(5).items.weight, _stepped(6).items.weight)


def test_plain_adam_goes_on_moving_rows_by_their_momentum_and_rows_alone_wait() -> None:
    once, twice = _stepped(5).items.weight, _stepped(5, steps=2).items.weight
    assert torch.equal(once[2], twice[2])
    once, twice = _stepped(6).items.weight, _stepped(6, steps=2).items.weight
    assert not torch.equal(once[2], twice[2])


def test_rows_that_wait_learn_faster_by_a_factor() -> None:
    before = _embedding().items.weight
    plain, raised = (_stepped(5, row_rate=rate).items.weight for rate in (1.0, 3.0))
    torch.testing.assert_close(raised - before, 3 * (plain - before))


@pytest.mark.parametrize(("dense_items", "names"), [(5, ["dense", "rows"]), (6, ["dense"])])
def test_a_checkpoint_is_told_of_every_optimiser(dense_items: int, names: list[str]) -> None:
    settings = TrainSettings(dense_items=dense_items)
    descent = Descent([_embedding()], betas=(0.9, 0.98), settings=settings, team=ALONE)
    assert list(descent.optimisers("serving")) == [f"serving-{name}" for name in names]


def test_neighbours_that_an_item_is_scored_with_are_looked_up_too() -> None:
    stepped = []
    for dense_items in (5, 6):
        embedding = _embedding()
        neighbours = torch.tensor([[0], [0], [6], [0], [0], [0], [0]])
        embedding.mix_neighbours(neighbours, neighbours.gt(0) * 0.5)
        settings = TrainSettings(dense_items=dense_items, row_rate=1.0)
        descent = Descent([embedding], betas=(0.9, 0.98), settings=settings, team=ALONE)
        descent.step(embedding.item_vectors(ROWS).sum(), 0.01)
        stepped.append(embedding.items.weight)
    moved = (stepped[0] != _embedding().items.weight).any(dim=1)
    assert moved.tolist() == [False, False, True, False, False, True, True]
    torch.testing.assert_close(stepped[0], stepped[1])
