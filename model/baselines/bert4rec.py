"""BERT4Rec: hidden items are found from the items on both sides (Sun et al., CIKM 2019).

Shapes: B users, T steps, D width, V items of a domain, P hidden positions.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from model.arrays import Places
from model.baselines.sequential import (
    SequenceNetwork,
    SequenceSettings,
    SequenceSystem,
    restore_system,
)
from model.baselines.sequential_training import fit_system
from model.baselines.system import Tensors
from model.data.batches import pad_slices
from model.data.training_data import TrainingData, TrainingDomain
from model.losses import Catalogue, softmax_loss
from model.training.draws import Draws


class Bert4RecSettings(SequenceSettings):
    """How BERT4Rec learns."""

    softmax: Literal["sampled", "full"] = "sampled"
    """Whether the cross entropy runs over drawn items or over all, as published."""

    masked_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of a user's rows that are hidden, rounded down; at least one row is."""

    last_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the users of a step of whom the last row alone is hidden, as when they are served;
    published is one pass over the users in eleven."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the numbers dropped while training."""

    scaled_input: bool = False
    """Whether embeddings are read sqrt(D) times as long as they are scored; published is not."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate at the start."""

    epochs: Annotated[int, Field(ge=0)] = 20
    """Most passes over the users of a domain; a hidden share of the rows is less to learn from."""

    batch_users: Annotated[int, Field(ge=1)] = 256
    """Users in a step."""


class Bert4Rec:
    """An item follows from those around it; what comes next is a hidden item at the end."""

    @classmethod
    def fit(cls, data: TrainingData, settings: Bert4RecSettings, *, seed: int) -> SequenceSystem:
        """Learn to tell hidden training rows from the others of the user."""

        def loss(
            network: SequenceNetwork, domain: TrainingDomain, users: Places, draws: Draws
        ) -> Tensor:
            return batch_loss(network, domain, users, draws, settings=settings)

        return fit_system(data, settings, loss, causal=False, seed=seed)

    @classmethod
    def restore(
        cls, data: TrainingData, settings: Bert4RecSettings, tensors: Tensors
    ) -> SequenceSystem:
        """Make a system from what one fitted to the same data with the same settings has learned.

        Raises:
            BadArtifactError: If the tensors do not fit the data and the settings.
        """
        return restore_system(data, settings, tensors, causal=False)


def batch_loss(
    network: SequenceNetwork,
    domain: TrainingDomain,
    users: Places,
    draws: Draws,
    *,
    settings: Bert4RecSettings,
) -> Tensor:
    """Give the loss of finding the rows of users (B,) that are hidden in this step, a scalar."""
    # The mask that asks when a user is served stands after the history: one step more.
    padded = pad_slices(domain.training, users, longest=settings.max_history + 1)
    rows = torch.from_numpy(padded.astype(np.int64))
    hidden = hidden_steps(rows, settings, draws.torch)
    states = network(rows.masked_fill(hidden, network.mask))[hidden]  # (B, T, D) -> (P, D)
    sampled = settings.softmax == "sampled"
    negatives = draws.negatives(domain, settings.negatives) if sampled else None
    return softmax_loss(states, rows[hidden], Catalogue.of(network.table), negatives)


def hidden_steps(rows: Tensor, settings: Bert4RecSettings, generator: torch.Generator) -> Tensor:
    """Draw which steps are hidden -> (B, T), bool; never padding, at least one step of a user.

    Args:
        rows: Rows padded on the left, (B, T), at least one of each user.
        settings: The shares.
        generator: Where the draws come from.
    """
    real = rows != 0
    counts = (real.sum(dim=1, keepdim=True) * settings.masked_share).long().clamp(min=1)
    order = torch.rand(rows.shape, generator=generator).masked_fill(~real, 2.0)
    hidden = order.argsort(dim=1).argsort(dim=1) < counts  # the lowest draws of each user
    last_alone = torch.rand(len(rows), generator=generator) < settings.last_share
    hidden[last_alone] = False
    hidden[:, -1] |= last_alone
    return hidden
