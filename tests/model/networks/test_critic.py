"""The critic against its layers written out."""

import numpy as np
import torch

from model.networks.critic import Critic


def test_the_papers_critic_has_four_connected_layers_of_128() -> None:
    critic = Critic(width=64, layers=4, hidden=128)
    shapes = [tuple(weight.shape) for weight in critic.parameters() if weight.ndim == 2]
    assert shapes == [(128, 64), (128, 128), (128, 128), (1, 128)]


def test_a_score_is_what_the_layers_say_one_after_the_other() -> None:
    critic = Critic(width=5, layers=3, hidden=7).double()
    gurs = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = gurs.numpy()
    weights = [weight.detach().numpy() for weight in critic.parameters()]
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        values = values @ weight.T + bias
        if len(weight) > 1:
            values = np.where(values > 0, values, 0.2 * values)
    scores = critic(gurs)
    assert scores.shape == (4,)
    np.testing.assert_allclose(scores.detach().numpy(), values[:, 0], rtol=1e-12)


def test_a_critic_of_one_layer_is_linear() -> None:
    critic = Critic(width=5, layers=1, hidden=7)
    assert [tuple(weight.shape) for weight in critic.parameters()] == [(1, 5), (1,)]
