"""Phases one and two of Algorithm 1: pre-training and adversarial training.

Shapes: B users, D width.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from model.data.batches import Places
from model.data.training_data import TrainingDomain
from model.losses import (
    generator_loss,
    gradient_penalty,
    shared_user_loss,
    wasserstein_distance,
)
from model.training.context import Context
from model.training.draws import BatchPlan, Draws
from model.training.reconstruction import autoencode, draw_negatives, start_step
from model.training.selection import Selection
from model.training.start import item_vectors

Figures = Mapping[str, Tensor]
"""Scalars of one step, on the device, by name."""


class Phase(Protocol):
    """A part of training that goes step by step and can be put down between any two."""

    name: str
    steps: int
    """How many steps it has at most."""
    selection: Selection | None
    """Early stopping, where the phase has any."""

    def begin(self) -> None:
        """Do what comes once before the first step."""

    def step(self, step: int) -> Figures:
        """Train one step; the same step of the same training draws the same."""

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the optimisers by name; a checkpoint holds their state."""


class PreTraining:
    """Phase one: the autoencoder of each domain learns to reconstruct."""

    name = "pre-training"
    selection: Selection | None = None

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.pre_training
        self._draws = Draws(context.settings.seed, phase, context.device)
        self._plans = plans_of(context, self._settings.batch_users, phase)
        epoch = max(plan.steps_per_epoch for plan in self._plans)
        self.steps = self._settings.epochs * epoch
        self._optimiser = Adam(
            autoencoder_parameters(context), lr=self._rate(0), betas=(0.9, 0.98), eps=1e-8
        )

    def begin(self) -> None:
        """Place the items of each domain where the settings want them to start."""
        if self._settings.item_start == "random":
            return
        context = self._context
        self._draws.start_step(0)
        for domain in context.data.domains:
            table = context.networks.serving.gur_encoder.embedding(domain.name).items.weight
            width = context.settings.network.width
            vectors = item_vectors(domain.training, domain.items, width, self._draws.numpy)
            with torch.no_grad():
                table.copy_(torch.from_numpy(vectors))

    def step(self, step: int) -> Figures:
        """Reconstruct a batch of each domain."""
        context = self._context
        start_step(context, self._draws, step)
        context.networks.train()
        self._optimiser.param_groups[0]["lr"] = self._rate(step)
        figures = {}
        for domain, plan in zip(context.data.domains, self._plans, strict=True):
            negatives = draw_negatives(domain, self._settings.negatives, self._draws)
            _, loss = autoencode(context, domain, plan.batch(step), negatives)
            figures[f"reconstruction/{domain.name}"] = loss
        optimise(self._optimiser, torch.stack(list(figures.values())).sum())
        return figures

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the one optimiser."""
        return {"autoencoder": self._optimiser}

    def _rate(self, step: int) -> float:
        width, warmup = self._context.settings.network.width, self._settings.warmup_steps
        reached = step + 1
        schedule = width**-0.5 * min(reached**-0.5, reached * warmup**-1.5)
        return float(self._settings.learning_rate * schedule)


class Adversarial:
    """Phase two: the critic learns to tell the domains' GURs apart, the encoder to unite them."""

    name = "adversarial"
    selection: Selection | None = None

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.adversarial
        self._draws = Draws(context.settings.seed, phase, context.device)
        self.steps = self._settings.steps
        rate, betas = self._settings.learning_rate, (0.5, 0.9)  # section 6.1.3
        critic = context.networks.critic.parameters()
        self._critic_optimiser = Adam(critic, lr=rate, betas=betas, eps=1e-8)
        generator = autoencoder_parameters(context)
        self._generator_optimiser = Adam(generator, lr=rate, betas=betas, eps=1e-8)

    def begin(self) -> None:
        """Nothing to prepare."""

    def step(self, step: int) -> Figures:
        """Train the critic for some steps, then encoder and decoders for one."""
        start_step(self._context, self._draws, step)
        return {**self._critic_steps(), **self._generator_step()}

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the critic's and the generator's optimiser."""
        return {"critic": self._critic_optimiser, "generator": self._generator_optimiser}

    def _critic_steps(self) -> dict[str, Tensor]:
        """Take all critic steps of an iteration; return the figures of the last.

        The encoder stands still meanwhile, so the batches of all steps are encoded at once.
        """
        context, settings = self._context, self._settings
        context.networks.eval()
        count = settings.critic_steps * settings.batch_users
        with torch.no_grad():
            first, second = (
                context.gurs(domain, self._sample(domain, count)).view(
                    settings.critic_steps, settings.batch_users, -1
                )
                for domain in context.data.domains
            )
        figures: dict[str, Tensor] = {}
        for gurs in zip(first, second, strict=True):
            figures = self._critic_step(*gurs)
        return figures

    def _critic_step(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        critic = self._context.networks.critic
        distance = wasserstein_distance(critic(first), critic(second))
        penalty = gradient_penalty(critic, first, second, self._draws.torch)
        loss = self._settings.penalty_weight * penalty - distance
        optimise(self._critic_optimiser, loss)
        return {"critic_loss": loss, "wasserstein": distance, "gradient_penalty": penalty}

    def _generator_step(self) -> dict[str, Tensor]:
        context, settings = self._context, self._settings
        context.networks.train()
        gurs, figures = [], {}
        for domain in context.data.domains:
            negatives = draw_negatives(domain, settings.negatives, self._draws)
            users = self._sample(domain, settings.batch_users)
            encoded, loss = autoencode(context, domain, users, negatives)
            gurs.append(encoded)
            figures[f"reconstruction/{domain.name}"] = loss
        critic = context.networks.critic
        critic.requires_grad_(requires_grad=False)  # its parameters are fixed here, Algorithm 1
        total = generator_loss(
            torch.stack(list(figures.values())).sum(),
            wasserstein_distance(critic(gurs[0]), critic(gurs[1])),
            self._shared_users_loss(),
            adversarial_weight=settings.adversarial_weight,
            shared_weight=settings.shared_weight,
        )
        optimise(self._generator_optimiser, total)
        critic.requires_grad_(requires_grad=True)
        return {**figures, "generator_loss": total}

    def _shared_users_loss(self) -> Tensor:
        context, shared = self._context, self._context.data.shared
        if not len(shared):
            return torch.zeros((), device=context.device)
        count = min(self._settings.batch_users, len(shared))
        chosen = shared[self._draws.numpy.choice(len(shared), count, replace=False)]
        first, second = (
            context.gurs(domain, chosen[:, place])
            for place, domain in enumerate(context.data.domains)
        )
        return shared_user_loss(first, second)

    def _sample(self, domain: TrainingDomain, count: int) -> Places:
        return self._draws.numpy.integers(len(domain.training), size=count)


def plans_of(context: Context, batch_users: int, phase: int) -> list[BatchPlan]:
    """Plan the batches of each domain; an epoch of one domain does not wait for the other's."""
    longest = context.settings.network.max_history
    return [
        BatchPlan(
            np.minimum(domain.training.lengths, longest),
            batch_users,
            (context.settings.seed, phase, place),
        )
        for place, domain in enumerate(context.data.domains)
    ]


def autoencoder_parameters(context: Context) -> list[torch.nn.Parameter]:
    """Return what reconstruction trains: embeddings, shared encoder, decoders."""
    networks = context.networks
    modules = [networks.serving.gur_encoder, networks.reconstructors]
    return [parameter for module in modules for parameter in module.parameters()]


def optimise(optimiser: Optimizer, loss: Tensor) -> None:
    """Take one step down a loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimiser.step()
