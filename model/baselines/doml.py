"""DOML: one orthogonal map between the domains' users, learned from both sides in turn.

Li and Tuzhilin, "Dual metric learning for effective and efficient cross-domain recommendations",
TKDE 2021. An orthogonal matrix X maps users of the first domain to the second and its transpose
maps back, so that the map has an inverse and users who are alike in one domain stay alike in the
other. Things are done in turn until nothing improves: metric learning brings X a_u near b_u for
shared users u and away from b_v of others v, and the recommender of each domain learns with what X
brings over from the other (dual learning, X learning along). Users near a shared user in their own
domain are brought near the same counterpart, which is how few shared users suffice.

For implicit feedback, as in section 6.2 of the RecGURU paper, recommenders learn by pairs of items
and not by squared errors of ratings. What they start from are vectors of BPRMF in place of features
from autoencoders; they merge both vectors (`model.baselines.transfer`) in place of adding two
predictions up. X is brought back to the nearest orthogonal matrix after every step.

Shapes: S shared users, U users of a domain, D width, E pairs, B pairs of a step.
"""

from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from model.arrays import Places
from model.baselines.bprmf import domain_factors
from model.baselines.factor_system import FactorSystem
from model.baselines.factors import Count, Rate, Weight, learn, torch_generator
from model.baselines.system import Tensors
from model.baselines.transfer import (
    Found,
    Merge,
    TransferSettings,
    Validated,
    as_system,
    merge_pass,
)
from model.data.training_data import TrainingData
from model.errors import TrainingError
from model.settings import Settings
from model.training.descent import optimise

_MAPPING, _MERGING = 6, 7
_COMPARED_TOGETHER = 256


class MetricSettings(Settings):
    """How the orthogonal map learns what is near."""

    neighbours: Annotated[int, Field(ge=0)] = 0
    """Users nearest to a shared user, in each domain, who share the user's counterpart."""

    margin: Weight = 0.5
    """How much nearer, in squares of unit vectors, a counterpart must be than another user."""

    passes: Count = 20
    """Passes over the pairs in each turn."""

    batch_pairs: Count = 512
    """Pairs in a step."""

    learning_rate: Rate = 1e-2
    """Learning rate of the map when it learns what is near."""


class DomlSettings(TransferSettings):
    """The vectors of each domain, the map between them, and the layer that merges."""

    metric: MetricSettings = MetricSettings()
    """The map."""


class Doml:
    """The kind of system: `fit` learns one, `restore` takes one back."""

    @classmethod
    def fit(cls, data: TrainingData, settings: DomlSettings, *, seed: int) -> FactorSystem:
        """Factorise each domain, then learn map and merges in turn; see `Kind.fit`."""
        found = domain_factors(data, settings.factors, seed=seed)
        rotation = Rotation(settings.factors.width, torch_generator(seed, _MAPPING))
        metric = Metric(data, found, rotation, settings.metric, (seed, _MAPPING))
        ways = (rotation, rotation.back)
        merges = {
            domain.name: Merge(
                data,
                found,
                place,
                (ways[place], ways[1 - place]),
                settings.merge,
                [rotation.matrix],
            )
            for place, domain in enumerate(data.domains)
        }
        passes = [
            merge_pass(data, Straightened(merge, rotation), place, settings.merge, (seed, _MERGING))
            for place, merge in enumerate(merges.values())
        ]
        network = nn.ModuleList([rotation, *merges.values()])
        metric(settings.merge.epochs)  # the start, which may be the best, needs a map
        learn(
            [metric, *passes],
            network,
            Validated(data, merges),
            settings.merge,
            start_counts=True,
        )
        return as_system(data, merges)

    @classmethod
    def restore(cls, data: TrainingData, settings: DomlSettings, tensors: Tensors) -> FactorSystem:
        """Take back a system; see `Kind.restore`."""
        return FactorSystem.restore(data, settings.factors.width, tensors)


class Rotation(nn.Module):
    """An orthogonal matrix between the domains."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width, width, generator=generator))
        self.straighten()

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (B, D) of the first domain to the second."""
        return vectors @ self.matrix

    def back(self, vectors: Tensor) -> Tensor:
        """Map vectors (B, D) of the second domain to the first."""
        return vectors @ self.matrix.T

    @torch.no_grad()
    def straighten(self) -> None:
        """Go to the nearest orthogonal matrix.

        Raises:
            TrainingError: If a number of this one is not finite.
        """
        try:
            left, _, right = torch.linalg.svd(self.matrix)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # stubs lack it
            raise TrainingError(
                "the rotation is no longer finite; lower metric.learning_rate"
            ) from None
        self.matrix.copy_(left @ right)


class Straightened:
    """A merge, and a rotation that learns along and stays one; see `Ranker`."""

    def __init__(self, merge: Merge, rotation: Rotation) -> None:
        self._merge = merge
        self._rotation = rotation

    def candidate_scores(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates (B, K) of users (B,)."""
        return self._merge.candidate_scores(users, candidates)

    def update(self, rate: float) -> None:
        """Step down the gradients, then go to the nearest orthogonal matrix."""
        self._merge.update(rate)
        self._rotation.straighten()


class Metric:
    """Brings the pairs of users near that should be, as one turn of an epoch."""

    def __init__(
        self,
        data: TrainingData,
        found: Found,
        rotation: Rotation,
        settings: MetricSettings,
        path: tuple[int, ...],
    ) -> None:
        """Find the pairs.

        Args:
            data: Who is shared.
            found: The vectors of each domain.
            rotation: What learns.
            settings: How.
            path: What the draws follow from, beside the epoch.
        """
        self._rotation = rotation
        self._settings = settings
        self._path = path
        self._optimiser = Adam(rotation.parameters(), lr=settings.learning_rate)
        units = [F.normalize(torch.from_numpy(found[domain.name].users)) for domain in data.domains]
        shared = [torch.from_numpy(data.shared[:, place]) for place in (0, 1)]
        near = [
            nearest(each, users, settings.neighbours)
            for each, users in zip(units, shared, strict=True)
        ]
        # Every shared user with the counterpart, with its neighbours, and the other way round.
        left, right = (each[users] for each, users in zip(units, shared, strict=True))
        self._first = torch.cat([left, *units[0][near[0].T], *([left] * near[1].shape[1])])
        self._second = torch.cat([right, *([right] * near[0].shape[1]), *units[1][near[1].T]])

    def __call__(self, epoch: int) -> None:
        """Go over the pairs in random order, as often as the settings say."""
        generator = np.random.default_rng([*self._path, epoch])
        for _ in range(self._settings.passes):
            order = generator.permutation(len(self._first))
            for first in range(0, len(order), self._settings.batch_pairs):
                pairs = order[first : first + self._settings.batch_pairs]
                self._step(pairs, generator.permutation(pairs))

    def _step(self, pairs: Places, others: Places) -> None:
        mapped = self._rotation(self._first[pairs])
        near, far = self._second[pairs], self._second[others]
        loss = metric_loss(mapped, near, far, self._settings.margin)
        optimise(self._optimiser, loss)
        self._rotation.straighten()


def metric_loss(mapped: Tensor, counterparts: Tensor, others: Tensor, margin: float) -> Tensor:
    """Pull counterparts near and push others away, each (B, D), a scalar."""
    near = (mapped - counterparts).square().sum(dim=1)
    far = (mapped - others).square().sum(dim=1)
    return (near + F.relu(margin + near - far)).mean()


def nearest(units: Tensor, users: Tensor, count: int) -> Tensor:
    """Find those nearest to some users of a domain, themselves left out -> (S, up to `count`).

    Args:
        units: Vectors of length one of all users, (U, D).
        users: Whose neighbours are looked for, (S,).
        count: How many of them.
    """
    count = min(count, len(units) - 1)
    found = [users.new_empty(0, count)]
    for part in torch.split(users, _COMPARED_TOGETHER):
        likeness = units[part] @ units.T
        likeness[torch.arange(len(part)), part] = -torch.inf
        found.append(likeness.topk(count, dim=1).indices)
    return torch.cat(found)
