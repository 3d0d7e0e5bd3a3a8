"""What a phase of training is, and how phases plan their batches."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from model.training.context import Context
from model.training.draws import BatchPlan
from model.training.selection import Selection

Figures = Mapping[str, Tensor]
"""This process' shares of the scalars of one step, on the device, by name."""


class Phase(Protocol):
    """A part of training that goes step by step and can be put down between any two."""

    name: str
    steps: int
    """How many steps it has at most."""
    selection: Selection | None
    """Early stopping, where the phase has any."""
    moves_gurs: bool
    """Whether the encoder learns in it."""

    def begin(self) -> None:
        """Do what comes once before the first step."""

    def step(self, step: int) -> Figures:
        """Train one step; the same step of the same training draws the same."""

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the optimisers by name; a checkpoint holds their state."""


def plans_of(context: Context, batch_users: int, phase: int, *, longest: int) -> list[BatchPlan]:
    """Plan the batches of each domain; an epoch of one domain does not wait for the other's.

    Args:
        context: The training.
        batch_users: Users of a batch.
        phase: Its number, which the order follows from.
        longest: Most rows of a user that a step works on: users of like many share a batch.
    """
    return [
        BatchPlan(
            np.minimum(domain.training.lengths, longest),
            batch_users,
            (context.settings.seed, phase, place),
        )
        for place, domain in enumerate(context.data.domains)
    ]
