"""Phase three beyond the paper: both recommenders and the encoder learn together, end to end.

What a recommender can use of a GUR reaches the encoder as a gradient, and with it a shared user's
other domain: the GUR there must help to predict what the user does here. A second task asks what
the paper's model is never asked: shared users with nothing known in the target domain, answered
from the GUR of the other one alone. The terms of equation 13 that make the domains one stay on,
or what this phase learns would undo what the second one did.

Shapes: B users, T steps, D width, S shared users of a step.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.arrays import Places
from model.data.training_data import TrainingDomain
from model.losses import contrastive_loss, shared_user_loss, softmax_loss
from model.training.context import Context, Share, at_places
from model.training.critic import CriticTraining
from model.training.descent import Descent
from model.training.memory import Views, draw_views
from model.training.phase import Figures, plans_of
from model.training.reconstruction import autoencode
from model.training.selection import Selection
from model.training.start import item_vectors
from model.training.validation import validation_of


class JointFineTuning:
    """Phase three for both domains at once."""

    name = "fine-tuning"
    moves_gurs = True

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.fine_tuning
        self._draws = context.draws(phase)
        longest = context.settings.network.stretch
        self._plans = plans_of(context, self._settings.batch_users, phase, longest=longest)
        epoch = max(plan.steps_per_epoch for plan in self._plans)
        self.steps = self._settings.epochs * epoch
        if self.steps:
            self.steps = max(self.steps, self._settings.least_steps)
        self._networks = context.networks.serving
        learning: list[nn.Module] = [self._networks]
        if self._settings.reconstruction_weight:
            learning.append(context.networks.reconstructors)
        self._descent = Descent(
            learning,
            betas=(0.9, self._settings.beta_2),
            settings=context.settings,
            team=context.team,
        )
        self._critic = CriticTraining(context, self._draws)
        self.selection: Selection | None = Selection(
            self._networks,
            validation_of(context, *(domain.name for domain in context.data.domains)),
            interval=max(epoch, self._settings.validation_steps),
            patience=self._settings.patience,
        )

    def begin(self) -> None:
        """Start each recommender from what the autoencoder learned of its domain.

        Where the items start in a space of both domains, the encoder needs that; a recommender has
        more room for its own items in a space of their own.
        """
        networks, width = self._context.networks, self._context.settings.network.width
        self._draws.start_step(0)
        for domain in self._context.data.domains:
            recommender = self._networks.recommender(domain.name)
            embedding = self._networks.gur_encoder.embedding(domain.name)
            decoder = networks.reconstructor(domain.name).decoder
            recommender.embedding.load_state_dict(embedding.state_dict())
            recommender.decoder.load_state_dict(decoder.state_dict())
            if self._settings.item_start == "neighbours":
                vectors = item_vectors(domain.training, domain.items, width, self._draws.numpy)
                with torch.no_grad():
                    recommender.embedding.items.weight.copy_(torch.from_numpy(vectors))

    def step(self, step: int) -> Figures:
        """Predict each item of a batch of users of each domain from what came before it."""
        context, settings = self._context, self._settings
        self._draws.start_step(step, context.networks)
        context.networks.train()
        figures: dict[str, Tensor] = {}
        negatives = []
        for domain, plan in zip(context.data.domains, self._plans, strict=True):
            negatives.append(self._draws.negatives(domain, settings.negatives))
            loss = self._next_item_loss(domain, plan.batch(step), negatives[-1])
            figures[f"loss/{domain.name}"] = loss
        losses = list(figures.values())
        for name, weight, loss in (
            *self._reconstruction_losses(step, negatives),
            *self._shared_losses(negatives),
        ):
            figures[name] = loss
            losses.append(weight * loss)
        if settings.adversarial_weight:
            distance, seen = self._distance()
            # The weight rises from nothing: at once it would make all GURs alike, before they hold
            # anything that the other losses defend.
            losses.append(settings.adversarial_weight * (step + 1) / self.steps * distance)
            figures |= seen
        self._descent.step(torch.stack(losses).sum(), self._rate(step))
        return figures

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the optimisers of what serves, and of the critic."""
        return {**self._descent.optimisers("serving"), **self._critic.optimisers()}

    def _rate(self, step: int) -> float:
        return self._settings.learning_rate * (1 - step / self.steps)

    def _distance(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Let the critic learn, then say how far apart the domains are, and its figures.

        The users are drawn for it: those of a batch are of like length, and the critic would tell
        short from long.
        """
        context, settings = self._context, self._context.settings.adversarial
        gurs, shares, whole = [], [], []
        for domain in context.data.domains:
            users = self._draws.numpy.integers(len(domain.training), size=settings.batch_users)
            shares.append(context.share(domain, users))
            gurs.append(context.gurs(domain, shares[-1].users))
            whole.append(context.team.gather(gurs[-1], len(users)))
        self._critic.scale_by(*whole)
        figures: dict[str, Tensor] = {}
        for _ in range(settings.critic_steps):
            figures = self._critic.step(*whole)
        with self._critic.fixed():
            return self._critic.distance(gurs, shares), figures

    def _next_item_loss(
        self, domain: TrainingDomain, users: Places, negatives: Tensor | None
    ) -> Tensor:
        """Return the loss of this process' share of a batch, a scalar.

        What is drawn is drawn for all users of the batch, so that every process draws the same.
        """
        context, size = self._context, self._context.settings.network
        share = context.share(domain, users, longest=size.stretch)
        views = draw_views(
            domain,
            users,
            size=size,
            hide_other=self._settings.hide_other,
            generator=self._draws.numpy,
        )
        memory = self._memory(domain, share, views)
        views = views.of(share.places)
        rows, real = context.rows_and_places(
            domain, share.users, counts=views.ends, longest=size.stretch
        )
        recommender = self._networks.recommender(domain.name)
        shown = context.on_device(views.shown(rows.shape[1]))
        with context.mixed_precision():
            states = recommender(rows[:, :-1], memory, shown)  # (B, T, D)
        states = context.sharpened(at_places(states, real))
        items = context.catalogue(recommender.embedding)
        loss = softmax_loss(states, at_places(rows, real), items, negatives)
        return share.of_position_mean(loss)

    def _memory(self, domain: TrainingDomain, share: Share, views: Views) -> Tensor:
        """Encode the GURs that the recommender reads of this process' users -> (B, 2, D).

        The other one is made from a beginning of its own, drawn anew: a GUR that stays the same is
        the user's name, by which the recommender learns by heart what the user has.

        Args:
            domain: The domain that is learned.
            share: Of a batch.
            views: Of all users of the batch.
        """
        context, network = self._context, self._context.settings.network
        abroad = context.data.other_than(domain)
        beginnings = self._draw_beginnings(abroad, views.partners)
        nothing = torch.zeros(len(share.users), network.width, device=context.device)
        own = other = nothing
        if network.reads_own:
            own = context.gurs(domain, share.users, counts=views.counts[share.places])
        reading = views.read_other(network.memory)
        if reading.any():
            known = np.flatnonzero(reading[share.places])
            # All processes encode somebody where one does, or they train different weights.
            places = known + share.places.start if len(known) else np.flatnonzero(reading)[:1]
            gurs = context.gurs(abroad, views.partners[places], counts=beginnings[places])
            rows = context.on_device(known if len(known) else np.zeros(1, np.int64))
            other = nothing.index_put((rows,), gurs * min(len(known), 1))
        return torch.stack([own, other], dim=1)

    def _reconstruction_losses(
        self, step: int, negatives: list[Tensor | None]
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Give the name, weight and share of the loss of rebuilding each domain's batch."""
        context, weight = self._context, self._settings.reconstruction_weight
        if not weight:
            return
        for place, domain in enumerate(context.data.domains):
            share = context.share(domain, self._plans[place].batch(step))
            _, loss = autoencode(context, domain, share, negatives[place])
            yield f"reconstruction/{domain.name}", weight, loss

    def _shared_losses(self, negatives: list[Tensor | None]) -> list[tuple[str, float, Tensor]]:
        """Give the name, weight and share of each loss of some shared users.

        They are few: every process computes all of them. A beginning of their rows is drawn anew,
        since they come again and again.
        """
        context, settings = self._context, self._settings
        if not len(context.data.shared) or not (settings.shared_weight or settings.cold_weight):
            return []
        chosen = context.draw_shared(settings.shared_users, self._draws.numpy)  # (S, 2)
        first, second = (
            context.gurs(domain, users, counts=self._draw_beginnings(domain, users))
            for domain, users in zip(context.data.domains, chosen.T, strict=True)
        )
        losses = []
        if settings.cold_weight:
            for place, other in enumerate((second, first)):
                loss = self._cold_loss(place, chosen[:, place], other, negatives[place])
                name = f"cold/{context.data.domains[place].name}"
                losses.append((name, settings.cold_weight, context.team.shared_out(loss)))
        if settings.shared_weight:
            if settings.shared_loss == "l2":
                loss = shared_user_loss(first, second)
            else:
                temperature = settings.contrast_temperature
                loss = contrastive_loss(first, second, temperature=temperature)
            losses.append(("shared", settings.shared_weight, context.team.shared_out(loss)))
        return losses

    def _draw_beginnings(self, domain: TrainingDomain, users: Places) -> Places:
        """Draw how many of each user's rows to know, at least one where there is any, (B,)."""
        lengths = domain.training.lengths[users]
        counts = self._draws.numpy.integers(1, np.maximum(lengths, 1), endpoint=True)
        return np.minimum(counts, lengths)

    def _cold_loss(
        self, place: int, users: Places, other: Tensor, negatives: Tensor | None
    ) -> Tensor:
        """Predict rows of shared users, `cold_rows`, from the GURs of their other domain, (S, D).

        Nothing of the domain itself is shown.

        Item embeddings stand still here: the few users who are asked again and again would draw
        the items of their own near each other, at everyone else's cost.
        """
        context = self._context
        domain = context.data.domains[place]
        longest = self._settings.cold_rows or None
        rows, real = context.rows_and_places(domain, users, longest=longest)  # (S, T), (P,)
        memory = torch.stack([torch.zeros_like(other), other], dim=1)
        shown = context.on_device(np.array([False, True])).expand(len(users), 1, 2)
        recommender = self._networks.recommender(domain.name)
        with context.mixed_precision():
            states = recommender(rows[:, :0], memory, shown)  # (S, 1, D)
        states = states.squeeze(1).index_select(0, real // rows.shape[1])  # (P, D)
        items = context.catalogue(recommender.embedding).standing_still()
        targets = at_places(rows, real)
        return softmax_loss(context.sharpened(states), targets, items, negatives)
