"""The paper's losses against values worked by hand and slow numpy in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.losses import (
    Catalogue,
    bpr_loss,
    contrastive_loss,
    generator_loss,
    gradient_penalty,
    shared_user_loss,
    softmax_loss,
    wasserstein_distance,
)

ITEMS, WIDTH, POSITIONS = 11, 3, 5


@pytest.fixture
def table() -> Tensor:
    """Give item embeddings (V + 1, D); the padding row is huge, so that using it is seen."""
    drawn = np.random.default_rng(1).normal(size=(ITEMS + 1, WIDTH))
    drawn[0] = 50
    return torch.from_numpy(drawn)


@pytest.fixture
def states() -> Tensor:
    """Give states (P, D)."""
    return torch.from_numpy(np.random.default_rng(2).normal(size=(POSITIONS, WIDTH)))


TARGETS = torch.tensor([3, 11, 1, 3, 7])


def cross_entropy(own: float, others: NDArray[np.float64]) -> float:
    return float(np.log(np.exp(own) + np.exp(others).sum()) - own)


def test_the_full_softmax_by_hand() -> None:
    table = torch.tensor([[9.0], [0.0], [math.log(3)]])  # scores 0 and log 3: shares 1/4 and 3/4
    loss = softmax_loss(torch.ones(2, 1), torch.tensor([1, 2]), Catalogue.of(table))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_the_full_softmax_runs_over_all_items_but_padding(table: Tensor, states: Tensor) -> None:
    scores = states.numpy() @ table.numpy().T
    expected = [
        cross_entropy(row[target], np.delete(row, [0, target]))
        for row, target in zip(scores, TARGETS.tolist(), strict=True)
    ]
    assert softmax_loss(states, TARGETS, Catalogue.of(table)).item() == pytest.approx(
        np.mean(expected)
    )


def test_the_sampled_softmax_raises_negatives_and_leaves_out_the_own_target(
    table: Tensor, states: Tensor
) -> None:
    negatives = [3, 5, 5, 9]  # row 3 is the target of two positions, row 5 was drawn twice
    scores = states.numpy() @ table.numpy().T
    expected = []
    for row, target in zip(scores, TARGETS.tolist(), strict=True):
        others = [row[negative] for negative in negatives if negative != target]
        expected.append(cross_entropy(row[target], np.asarray(others) + math.log(ITEMS / 4)))
    loss = softmax_loss(states, TARGETS, Catalogue.of(table), torch.tensor(negatives))
    assert loss.item() == pytest.approx(np.mean(expected))


def test_the_sampled_softmax_over_all_items_is_the_full_one(table: Tensor, states: Tensor) -> None:
    everything = torch.arange(1, ITEMS + 1)
    full = softmax_loss(states, TARGETS, Catalogue.of(table))
    torch.testing.assert_close(softmax_loss(states, TARGETS, Catalogue.of(table), everything), full)


def test_the_sampled_softmax_comes_nearer_to_the_full_one_with_more_samples(
    table: Tensor, states: Tensor
) -> None:
    generator = torch.Generator().manual_seed(3)
    full = softmax_loss(states, TARGETS, Catalogue.of(table)).item()

    def error(samples: int) -> float:
        losses = [
            softmax_loss(
                states,
                TARGETS,
                Catalogue.of(table),
                torch.randint(1, ITEMS + 1, (samples,), generator=generator),
            ).item()
            for _ in range(200)
        ]
        return abs(float(np.mean(losses)) - full)

    assert error(20) < 0.05 * full
    assert error(2000) < 0.002 * full


def test_a_position_whose_target_is_every_negative_costs_nothing(table: Tensor) -> None:
    states = torch.zeros(1, WIDTH, dtype=torch.float64, requires_grad=True)
    loss = softmax_loss(states, torch.tensor([4]), Catalogue.of(table), torch.tensor([4, 4]))
    (slope,) = torch.autograd.grad(loss, states)
    assert loss.item() == 0
    assert slope.isfinite().all()


def test_the_recommendation_loss_by_hand() -> None:
    table = torch.tensor([[7.0], [1.0], [2.0], [-4.0]])
    # One position, q = 0.5, target row 2, N_s = {1, 3}: scores 1 and the mean of 0.5 and -2.
    loss = bpr_loss(
        torch.tensor([[0.5]]), torch.tensor([2]), Catalogue.of(table), torch.tensor([1, 3])
    )
    wanted, unwanted = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.75))
    assert loss.item() == pytest.approx(-math.log(wanted) - math.log(1 - unwanted))


def test_the_recommendation_loss_of_several_positions_is_their_mean(
    table: Tensor, states: Tensor
) -> None:
    negatives = [2, 6, 10, 6]
    scores = states.numpy() @ table.numpy().T
    expected = []
    for row, target in zip(scores, TARGETS.tolist(), strict=True):
        unwanted = np.mean([row[negative] for negative in negatives])
        expected.append(
            -np.log(1 / (1 + np.exp(-row[target]))) - np.log(1 - 1 / (1 + np.exp(-unwanted)))
        )
    loss = bpr_loss(states, TARGETS, Catalogue.of(table), torch.tensor(negatives))
    assert loss.item() == pytest.approx(np.mean(expected))


def test_the_recommendation_loss_of_extreme_scores_stays_finite() -> None:
    table = torch.tensor([[0.0], [1.0], [-1.0]])
    states = torch.tensor([[-1e4]], requires_grad=True)
    loss = bpr_loss(states, torch.tensor([1]), Catalogue.of(table), torch.tensor([2]))
    (slope,) = torch.autograd.grad(loss, states)
    assert loss.item() == pytest.approx(2e4)
    assert slope.item() == pytest.approx(-2)


def test_the_distance_is_how_much_higher_the_first_domain_scores() -> None:
    first, second = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.5, -1.5])
    assert wasserstein_distance(first, second).item() == 3.5


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0), (0.5, 0.25)])
def test_the_penalty_of_a_linear_critic_is_its_slopes_squared_distance_from_one(
    slope: float, expected: float
) -> None:
    direction = torch.tensor([0.6, 0.0, -0.8]) * slope  # of that length
    first, second = torch.full((8, 3), 2.0), torch.full((8, 3), -1.0)
    penalty = gradient_penalty(
        lambda gurs: gurs @ direction, first, second, torch.Generator().manual_seed(2)
    )
    assert penalty.item() == pytest.approx(expected, abs=1e-6)


def test_the_penalty_looks_between_the_domains_user_by_user() -> None:
    seen: list[Tensor] = []

    def critic(gurs: Tensor) -> Tensor:
        seen.append(gurs.detach())
        return gurs.square().sum(dim=1)

    first, second = torch.zeros(400, 2), torch.tensor([[1.0, 3.0]]).expand(400, 2)
    gradient_penalty(critic, first, second, torch.Generator().manual_seed(2))
    share = seen[0][:, 0]
    torch.testing.assert_close(seen[0], share.unsqueeze(1) * second)  # all on the line between
    assert 0 <= share.min() < 0.05
    assert 0.95 < share.max() <= 1
    assert len(set(share.tolist())) > 390


def test_the_penalty_trains_the_critic() -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    first, second = torch.zeros(5, 2), torch.ones(5, 2)
    penalty = gradient_penalty(
        lambda gurs: gurs @ weight, first, second, torch.Generator().manual_seed(1)
    )
    (slope,) = torch.autograd.grad(penalty, weight)
    # (|w| - 1)^2 has the slope 2 (|w| - 1) w / |w| = 8 (3, 4) / 5.
    assert slope.tolist() == pytest.approx([4.8, 6.4])


def test_the_penalty_draws_from_the_generator_it_is_given() -> None:
    def penalty(seed: int) -> float:
        first, second = torch.zeros(3, 2), torch.ones(3, 2)
        generator = torch.Generator().manual_seed(seed)
        return gradient_penalty(
            lambda gurs: gurs.square().sum(dim=1), first, second, generator
        ).item()

    before = torch.get_rng_state()
    assert penalty(1) == penalty(1) != penalty(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_penalty_names_the_shapes_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"^first \(2, 4\) and second \(3, 4\) differ$"):
        gradient_penalty(torch.sum, torch.zeros(2, 4), torch.zeros(3, 4), torch.Generator())


def test_the_shared_users_loss_is_the_mean_distance() -> None:
    first, second = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 3.0]])
    assert shared_user_loss(first, second).item() == pytest.approx((5 + 2) / 2)


def test_equal_representations_of_a_shared_user_have_a_finite_slope() -> None:
    first = torch.ones(2, 3, requires_grad=True)
    loss = shared_user_loss(first, torch.ones(2, 3))
    (slope,) = torch.autograd.grad(loss, first)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert slope.isfinite().all()


def test_no_shared_users_cost_nothing() -> None:
    assert shared_user_loss(torch.zeros(0, 3), torch.zeros(0, 3)).item() == 0


@pytest.mark.parametrize(
    ("adversarial", "shared", "expected"), [(1.0, 1.0, 16.0), (0.5, 1.0, 13.5), (1.0, 0.0, 7.0)]
)
def test_the_generator_minimises_reconstruction_distance_and_shared_users_loss(
    adversarial: float, shared: float, expected: float
) -> None:
    loss = generator_loss(
        torch.tensor(2.0),
        torch.tensor(5.0),
        torch.tensor(9.0),
        adversarial_weight=adversarial,
        shared_weight=shared,
    )
    assert loss.item() == expected


def test_the_weights_of_the_paper_are_one() -> None:
    assert generator_loss(torch.tensor(2.0), torch.tensor(5.0), torch.tensor(9.0)).item() == 16


def test_the_contrastive_loss_by_hand() -> None:
    first = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    second = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    # Squared distances 0 and 4 of the first, 4 and 8 of the second; divided by 2 D temperature = 2.
    loss = contrastive_loss(first, second, temperature=0.5)
    rows = [cross_entropy(0, np.array([-2.0])), cross_entropy(-4, np.array([-2.0]))]
    columns = [cross_entropy(0, np.array([-2.0])), cross_entropy(-4, np.array([-2.0]))]
    assert loss.item() == pytest.approx((np.mean(rows) + np.mean(columns)) / 2)


@pytest.mark.parametrize("users", [0, 1])
def test_the_contrastive_loss_of_nobody_else_is_nothing(users: int) -> None:
    first = torch.ones(users, 3, requires_grad=True)
    loss = contrastive_loss(first, torch.zeros(users, 3), temperature=0.1)
    (slope,) = torch.autograd.grad(loss, first)
    assert loss.item() == 0
    assert (slope == 0).all()


def test_items_that_stand_still_are_scored_alike_and_learn_nothing(
    table: Tensor, states: Tensor
) -> None:
    table.requires_grad_()
    items = Catalogue.of(table)
    moving = softmax_loss(states, TARGETS, items)
    still = softmax_loss(states.requires_grad_(), TARGETS, items.standing_still())
    assert still.item() == moving.item()
    slopes = torch.autograd.grad(still, [states, table], allow_unused=True)
    assert slopes[0].abs().sum() > 0
    assert slopes[1] is None
