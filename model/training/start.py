"""Where item embeddings start: items that are used near each other start near each other.

The positive pointwise mutual information of items within a few steps of one another, factorised by
a truncated singular value decomposition (Levy and Goldberg, NIPS 2014). Training rows only.

Shapes: V items of a domain, D width, E pairs of items that occur together.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays import Floats
from model.data.batches import pad_slices
from model.data.dataset import Sequences
from model.data.training_data import TrainingData

WINDOW = 10
"""Steps within which two items of a user count as near."""
NORM = 0.5
"""Length every item's vector is scaled to."""
_OVERSAMPLED = 16
_POWER_ITERATIONS = 4


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which items are near each other and how often; every pair stands both ways round."""

    left: NDArray[np.int64]
    """(E,)."""
    right: NDArray[np.int64]
    """(E,)."""
    counts: NDArray[np.int64]
    """(E,)."""


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

    Beside the pairs within a domain count those of a shared user across the domains: no times are
    known, so each of the last `WINDOW` rows in one is near each of those in the other.

    Args:
        data: What may be learned from.
        width: D.
        generator: As in `item_vectors`.

    Returns:
        For each domain (V + 1, D): vectors of length `NORM`; row 0, padding, is zeros.
    """
    first, second = data.domains
    total = first.items + second.items
    apart = near_pairs(second.training, second.items)
    pairs = [
        near_pairs(first.training, first.items),
        Pairs(apart.left + first.items, apart.right + first.items, apart.counts),
        pairs_across(data),
    ]
    together = Pairs(
        np.concatenate([each.left for each in pairs]),
        np.concatenate([each.right for each in pairs]),
        np.concatenate([each.counts for each in pairs]),
    )
    vectors = _place(together, total, width, generator)
    padding = np.zeros((1, width), np.float32)
    return vectors[: first.items + 1], np.concatenate([padding, vectors[first.items + 1 :]])


def near_pairs(sequences: Sequences, items: int) -> Pairs:
    """Count how often two items are within `WINDOW` steps, both ways round."""
    rows = np.asarray(sequences.rows, np.int64)
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    counter = _PairCounter(items)
    for gap in range(1, min(WINDOW, len(rows) - 1) + 1):
        same = users[gap:] == users[:-gap]
        counter.add(rows[:-gap][same], rows[gap:][same])
    return counter.pairs()


def pairs_across(data: TrainingData) -> Pairs:
    """Count pairs of items of shared users across the domains; the second's rows come last."""
    first, second = data.domains
    own = pad_slices(first.training, data.shared[:, 0], longest=WINDOW).astype(np.int64)
    other = pad_slices(second.training, data.shared[:, 1], longest=WINDOW).astype(np.int64)
    counter = _PairCounter(first.items + second.items)
    for column in own.T:
        real = (column > 0)[:, None] & (other > 0)
        counter.add(np.broadcast_to(column[:, None], other.shape)[real], other[real] + first.items)
    return counter.pairs()


class _PairCounter:
    """Counts unordered pairs of unlike items, both ways round."""

    def __init__(self, items: int) -> None:
        self._size = items + 1
        self._keys = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        apart = left != right
        left, right = left[apart], right[apart]
        both = np.concatenate([left * self._size + right, right * self._size + left])
        fresh, number = np.unique(both, return_counts=True)
        self._keys, place = np.unique(np.concatenate([self._keys, fresh]), return_inverse=True)
        weights = np.concatenate([self._counts, number])
        counts = np.bincount(place, weights=weights, minlength=len(self._keys))
        self._counts = counts.astype(np.int64)

    def pairs(self) -> Pairs:
        return Pairs(self._keys // self._size, self._keys % self._size, self._counts)


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
    """Factorise a sparse symmetric matrix by randomised subspace iteration -> (size, rank)."""
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([pairs.left, pairs.right])),
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
