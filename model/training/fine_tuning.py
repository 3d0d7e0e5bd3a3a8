"""Phase three of Algorithm 1: a domain's recommender learns what comes next.

The GURU is fixed here; `model.training.joint` is where it learns on.

Shapes: B users, T steps, D width, P real positions, S shared users.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from model.arrays import Places
from model.data.training_data import TrainingDomain
from model.losses import bpr_loss, softmax_loss
from model.training.context import Context, at_places
from model.training.descent import Descent
from model.training.memory import Views, draw_views
from model.training.phase import Figures, plans_of
from model.training.selection import Selection
from model.training.validation import validation_of


class FineTuning:
    """Phase three for one domain."""

    moves_gurs = False

    def __init__(self, context: Context, phase: int, domain: TrainingDomain) -> None:
        self.name = f"fine-tuning/{domain.name}"
        self._context = context
        self._domain = domain
        self._settings = context.settings.fine_tuning
        self._draws = context.draws(phase)
        self._recommender = context.networks.serving.recommender(domain.name)
        place = context.data.domains.index(domain)
        longest = context.settings.network.stretch
        self._plan = plans_of(context, self._settings.batch_users, phase, longest=longest)[place]
        self.steps = self._settings.epochs * self._plan.steps_per_epoch
        self._descent = Descent(
            [self._recommender],
            betas=(0.9, self._settings.beta_2),
            settings=context.settings,
            team=context.team,
        )
        self.selection: Selection | None = Selection(
            self._recommender,
            validation_of(context, domain.name),
            interval=max(self._plan.steps_per_epoch, self._settings.validation_steps),
            patience=self._settings.patience,
        )
        is_shared = domain.other >= 0
        self._shared_place = np.where(is_shared, np.cumsum(is_shared), 0)  # (U,): 0 for the rest
        self._other_gurs: Tensor | None = None

    def begin(self) -> None:
        """Start the recommender from what the autoencoder learned of the domain."""
        networks = self._context.networks
        embedding = networks.serving.gur_encoder.embedding(self._domain.name)
        reconstructor = networks.reconstructor(self._domain.name)
        self._recommender.embedding.load_state_dict(embedding.state_dict())
        self._recommender.decoder.load_state_dict(reconstructor.decoder.state_dict())

    def step(self, step: int) -> Figures:
        """Predict each item of a batch of users from what came before it."""
        context, settings = self._context, self._settings
        self._draws.start_step(step, context.networks)
        context.networks.eval()
        self._recommender.train()
        users = self._plan.batch(step)
        size = context.settings.network
        share = context.share(self._domain, users, longest=size.stretch)
        views = draw_views(
            self._domain,
            users,
            size=size,
            hide_other=settings.hide_other,
            generator=self._draws.numpy,
        ).of(share.places)
        rows, real = context.rows_and_places(
            self._domain, share.users, counts=views.ends, longest=size.stretch
        )
        gurs, shown = self._gurs(share.users, views), context.on_device(views.shown(rows.shape[1]))
        with context.mixed_precision():
            states = self._recommender(rows[:, :-1], gurs, shown)  # (B, T, D)
        states = context.sharpened(at_places(states, real))
        loss = share.of_position_mean(self._loss(states, at_places(rows, real)))
        self._descent.step(loss, settings.learning_rate * (1 - step / self.steps))
        return {"loss": loss}

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the recommender's optimisers."""
        return self._descent.optimisers("recommender")

    def _loss(self, states: Tensor, targets: Tensor) -> Tensor:
        items = self._context.catalogue(self._recommender.embedding)
        negatives = self._draws.negatives(self._domain, self._settings.negatives)
        loss = softmax_loss if self._settings.loss == "softmax" else bpr_loss
        return loss(states, targets, items, negatives)

    def _gurs(self, users: Places, views: Views) -> Tensor:
        """Give the GURs of users, own and other, (B, 2, D)."""
        with torch.no_grad():
            own = self._context.gurs(self._domain, users, counts=views.counts)
        other = self._gurs_of_other()[self._context.on_device(self._shared_place[users])]
        return torch.stack([own, other], dim=1)

    def _gurs_of_other(self) -> Tensor:
        """Encode the shared users' other histories, once: the GURU is fixed -> (S + 1, D)."""
        if self._other_gurs is None:
            context, other = self._context, self._context.data.other_than(self._domain)
            users = self._domain.other[self._domain.other >= 0]
            gurs = context.gurs_of_many(other, users)
            self._other_gurs = torch.cat([gurs.new_zeros(1, gurs.shape[1]), gurs])
        return self._other_gurs
