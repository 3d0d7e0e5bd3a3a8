"""Where randomness comes from: a pure function of seed, phase and step.

A step that is repeated after a resume draws what it drew the first time, so a checkpoint needs to
hold no more of the generators than the number of the step.

Shapes: U users of a domain, B users in a batch, N negatives, V items of a domain.
"""

import numpy as np
import torch
from torch import Tensor, nn

from model.arrays import Places
from model.data.batches import shuffled_batches
from model.data.training_data import TrainingDomain
from model.networks.blocks import draw_dropout_from

_TORCH_SEEDS = 2**63
_DROPOUT = 2**32 - 1  # apart from the other numbers that draws follow from


class Draws:
    """The generators of one phase of one training."""

    def __init__(
        self, seed: int, phase: int, device: torch.device, *, apart: int | None = None
    ) -> None:
        """Take what all draws follow from.

        Args:
            seed: The training's.
            phase: Which phase, from 0.
            device: Where `torch` and `dropout` draw.
            apart: Which of several processes this is. Their parts of a batch need unlike dropout,
                and what else they draw must agree however much each has dropped.
        """
        self._path = (seed, phase)
        self._apart = apart
        self.torch = torch.Generator(device)
        """Follows `start_step`; for what is drawn on the device."""
        self.dropout = self.torch if apart is None else torch.Generator(device)
        """Follows `start_step`; for dropout alone."""
        self.numpy = np.random.default_rng(self._path)
        """Follows `start_step`; for what is drawn on the host."""

    def start_step(self, step: int, network: nn.Module | None = None) -> None:
        """Set all generators to where the step begins; the dropout of the network follows them."""
        self.numpy = np.random.default_rng([*self._path, step])
        self.torch.manual_seed(int(self.numpy.integers(_TORCH_SEEDS)))
        if self._apart is not None:
            own = np.random.default_rng([*self._path, step, _DROPOUT + self._apart])
            self.dropout.manual_seed(int(own.integers(_TORCH_SEEDS)))
        if network is not None:
            draw_dropout_from(network, self.dropout)

    def negatives(self, domain: TrainingDomain, count: int) -> Tensor | None:
        """Draw items for a sampled softmax, each of V as likely -> (N,); none where N reaches V."""
        if count >= domain.items:
            return None
        generator = self.torch
        return torch.randint(
            1, domain.items + 1, (count,), generator=generator, device=generator.device
        )


class BatchPlan:
    """Which users a step trains on: every user once an epoch, in batches of about equal length."""

    def __init__(self, lengths: Places, batch_users: int, path: tuple[int, ...]) -> None:
        self._lengths = lengths
        self._batch_users = min(batch_users, len(lengths))
        self._path = path
        self._epoch = -1
        self._batches: list[Places] = []
        self.steps_per_epoch = len(self._planned(0))

    def batch(self, step: int) -> Places:
        """Return the users of a step, (B,); steps go on over the epochs."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._planned(epoch)[place]

    def _planned(self, epoch: int) -> list[Places]:
        if epoch != self._epoch:
            generator = np.random.default_rng([*self._path, epoch])
            self._batches = shuffled_batches(self._lengths, self._batch_users, generator)
            self._epoch = epoch
        return self._batches
