"""Phase three of Algorithm 1: a domain's recommender learns what comes next.

The GURU is fixed here. A user's GUR is made from a prefix that ends before every item it helps to
predict: a cut is drawn, the items before it become the GUR, and only the steps from the cut on may
read it. Serving is the case where the cut lies after the last item.

Shapes: B users, T steps, M domains, D width, P real positions.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from model.data.batches import Places
from model.data.training_data import TrainingDomain
from model.losses import bpr_loss, softmax_loss
from model.training.context import Context
from model.training.draws import Draws
from model.training.phases import Figures, optimise, plans_of
from model.training.reconstruction import draw_negatives, start_step
from model.training.selection import Selection
from model.training.validation import validation_of

_ENCODED_TOGETHER = 512


class FineTuning:
    """Phase three for one domain."""

    def __init__(self, context: Context, phase: int, domain: TrainingDomain) -> None:
        self.name = f"fine-tuning/{domain.name}"
        self._context = context
        self._domain = domain
        self._settings = context.settings.fine_tuning
        self._draws = Draws(context.settings.seed, phase, context.device)
        self._recommender = context.networks.serving.recommender(domain.name)
        place = context.data.domains.index(domain)
        self._plan = plans_of(context, self._settings.batch_users, phase)[place]
        self.steps = self._settings.epochs * self._plan.steps_per_epoch
        # The paper names 0.9 for both; a second moment of ten steps is too short for rare items.
        self._optimiser = Adam(
            self._recommender.parameters(), lr=self._settings.learning_rate, betas=(0.9, 0.98)
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
        start_step(context, self._draws, step)
        context.networks.eval()
        self._recommender.train()
        self._optimiser.param_groups[0]["lr"] = settings.learning_rate * (1 - step / self.steps)
        users = self._plan.batch(step)
        rows = context.rows(self._domain, users)
        gurs, shown = self._memory(users, steps=rows.shape[1])
        with context.mixed_precision():
            states = self._recommender(rows[:, :-1], gurs, shown)  # (B, T, D)
        real = rows != 0
        loss = self._loss(states[real].float(), rows[real])
        optimise(self._optimiser, loss)
        return {"loss": loss}

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the one optimiser."""
        return {"recommender": self._optimiser}

    def _loss(self, states: Tensor, targets: Tensor) -> Tensor:
        table = self._recommender.embedding.items.weight
        negatives = draw_negatives(self._domain, self._settings.negatives, self._draws)
        if self._settings.loss == "softmax":
            return softmax_loss(states, targets, table, negatives)
        if negatives is None:
            negatives = torch.arange(1, len(table), device=table.device)
        return bpr_loss(states, targets, table, negatives)

    def _memory(self, users: Places, *, steps: int) -> tuple[Tensor, Tensor]:
        """Give the GURs of a batch, own and other, (B, 2, D), and who may read them, (B, T, 2)."""
        lengths = self._domain.training.lengths[users]
        cuts = self._draws.numpy.integers(1, np.maximum(lengths, 2))  # (B,): rows before the cut
        others = self._domain.other[users]
        hidden = self._draws.numpy.random(len(users)) < self._settings.hide_other
        read = np.arange(steps) + (lengths - steps)[:, None]  # (B, T): rows a step has read
        shown = np.stack(
            [
                read >= cuts[:, None],
                np.broadcast_to(((others >= 0) & ~hidden)[:, None], read.shape),
            ],
            axis=2,
        )
        context = self._context
        with torch.no_grad():
            own = context.gurs(self._domain, users, counts=np.minimum(cuts, lengths))
        other = self._gurs_of_other()[context.on_device(self._shared_place[users])]
        return torch.stack([own, other], dim=1), context.on_device(shown)

    def _gurs_of_other(self) -> Tensor:
        """Encode the shared users' other histories, once: the GURU is fixed -> (S + 1, D)."""
        if self._other_gurs is None:
            context, other = self._context, self._context.data.other_than(self._domain)
            users = self._domain.other[self._domain.other >= 0]
            parts = [torch.zeros(1, context.settings.network.width, device=context.device)]
            with torch.no_grad():
                parts += [
                    context.gurs(other, users[i : i + _ENCODED_TOGETHER])
                    for i in range(0, len(users), _ENCODED_TOGETHER)
                ]
            self._other_gurs = torch.cat(parts)
        return self._other_gurs
