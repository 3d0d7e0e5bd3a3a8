"""The reconstruction task that phases one and two share (equation 5).

Shapes: B users, T steps, D width.
"""

import numpy as np
import torch
from torch import Tensor

from model.data.batches import alike
from model.data.training_data import TrainingDomain
from model.losses import softmax_loss
from model.training.context import Context, Share, at_places


def autoencode(
    context: Context, domain: TrainingDomain, share: Share, negatives: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Encode a share of a batch and rebuild the training rows of its users.

    Args:
        context: The training.
        domain: The users' domain.
        share: The users, (B,), and what they count.
        negatives: As in `model.losses.softmax_loss`.

    Returns:
        The GURs, (B, D) in the order of `alike` lengths, and the share of the mean cross entropy
        over all real positions of the batch, a scalar.
    """
    networks = context.networks
    embedding = networks.serving.gur_encoder.embedding(domain.name)
    gurs, states, targets = [], [], []
    longest = context.settings.network.max_history
    for group in alike(np.minimum(domain.training.lengths[share.users], longest)):
        rows, real = context.rows_and_places(domain, share.users[group])
        gurs.append(context.encode(domain, rows))
        with context.mixed_precision():
            rebuilt = networks.reconstructor(domain.name)(embedding, rows, gurs[-1])
        states.append(context.sharpened(at_places(rebuilt, real)))
        targets.append(at_places(rows, real))
    items = context.catalogue(embedding)
    loss = softmax_loss(torch.cat(states), torch.cat(targets), items, negatives)
    return torch.cat(gurs), share.of_position_mean(loss)
