"""The critic judges GURs by how much they spread."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from model.errors import TrainingError
from model.training.context import Context
from model.training.critic import SHRINKAGE, CriticTraining, whitening


def spread() -> torch.Tensor:
    """Give 4,000 vectors that spread 10, 1 and 0.1 along three turned axes, about (1, 2, 3)."""
    generator = torch.Generator().manual_seed(3)
    turned: torch.Tensor = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    drawn = torch.randn(4000, 3, generator=generator) * torch.tensor([10.0, 1.0, 0.1])
    return drawn @ turned.T + torch.tensor([1.0, 2.0, 3.0])


def test_whitened_gurs_have_the_moments_of_the_definition() -> None:
    gurs = spread()
    mean, matrix = whitening(gurs)
    covariance = torch.cov(gurs.T, correction=0)
    shrunk = covariance + SHRINKAGE * covariance.trace() / 3 * torch.eye(3)
    assert_close(mean, gurs.mean(dim=0))
    assert_close(matrix @ shrunk @ matrix, torch.eye(3), atol=1e-4, rtol=1e-4)
    assert_close(matrix, matrix.T)


def test_gurs_that_are_all_alike_are_no_failure() -> None:
    mean, matrix = whitening(torch.full((5, 3), 7.0))
    assert torch.isfinite(matrix).all()
    assert_close((torch.full((5, 3), 7.0) - mean) @ matrix, torch.zeros(5, 3))


def test_gurs_that_are_no_numbers_say_what_to_change() -> None:
    with pytest.raises(TrainingError, match="GURs are no longer finite; lower the learning rate"):
        whitening(torch.full((5, 3), float("nan")))


@pytest.mark.parametrize(("whitened", "sees"), [(False, False), (True, True)])
def test_whitened_it_sees_domains_apart_where_gurs_hardly_spread(
    context: Context, whitened: bool, sees: bool
) -> None:
    generator = torch.Generator().manual_seed(4)
    first, second = (torch.randn(2, 400, 16, generator=generator) * 3).unbind()
    first[:, 0] = first[:, 0].abs() * 0.01  # a sign tells the domains apart, in one number of 16
    second[:, 0] = second[:, 0].abs() * -0.01
    first[:, 1:] *= 0.01
    second[:, 1:] *= 0.01
    able = context.settings.adversarial.model_copy(
        update={"whitened": whitened, "critic_rate": 1e-3}
    )
    settings = context.settings.model_copy(update={"adversarial": able})
    training = CriticTraining(dataclasses.replace(context, settings=settings), context.draws(1))
    training.scale_by(first, second)
    figures: dict[str, torch.Tensor] = {}
    for _ in range(200):
        figures = training.step(first, second)
    assert (float(figures["wasserstein"].detach()) > 0.5) is sees


def test_gurs_are_whitened_by_both_domains_together(context: Context) -> None:
    """By one of them alone, what sets the other apart would be blown up or drowned."""
    first = torch.randn(60, 16, generator=torch.Generator().manual_seed(4))
    second = first.flip(dims=(1,)) * torch.linspace(0.1, 3, 16) + 2
    able = context.settings.adversarial.model_copy(update={"whitened": True})
    settings = context.settings.model_copy(update={"adversarial": able})
    training = CriticTraining(dataclasses.replace(context, settings=settings), context.draws(1))
    training.scale_by(first, second)

    shares = [context.share(domain, np.arange(60)) for domain in context.data.domains]
    found = training.distance([first, second], shares)

    both = torch.cat([first, second])
    covariance = torch.cov(both.T, correction=0)
    shrunk = covariance + SHRINKAGE * covariance.trace() / 16 * torch.eye(16)
    lengths, turns = torch.linalg.eigh(shrunk)
    matrix = turns @ torch.diag(lengths**-0.5) @ turns.T
    judged = context.networks.critic((both - both.mean(dim=0)) @ matrix)
    assert_close(found, judged[:60].mean() - judged[60:].mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0, 10.0])
def test_the_critic_lowers_the_weighted_penalty_less_the_distance(
    context: Context, weight: float
) -> None:
    generator = torch.Generator().manual_seed(4)
    first, second = torch.randn(2, 50, 16, generator=generator).unbind()
    able = context.settings.adversarial.model_copy(update={"penalty_weight": weight})
    settings = context.settings.model_copy(update={"adversarial": able})
    training = CriticTraining(dataclasses.replace(context, settings=settings), context.draws(1))
    training.scale_by(first, second)

    figures = {name: float(value.detach()) for name, value in training.step(first, second).items()}

    assert figures["gradient_penalty"] > 0
    assert figures["critic_loss"] == pytest.approx(
        weight * figures["gradient_penalty"] - figures["wasserstein"], rel=1e-5
    )
