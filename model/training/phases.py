"""Phases one and two of Algorithm 1: pre-training and adversarial training.

Shapes: B users, D width.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.data.training_data import TrainingDomain
from model.losses import generator_loss, shared_user_loss
from model.training.context import Context, Share
from model.training.critic import BETAS, CriticTraining
from model.training.descent import Descent
from model.training.phase import Figures, plans_of
from model.training.reconstruction import autoencode
from model.training.selection import Selection
from model.training.start import item_vectors, joint_item_vectors


class PreTraining:
    """Phase one: the autoencoder of each domain learns to reconstruct."""

    name = "pre-training"
    selection: Selection | None = None
    moves_gurs = True

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.pre_training
        self._draws = context.draws(phase)
        longest = context.settings.network.max_history
        self._plans = plans_of(context, self._settings.batch_users, phase, longest=longest)
        epoch = max(plan.steps_per_epoch for plan in self._plans)
        self.steps = self._settings.epochs * epoch
        self._descent = Descent(
            [context.networks.serving.gur_encoder, context.networks.reconstructors],
            betas=(0.9, 0.98),
            settings=context.settings,
            team=context.team,
        )

    def begin(self) -> None:
        """Place the items of each domain where the settings want them to start."""
        if self._settings.item_start == "random":
            return
        context = self._context
        width, data = context.settings.network.width, context.data
        self._draws.start_step(0)
        if self._settings.item_start == "joint":
            tables = joint_item_vectors(data, width, self._draws.numpy)
        else:
            first, second = data.domains
            tables = (
                item_vectors(first.training, first.items, width, self._draws.numpy),
                item_vectors(second.training, second.items, width, self._draws.numpy),
            )
        for domain, vectors in zip(data.domains, tables, strict=True):
            table = context.networks.serving.gur_encoder.embedding(domain.name).items.weight
            with torch.no_grad():
                table.copy_(torch.from_numpy(vectors))

    def step(self, step: int) -> Figures:
        """Reconstruct a batch of each domain."""
        context = self._context
        self._draws.start_step(step, context.networks)
        context.networks.train()
        figures = {}
        for domain, plan in zip(context.data.domains, self._plans, strict=True):
            negatives = self._draws.negatives(domain, self._settings.negatives)
            share = context.share(domain, plan.batch(step))
            _, loss = autoencode(context, domain, share, negatives)
            figures[f"reconstruction/{domain.name}"] = loss
        self._descent.step(torch.stack(list(figures.values())).sum(), self._rate(step))
        return figures

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the autoencoders' optimisers."""
        return self._descent.optimisers("autoencoder")

    def _rate(self, step: int) -> float:
        width, warmup = self._context.settings.network.width, self._settings.warmup_steps
        reached = step + 1
        schedule = width**-0.5 * min(reached**-0.5, reached * warmup**-1.5)
        return float(self._settings.learning_rate * schedule)


class Adversarial:
    """Phase two: the critic learns to tell the domains' GURs apart, the encoder to unite them."""

    name = "adversarial"
    selection: Selection | None = None
    moves_gurs = True

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.adversarial
        self._draws = context.draws(phase)
        self.steps = self._settings.steps
        self._critic = CriticTraining(context, self._draws)
        self._descent = Descent(
            [context.networks.serving.gur_encoder, context.networks.reconstructors],
            betas=BETAS,
            settings=context.settings,
            team=context.team,
            rate=self._settings.learning_rate,
        )

    def begin(self) -> None:
        """Nothing to prepare."""

    def step(self, step: int) -> Figures:
        """Train the critic for some steps, then encoder and decoders for one."""
        self._draws.start_step(step, self._context.networks)
        return {**self._critic_steps(), **self._generator_step()}

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the critic's and the generator's optimisers."""
        return {**self._critic.optimisers(), **self._descent.optimisers("generator")}

    def _critic_steps(self) -> dict[str, Tensor]:
        """Take all critic steps of an iteration; return the figures of the last.

        The encoder stands still meanwhile, so the batches of all steps are encoded at once: with
        the dropout of training, as those are that the encoder's step is judged by.
        """
        context, settings = self._context, self._settings
        context.networks.train()
        count = settings.critic_steps * settings.batch_users
        with torch.no_grad():
            first, second = (
                context.team.gather(context.gurs(domain, share.users), count).view(
                    settings.critic_steps, settings.batch_users, -1
                )
                for domain, share in self._shares(count)
            )
        self._critic.scale_by(first.flatten(0, 1), second.flatten(0, 1))
        figures: dict[str, Tensor] = {}
        for gurs in zip(first, second, strict=True):
            figures = self._critic.step(*gurs)
        return figures

    def _generator_step(self) -> dict[str, Tensor]:
        context, settings = self._context, self._settings
        gurs, shares, figures = [], [], {}
        for domain, share in self._shares(settings.batch_users):
            negatives = self._draws.negatives(domain, settings.negatives)
            encoded, loss = autoencode(context, domain, share, negatives)
            gurs.append(encoded)
            shares.append(share)
            figures[f"reconstruction/{domain.name}"] = loss
        with self._critic.fixed():
            total = generator_loss(
                torch.stack(list(figures.values())).sum(),
                self._critic.distance(gurs, shares),
                self._shared_users_loss(),
                adversarial_weight=settings.adversarial_weight,
                shared_weight=settings.shared_weight,
            )
            self._descent.step(total)
        return {**figures, "generator_loss": total}

    def _shared_users_loss(self) -> Tensor:
        context = self._context
        if not len(context.data.shared):
            return torch.zeros((), device=context.device)
        chosen = context.draw_shared(self._settings.batch_users, self._draws.numpy)
        first, second = (
            context.gurs(domain, chosen[:, place])
            for place, domain in enumerate(context.data.domains)
        )
        return context.team.shared_out(shared_user_loss(first, second))

    def _shares(self, count: int) -> Iterator[tuple[TrainingDomain, Share]]:
        """Draw a batch of each domain's users, and give this process' share of it."""
        for domain in self._context.data.domains:
            users = self._draws.numpy.integers(len(domain.training), size=count)
            yield domain, self._context.share(domain, users)
