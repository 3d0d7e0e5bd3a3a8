"""How a sequence model of one domain learns: batches of users, early stopping, best weights kept.

Shapes: B users, T steps, V items of a domain, P positions.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

from model.arrays import Places
from model.baselines.sequential import (
    SequenceNetwork,
    SequenceSettings,
    SequenceSystem,
    blank_network,
)
from model.data.popularity import item_shares
from model.data.training_data import TrainingData, TrainingDomain
from model.evaluation.validation import Validation
from model.networks.system import initialise
from model.training.descent import optimise
from model.training.draws import BatchPlan, Draws
from model.training.health import check_weights
from model.training.selection import Selection
from model.training.start import item_vectors

SHORTEST = 2
"""Least training rows of a user to learn from: one to read, one to find."""

BatchLoss = Callable[[SequenceNetwork, TrainingDomain, Places, Draws], Tensor]
"""What a network has to lower for users of a domain, (B,) -> a scalar."""


def fit_system(
    data: TrainingData, settings: SequenceSettings, loss: BatchLoss, *, causal: bool, seed: int
) -> SequenceSystem:
    """Let a network of each domain learn by itself.

    Args:
        data: What may be learned from.
        settings: How to learn.
        loss: Of a batch.
        causal: As in `SequenceNetwork`.
        seed: Every draw follows from it.

    Raises:
        TrainingError: If weights are no longer finite.
    """
    networks = {
        domain.name: _fitted(data, place, settings, loss, causal=causal, seed=seed)
        for place, domain in enumerate(data.domains)
    }
    return SequenceSystem(networks, max_history=settings.max_history)


def learning_rate(settings: SequenceSettings, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of so many."""
    return settings.learning_rate * (1 - step / steps if settings.decay else 1)


def _fitted(
    data: TrainingData,
    place: int,
    settings: SequenceSettings,
    loss: BatchLoss,
    *,
    causal: bool,
    seed: int,
) -> SequenceNetwork:
    domain = data.domains[place]
    draws = Draws(seed, place, torch.device("cpu"))
    network = blank_network(domain.items, settings, causal=causal)
    _start(network, domain, settings, draws)
    users = np.flatnonzero(domain.training.lengths >= SHORTEST)
    if not len(users):
        return network.eval()
    lengths = np.minimum(domain.training.lengths[users], settings.max_history)
    plan = BatchPlan(lengths, settings.batch_users, (seed, place))
    selection = Selection(
        network,
        _validation(network, data, domain, settings),
        interval=max(plan.steps_per_epoch, settings.validation_steps),
        patience=settings.patience,
    )
    optimiser = Adam(network.parameters(), betas=(0.9, 0.98), fused=True)
    steps = settings.epochs * plan.steps_per_epoch
    if steps:
        steps = max(steps, settings.least_steps)
    for step in range(steps):
        draws.start_step(step, network)
        optimiser.param_groups[0]["lr"] = learning_rate(settings, step, steps)
        optimise(optimiser, loss(network.train(), domain, users[plan.batch(step)], draws))
        if selection.is_due(step + 1) or step + 1 == steps:
            check_weights(network)
            selection.look()
        if selection.is_over:
            break
    selection.finish()
    return network.eval()


def _start(
    network: SequenceNetwork, domain: TrainingDomain, settings: SequenceSettings, draws: Draws
) -> None:
    draws.start_step(0)
    initialise(network, draws.torch)
    network.popularity.copy_(torch.from_numpy(item_shares(domain.training, domain.items)))
    if settings.item_start == "neighbours":
        vectors = item_vectors(domain.training, domain.items, settings.width, draws.numpy)
        with torch.no_grad():
            network.table.copy_(torch.from_numpy(vectors))


def _validation(
    network: SequenceNetwork, data: TrainingData, domain: TrainingDomain, settings: SequenceSettings
) -> Callable[[], float] | None:
    system = SequenceSystem({domain.name: network}, max_history=settings.max_history)
    validation = Validation(data, domain.name)

    def figure() -> float:
        network.eval()
        return validation.ndcg_at_10(system)

    return figure if len(validation) else None
