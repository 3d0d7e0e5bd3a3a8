"""Where item embeddings start: items that are used near each other start near each other.

The positive pointwise mutual information of items within a few steps of one another, factorised by
a truncated singular value decomposition (Levy and Goldberg, NIPS 2014). Training rows only.

Shapes: V items of a domain, D width, E pairs of items that occur together.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bundle import Floats
from model.data.dataset import Sequences

WINDOW = 10
"""Steps within which two items of a user count as near."""
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
    left, right, counts = near_pairs(sequences, items)
    vectors = generator.standard_normal((items + 1, width)).astype(np.float32)
    if len(counts):
        weights = positive_information(left, right, counts, items)
        rank = min(width, items)
        found = _decompose(left, right, weights, size=items + 1, rank=rank, generator=generator)
        placed = np.abs(found).sum(axis=1) > 0
        vectors[placed] = 0
        vectors[placed, :rank] = found[placed]
    vectors *= NORM / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    vectors[0] = 0
    return vectors


def near_pairs(
    sequences: Sequences, items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count how often two items are within `WINDOW` steps, both ways round -> three (E,) arrays."""
    rows = np.asarray(sequences.rows, np.int64)
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for gap in range(1, min(WINDOW, len(rows) - 1) + 1):
        same = users[gap:] == users[:-gap]
        earlier, later = rows[:-gap][same], rows[gap:][same]
        apart = earlier != later
        found = np.concatenate(
            [
                earlier[apart] * (items + 1) + later[apart],
                later[apart] * (items + 1) + earlier[apart],
            ]
        )
        fresh, number = np.unique(found, return_counts=True)
        keys, place = np.unique(np.concatenate([keys, fresh]), return_inverse=True)
        weights = np.concatenate([counts, number])
        counts = np.bincount(place, weights=weights, minlength=len(keys)).astype(np.int64)
    return keys // (items + 1), keys % (items + 1), counts


def positive_information(
    left: NDArray[np.int64], right: NDArray[np.int64], counts: NDArray[np.int64], items: int
) -> NDArray[np.float64]:
    """Give max(0, log(p(i, j) / (p(i) p(j)))) of each counted pair -> (E,)."""
    marginal = np.bincount(left, weights=counts, minlength=items + 1)
    information = np.log(counts * counts.sum() / (marginal[left] * marginal[right]))
    positive: NDArray[np.float64] = np.maximum(information, 0)
    return positive


def _decompose(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    size: int,
    rank: int,
    generator: np.random.Generator,
) -> Floats:
    """Factorise a sparse symmetric matrix by randomised subspace iteration -> (size, rank)."""
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([left, right])),
        torch.from_numpy(weights),
        (size, size),
        check_invariants=True,
    ).coalesce()
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
