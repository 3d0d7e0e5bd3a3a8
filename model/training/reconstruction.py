"""The reconstruction task that phases one and two share (equation 5).

Shapes: B users, T steps, D width.
"""

import numpy as np
import torch
from torch import Tensor

from model.data.batches import Places, alike
from model.data.training_data import TrainingDomain
from model.losses import softmax_loss
from model.networks.blocks import draw_dropout_from
from model.training.context import Context
from model.training.draws import Draws


def autoencode(
    context: Context, domain: TrainingDomain, users: Places, negatives: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Encode users and rebuild their training rows.

    Args:
        context: The training.
        domain: The users' domain.
        users: Their places, (B,).
        negatives: As in `model.losses.softmax_loss`.

    Returns:
        The GURs, (B, D) in the order of `alike` lengths, and the mean cross entropy over all real
        positions, a scalar.
    """
    networks = context.networks
    embedding = networks.serving.gur_encoder.embedding(domain.name)
    gurs, states, targets = [], [], []
    longest = context.settings.network.max_history
    for group in alike(np.minimum(domain.training.lengths[users], longest)):
        rows = context.rows(domain, users[group])
        gurs.append(context.encode(domain, rows))
        with context.mixed_precision():
            rebuilt = networks.reconstructor(domain.name)(embedding, rows, gurs[-1])
        real = rows != 0
        states.append(context.sharpened(rebuilt[real]))
        targets.append(rows[real])
    items = context.catalogue(embedding)
    loss = softmax_loss(torch.cat(states), torch.cat(targets), items, negatives)
    return torch.cat(gurs), loss


def draw_negatives(domain: TrainingDomain, count: int, draws: Draws) -> Tensor | None:
    """Draw items for a sampled softmax, uniformly -> (count,); none where all items are no more."""
    if count >= domain.items:
        return None
    generator = draws.torch
    return torch.randint(
        1, domain.items + 1, (count,), generator=generator, device=generator.device
    )


def start_step(context: Context, draws: Draws, step: int) -> None:
    """Set all randomness to where a step begins, dropout's included."""
    draws.start_step(step)
    draw_dropout_from(context.networks, draws.torch)
