"""Where item embeddings start: items that are used near each other start near each other.

The positive pointwise mutual information of items within a few steps of one another, factorised by
a truncated singular value decomposition (Levy and Goldberg, NIPS 2014). Training rows only.

Shapes: V items of a domain, D width, E pairs of items that occur together.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays import Floats
from model.data.dataset import Sequences
from model.data.training_data import TrainingData
from model.training.near import Pairs, near_pairs, pairs_across

NORM = 0.5
"""Length every item's vector is scaled to."""
_OVERSAMPLED = 16
_POWER_ITERATIONS = 4


def item_vectors(
    sequences: Sequences, items: int, width: int, generator: np.random.Generator
) -> Floats:
    """Place the items of a domain by what stands near them.

    Args:
        sequences: The training rows.
        items: V; rows are from 1 to V.
        width: D.
        generator: For the decomposition's probe and for items that stand near nothing.

    Returns:
        (V + 1, D): vectors of length `NORM`; row 0, padding, is zeros.
    """
    return _place(near_pairs(sequences, items), items, width, generator)


def joint_item_vectors(
    data: TrainingData, width: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Place the items of both domains in one space.

    Beside the pairs within a domain count those of a shared user across the domains.

    Args:
        data: What may be learned from.
        width: D.
        generator: As in `item_vectors`.

    Returns:
        For each domain (V + 1, D): vectors of length `NORM`; row 0, padding, is zeros.
    """
    first, second = data.domains
    total = first.items + second.items
    together = Pairs.joined(
        [
            near_pairs(first.training, first.items),
            near_pairs(second.training, second.items).shifted(first.items),
            pairs_across(data),
        ]
    ).in_order()
    vectors = _place(together, total, width, generator)
    padding = np.zeros((1, width), np.float32)
    return vectors[: first.items + 1], np.concatenate([padding, vectors[first.items + 1 :]])


def positive_information(pairs: Pairs, items: int) -> NDArray[np.float64]:
    """Give max(0, log(p(i, j) / (p(i) p(j)))) of each counted pair -> (E,)."""
    left, right, counts = pairs.left, pairs.right, pairs.counts
    marginal = np.bincount(left, weights=counts, minlength=items + 1)
    information = np.log(counts * counts.sum() / (marginal[left] * marginal[right]))
    positive: NDArray[np.float64] = np.maximum(information, 0)
    return positive


def _place(pairs: Pairs, items: int, width: int, generator: np.random.Generator) -> Floats:
    vectors = generator.standard_normal((items + 1, width)).astype(np.float32)
    if len(pairs.counts):
        weights = positive_information(pairs, items)
        rank = min(width, items)
        found = _decompose(pairs, weights, size=items + 1, rank=rank, generator=generator)
        placed = np.bincount(pairs.left, weights=weights, minlength=items + 1) > 0
        vectors[placed] = 0
        vectors[placed, :rank] = found[placed]
    vectors *= NORM / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    vectors[0] = 0
    return vectors


def _decompose(
    pairs: Pairs,
    weights: NDArray[np.float64],
    *,
    size: int,
    rank: int,
    generator: np.random.Generator,
) -> Floats:
    """Factorise a sparse symmetric matrix by randomised subspace iteration -> (size, rank).

    The pairs are in order, each there once.
    """
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([pairs.left, pairs.right]).astype(np.int64)),
        torch.from_numpy(weights),
        (size, size),
        is_coalesced=True,
        check_invariants=True,
    )
    probe = generator.standard_normal((size, min(rank + _OVERSAMPLED, size)))
    basis: Tensor = torch.linalg.qr(matrix @ torch.from_numpy(probe)).Q
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ basis).Q
    small = basis.T @ (matrix @ basis)
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    chosen = values.abs().argsort(descending=True)[:rank]
    strengths = values[chosen].abs().sqrt()
    found: Floats = ((basis @ vectors[:, chosen]) * strengths).float().numpy()
    return found
