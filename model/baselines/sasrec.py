"""SASRec: causal self-attention over a domain's own items (Kang and McAuley, ICDM 2018).

Two systems in one: with the binary cross entropy, a random start and a constant learning rate it is
the published one; with a sampled softmax, item embeddings that start from what stands near them and
a rate that falls to zero it is a strong one.

Shapes: B users, T steps, D width, V items of a domain, P positions.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
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

_REDRAWS = 20


class SasRecSettings(SequenceSettings):
    """How SASRec learns; the defaults are the strong one, of the paper's width."""

    loss: Literal["softmax", "bce"] = "softmax"
    """Cross entropy over sampled items, or the published binary one with one negative a step."""


PUBLISHED = SasRecSettings(
    loss="bce",
    item_start="random",
    learning_rate=2e-3,
    decay=False,
    dropout=0.2,
    feed_forward=64,
    layers=3,
    batch_users=128,
    epochs=100,
    patience=20,
)
"""The published loss and start, in the width, heads and layers that the paper compares all systems
in (section 6.2); its own feed-forward and history. With the published rate of 0.001 and dropout of
0.5 it is still learning after 60 epochs."""


class SasRec:
    """What comes next follows from what came before, in each domain by itself."""

    @classmethod
    def fit(cls, data: TrainingData, settings: SasRecSettings, *, seed: int) -> SequenceSystem:
        """Learn to tell each training row from the rows before it."""

        def loss(
            network: SequenceNetwork, domain: TrainingDomain, users: Places, draws: Draws
        ) -> Tensor:
            return batch_loss(network, domain, users, draws, settings=settings)

        return fit_system(data, settings, loss, causal=True, seed=seed)

    @classmethod
    def restore(
        cls, data: TrainingData, settings: SasRecSettings, tensors: Tensors
    ) -> SequenceSystem:
        """Make a system from what one fitted to the same data with the same settings has learned.

        Raises:
            BadArtifactError: If the tensors do not fit the data and the settings.
        """
        return restore_system(data, settings, tensors, causal=True)


def batch_loss(
    network: SequenceNetwork,
    domain: TrainingDomain,
    users: Places,
    draws: Draws,
    *,
    settings: SasRecSettings,
) -> Tensor:
    """Give the loss of finding each row of users (B,) from the rows before it, a scalar."""
    padded = pad_slices(domain.training, users, longest=settings.max_history + 1)
    rows = torch.from_numpy(padded.astype(np.int64))
    read, wanted = rows[:, :-1], rows[:, 1:]
    real = read != 0
    states = network(read)[real]  # (B, T, D) -> (P, D)
    if settings.loss == "softmax":
        negatives = draws.negatives(domain, settings.negatives)
        items = Catalogue.of(network.table)
        return softmax_loss(states, wanted[real], items, negatives)
    others = unowned_rows(rows, domain.items, draws.torch)[:, 1:]
    return binary_loss(states, wanted[real], others[real], network.table)


def binary_loss(states: Tensor, wanted: Tensor, others: Tensor, table: Tensor) -> Tensor:
    """Binary cross entropy of what came against one item that did not.

    Args:
        states: (P, D).
        wanted: Rows that came, (P,).
        others: Rows that did not, (P,).
        table: Item embeddings, (V + 1, D).

    Returns:
        The mean over the positions, a scalar.
    """
    for_wanted = (states * table[wanted]).sum(dim=-1)
    for_others = (states * table[others]).sum(dim=-1)
    return (F.softplus(-for_wanted) + F.softplus(for_others)).mean()


def unowned_rows(rows: Tensor, items: int, generator: torch.Generator) -> Tensor:
    """Draw a row for each step that is none of the user's own, uniformly -> (B, T), from 1 to V.

    Args:
        rows: What each user has, (B, T), 0 for padding.
        items: V. A user who has almost all of them may get one of the own.
        generator: Where the draws come from.
    """
    drawn = torch.randint(1, items + 1, rows.shape, generator=generator)
    for _ in range(_REDRAWS):
        owned = (drawn.unsqueeze(2) == rows.unsqueeze(1)).any(dim=2)  # (B, T, T) -> (B, T)
        if not owned.any():
            break
        drawn[owned] = torch.randint(1, items + 1, (int(owned.sum()),), generator=generator)
    return drawn
