"""What the transfer baselines share: two vectors of a user become one.

Each domain is factorised for itself first. A user of the target domain then has a vector there and
one in the other domain: the user's own where the user is shared, otherwise one that a map makes of
the vector in the target domain. The two are put side by side, a fully connected layer makes one of
them, and that ranks the items (section 4.2 of the RecGURU paper: equally for MFEM, CnGAN and DOML,
which differ in the map). The layer starts as a copy of the own vector, so that learning starts from
BPRMF; the vectors of users stay, those of items go on learning.

Whoever is new to the target domain has the vector in the other domain, and the one that the map
back makes of it.

Shapes: U users of the target domain, W users of the other, S shared users, D width, B users of a
step, K candidates.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam

from model.baselines.factor_system import DomainFactors, FactorSystem
from model.baselines.factors import (
    Count,
    Examples,
    FactorSettings,
    Pass,
    Ranker,
    RankingSettings,
    Rate,
    Table,
    item_scores,
)
from model.data.training_data import TrainingData
from model.evaluation.validation import Validation
from model.networks.blocks import undrawn_linear
from model.settings import Settings

Map = Callable[[Tensor], Tensor]
"""From vectors of one domain to vectors of the other, (B, D) -> (B, D)."""

Found = Mapping[str, DomainFactors]


class MergeSettings(RankingSettings):
    """How the layer that makes one vector of two learns, and the items with it."""

    epochs: Annotated[int, Field(ge=0)] = 4
    """Most passes over the training rows."""

    learning_rate: Rate = 0.01
    """Learning rate of the items at the start; it falls to zero over the epochs."""

    layer_rate: Rate = 1e-3
    """Learning rate of the layer, and of the maps where they learn with it."""

    validation_epochs: Count = 2
    """Epochs between two looks at the validation rows."""


class TransferSettings(Settings):
    """What all transfer baselines set."""

    factors: FactorSettings = FactorSettings()
    """The vectors of each domain for itself."""

    merge: MergeSettings = MergeSettings()
    """The layer that makes one vector of two."""


class Merge(nn.Module):
    """Ranks the items of a target domain for its users by their merged vectors."""

    own: Tensor
    """(U, D)."""
    other: Tensor
    """The users' vectors in the other domain, (U, D); zeros for those not shared."""
    shared: Tensor
    """Whether a user is known in both, (U, 1)."""
    elsewhere: Tensor
    """All users of the other domain, (W, D)."""

    def __init__(
        self,
        data: TrainingData,
        found: Found,
        place: int,
        maps: tuple[Map, Map],
        settings: MergeSettings,
        learns: Iterable[nn.Parameter] = (),
    ) -> None:
        """Start from the vectors of each domain.

        Args:
            data: What they were learned from.
            found: The vectors.
            place: Which of the domains is the target.
            maps: From the target to the other domain, and back.
            settings: How fast the layer learns.
            learns: Parameters of the maps that learn with the layer.
        """
        super().__init__()
        domain = data.domains[place]
        own, elsewhere = found[domain.name], found[data.other_than(domain).name]
        partners = torch.from_numpy(domain.other)
        self.register_buffer("own", torch.from_numpy(own.users))
        self.register_buffer("elsewhere", torch.from_numpy(elsewhere.users))
        self.register_buffer("shared", (partners >= 0).unsqueeze(1))
        self.register_buffer("other", torch.where(self.shared, self.elsewhere[partners], 0.0))
        self.outward, self.inward = maps
        width = own.items.shape[1]
        self.layer = undrawn_linear(2 * width, width)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(width, 2 * width))
            self.layer.bias.zero_()
        self.items = Table(torch.from_numpy(own.items).clone())
        self.bias = Table(torch.from_numpy(own.bias).unsqueeze(1).clone())
        self._optimiser = Adam([*self.layer.parameters(), *learns], lr=settings.layer_rate)

    def forward(self, users: Tensor) -> Tensor:
        """Make one vector of two for users (B,) of the target domain -> (B, D)."""
        own = self.own[users]
        other = torch.where(self.shared[users], self.other[users], self.outward(own))
        return self.merged(own, other)

    def candidate_scores(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates (B, K) of users (B,); see `Ranker`."""
        vectors = self(users)
        scores, squares = item_scores(vectors, candidates, self.items, self.bias)
        return scores, squares + vectors.square().sum(dim=1)

    def update(self, rate: float) -> None:
        """Step down the gradients of the layer and of the items taken."""
        self.items.update(rate)
        self.bias.update(rate)
        self._optimiser.step()
        self._optimiser.zero_grad()

    @torch.no_grad()
    def domain_factors(self) -> DomainFactors:
        """Return the merged vectors of all users, as they are now."""
        newcomers = self.merged(self.inward(self.elsewhere), self.elsewhere)
        return DomainFactors(
            self(torch.arange(len(self.own))).numpy(),
            self.items.values.numpy(),
            self.bias.values[:, 0].numpy(),
            newcomers.numpy(),
        )

    def merged(self, own: Tensor, other: Tensor) -> Tensor:
        """Make one vector of two, (B, D) each -> (B, D)."""
        merged: Tensor = self.layer(torch.cat([own, other], dim=1))
        return merged


def merge_pass(
    data: TrainingData, merge: Ranker, place: int, settings: MergeSettings, path: tuple[int, ...]
) -> Pass:
    """Return the pass over the training rows of the domain at `place` that teaches a merge."""
    domain = data.domains[place]
    return Pass(merge, Examples.of(domain.training, domain.items), settings, (*path, place))


def as_system(data: TrainingData, merges: Mapping[str, Merge]) -> FactorSystem:
    """Put merges to work, by the name of their target domain."""
    factors = {name: merge.domain_factors() for name, merge in merges.items()}
    return FactorSystem(data, factors)


class Validated:
    """Mean NDCG@10 on the validation rows of the target domains of merges."""

    def __init__(self, data: TrainingData, merges: Mapping[str, Merge]) -> None:
        self._data = data
        self._merges = merges
        self._validations = [Validation(data, name) for name in merges]

    def __call__(self) -> float:
        """Ask the merges as they are now."""
        system = as_system(self._data, self._merges)
        return float(np.mean([each.ndcg_at_10(system) for each in self._validations]))


def shared_vectors(data: TrainingData, found: Found) -> tuple[Tensor, Tensor]:
    """Return the shared users' vectors in the first and in the second domain, (S, D) each."""
    first, second = (
        torch.from_numpy(found[domain.name].users[data.shared[:, place]])
        for place, domain in enumerate(data.domains)
    )
    return first, second
