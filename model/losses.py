"""The paper's losses, each a pure function.

Shapes: P positions, B users, D width, V items of a domain, S shared negatives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of a domain, looked up by row, so that a loss touches no other."""

    count: int
    """V; rows are from 1 to V."""
    vectors: Callable[[Tensor], Tensor]
    """From rows of any shape to item embeddings (..., D)."""

    @classmethod
    def of(cls, table: Tensor) -> Self:
        """Take the items of a table (V + 1, D), whose row 0 is padding and no item."""
        return cls(len(table) - 1, table.__getitem__)

    def standing_still(self) -> "Catalogue":
        """Return the same items, which learn nothing."""
        return Catalogue(self.count, lambda rows: self.vectors(rows).detach())

    def all_rows(self, device: torch.device) -> Tensor:
        """Return every row, (V,)."""
        return torch.arange(1, self.count + 1, device=device)


def softmax_loss(
    states: Tensor, targets: Tensor, items: Catalogue, negatives: Tensor | None = None
) -> Tensor:
    """Cross entropy of the targets, over all items or over shared samples (equations 5, 14; 6.1.3).

    Sampled negatives stand for all items: their scores are raised by log(V / S), so that the loss
    estimates the full one. A negative that is the position's own target is left out there.

    Args:
        states: What predicts, (P, D).
        targets: Rows of the items that came, (P,), from 1 to V.
        items: What they are scored against.
        negatives: Rows drawn uniformly from 1 to V, shared by all positions, (S,); none means the
            softmax runs over all V items.

    Returns:
        The mean over the positions, a scalar.
    """
    if negatives is None:
        scores = states @ items.vectors(items.all_rows(states.device)).T  # (P, V)
        return F.cross_entropy(scores, targets - 1)
    own = (states * items.vectors(targets)).sum(dim=-1, keepdim=True)  # (P, 1)
    scale = math.log(items.count / len(negatives))
    others = states @ items.vectors(negatives).T + scale  # (P, S)
    others = others.masked_fill(targets.unsqueeze(1) == negatives, -torch.inf)
    logits = torch.cat([own, others], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets))


def bpr_loss(
    states: Tensor, targets: Tensor, items: Catalogue, negatives: Tensor | None = None
) -> Tensor:
    """The recommendation loss of equation 12: the negatives count by the mean of their scores.

    Args:
        states: Preference vectors, (P, D).
        targets: Rows of the items that came, (P,).
        items: What they are scored against.
        negatives: Rows of the set N_s, shared by all positions, (S,); none means all V items.

    Returns:
        The mean over the positions, a scalar.
    """
    wanted = (states * items.vectors(targets)).sum(dim=-1)  # (P,)
    rows = items.all_rows(states.device) if negatives is None else negatives
    mean = items.vectors(rows).mean(dim=0)
    unwanted = states @ mean  # (P,): the mean of the scores is the score of the mean
    return (F.softplus(-wanted) + F.softplus(unwanted)).mean()  # -log(1 - sigmoid(x)) = softplus(x)


def wasserstein_distance(first: Tensor, second: Tensor) -> Tensor:
    """Estimate how far apart the domains are from critic scores (B,) of each (section 4.2, WGAN).

    The critic maximises it, the encoder minimises it.
    """
    return first.mean() - second.mean()


def gradient_penalty(
    critic: Critic, first: Tensor, second: Tensor, generator: torch.Generator
) -> Tensor:
    """Hold the critic to slope one between the two domains (WGAN-GP; sections 3.5 and 6.1.3).

    Args:
        critic: Maps GURs (B, D) to scores (B,).
        first: GURs of the first domain, (B, D), detached by the caller.
        second: GURs of the second domain, (B, D), detached by the caller.
        generator: Source of the mixing weights, on the tensors' device.

    Returns:
        The mean squared distance of the slope's length from one, a scalar, unweighted.

    Raises:
        ValueError: If the two batches differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"first {tuple(first.shape)} and second {tuple(second.shape)} differ")
    mix = torch.rand(len(first), 1, device=first.device, dtype=first.dtype, generator=generator)
    between = torch.lerp(first, second, mix).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    steepness: Tensor = torch.linalg.vector_norm(slope, dim=1)  # (B,)
    return (steepness - 1).square().mean()


def shared_user_loss(first: Tensor, second: Tensor) -> Tensor:
    """The l2 penalty of equation 9: the distance between a shared user's two GURs.

    Args:
        first: GURs from the first domain, (B, D).
        second: GURs of the same users from the second domain, (B, D).

    Returns:
        The mean Euclidean distance, a scalar; 0 for no users.
    """
    if not len(first):
        return first.sum()
    # The root has no slope at zero; the small term keeps equal GURs from turning into NaN.
    return ((first - second).square().sum(dim=1) + 1e-12).sqrt().mean()


def contrastive_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Tell a shared user's other GUR from those of the other shared users, both ways.

    A softmax over -|a - b|^2 / (2 D temperature): for GURs of length sqrt(D), as a layer norm gives
    them, the cosine divided by the temperature. Beyond the paper: the l2 penalty asks only that two
    GURs be near, which is met by all being near; this asks that they be nearer than others.

    Args:
        first: GURs from the first domain, (B, D).
        second: GURs of the same users from the second domain, (B, D).
        temperature: Above 0.

    Returns:
        The mean cross entropy over both ways, a scalar; 0 for one user or none.
    """
    if len(first) <= 1:
        return (first - second).sum() * 0.0
    squares = first.square().sum(dim=1, keepdim=True) + second.square().sum(dim=1)
    likeness = (2 * first @ second.T - squares) / (2 * first.shape[1] * temperature)  # (B, B)
    own = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2


def generator_loss(
    reconstruction: Tensor,
    distance: Tensor,
    shared: Tensor,
    *,
    adversarial_weight: float = 1.0,
    shared_weight: float = 1.0,
) -> Tensor:
    """The multi-task loss of equation 13; the paper's weights are 1.

    Minimising minus the critic's loss is minimising the Wasserstein distance it estimates.

    Args:
        reconstruction: Equation 5, a scalar.
        distance: `wasserstein_distance` under the fixed critic, a scalar.
        shared: Equation 9, a scalar.
        adversarial_weight: Factor of `distance`.
        shared_weight: Factor of `shared`.
    """
    return reconstruction + adversarial_weight * distance + shared_weight * shared
