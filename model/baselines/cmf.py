"""CMF: both domains factorised together, a shared user having one vector for both.

Singh and Gordon, "Relational learning via collective matrix factorization", KDD 2008: matrices that
have an entity in common are factorised with the same vectors for it, their losses added up (their
section 4). Here the two matrices are who has what in each domain, the common entity is the shared
user, and each loss is the pairwise one of BPRMF in place of a divergence from the matrix, as the
RecGURU paper has it (section 6.2). A negative comes from the domain of its training row.

Whoever is new to a domain is folded in: a vector is learned from the rows in the other domain
alone, by the same loss against the item vectors as they stand. The vector that was learned with
rows of the target domain is not looked at.

Shapes: U users of a domain, W users of the other, V items of a domain, D width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.arrays import Floats, Places
from model.baselines.factor_system import DomainFactors, FactorSystem
from model.baselines.factors import (
    Count,
    Examples,
    Factors,
    FactorSettings,
    Pass,
    Table,
    learn,
    torch_generator,
)
from model.baselines.system import Tensors
from model.data.training_data import TrainingData
from model.evaluation.validation import Validation

_LEARNING, _FOLDING = 0, 1


class CmfSettings(FactorSettings):
    """Vectors of users and items, and how they are learned."""

    fold_in_epochs: Count = 4
    """Passes over the rows of a domain to find vectors for those new to the other."""


class Cmf:
    """The kind of system: `fit` learns one, `restore` takes one back."""

    @classmethod
    def fit(cls, data: TrainingData, settings: CmfSettings, *, seed: int) -> FactorSystem:
        """Factorise both domains together, then fold in those who are new to one."""
        joint = _Joint(data, settings, seed)
        joint.learn(settings)
        first, second = joint.domain_factors()
        names = [domain.name for domain in data.domains]
        newcomers = [joint.fold_in(place, settings) for place in (1, 0)]
        return FactorSystem(
            data,
            {
                name: DomainFactors(each.users, each.items, each.bias, new)
                for name, each, new in zip(names, (first, second), newcomers, strict=True)
            },
        )

    @classmethod
    def restore(cls, data: TrainingData, settings: CmfSettings, tensors: Tensors) -> FactorSystem:
        """Take back a system; see `Kind.restore`."""
        return FactorSystem.restore(data, settings.width, tensors)


class _Joint:
    """Both domains in one space.

    Users of the second domain who are not shared come after the first's; so do all its items.
    """

    def __init__(self, data: TrainingData, settings: CmfSettings, seed: int) -> None:
        first, second = data.domains
        self._data = data
        self._seed = seed
        self._users = _places_of_users(data)
        self._before = (0, first.items)
        self._examples = [
            Examples.of(domain.training, domain.items).moved(users, before)
            for domain, users, before in zip(data.domains, self._users, self._before, strict=True)
        ]
        users = int(max(places.max() for places in self._users)) + 1
        generator = torch_generator(seed, _LEARNING)
        self._factors = Factors(users, first.items + second.items, settings.width, generator)

    def learn(self, settings: CmfSettings) -> None:
        """Learn until the mean of both domains' validation figures is at its best."""
        validations = [Validation(self._data, domain.name) for domain in self._data.domains]
        examples = Examples.joined(self._examples)

        def validate() -> float:
            names = [domain.name for domain in self._data.domains]
            parts = dict(zip(names, self.domain_factors(), strict=True))
            system = FactorSystem(self._data, parts)
            return float(np.mean([each.ndcg_at_10(system) for each in validations]))

        path = (self._seed, _LEARNING)
        learn([Pass(self._factors, examples, settings, path)], self._factors, validate, settings)

    def domain_factors(self) -> list[DomainFactors]:
        """Return the part of each domain, as it is now."""
        whole = self._factors.domain_factors()
        parts = []
        for domain, users, before in zip(
            self._data.domains, self._users, self._before, strict=True
        ):
            rows = slice(before + 1, before + 1 + domain.items)
            items = np.concatenate([whole.items[:1], whole.items[rows]])
            bias = np.concatenate([whole.bias[:1], whole.bias[rows]])
            parts.append(DomainFactors(whole.users[users], items, bias))
        return parts

    def fold_in(self, place: int, settings: CmfSettings) -> Floats:
        """Find a vector for each user of the domain at `place` by the rows there -> (U, D)."""
        domain = self._data.domains[place]
        stay = np.arange(len(domain.training))
        examples = Examples.of(domain.training, domain.items).moved(stay, self._before[place])
        ranker = _FoldIn(len(stay), self._factors)
        shorter = settings.model_copy(update={"epochs": settings.fold_in_epochs})
        one_pass = Pass(ranker, examples, shorter, (self._seed, _FOLDING, place))
        for epoch in range(shorter.epochs):
            one_pass(epoch)
        vectors: Floats = ranker.users.values.numpy()
        return vectors


class _FoldIn(nn.Module):
    """Learns vectors of users against items that stay as they are."""

    def __init__(self, users: int, factors: Factors) -> None:
        super().__init__()
        self._items = factors.items.values
        self._bias = factors.bias.values
        self.users = Table(torch.zeros(users, self._items.shape[1]))

    def candidate_scores(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates (B, K) of users (B,); see `Ranker`."""
        vectors = self.users.take(users)
        found = F.embedding(candidates, self._items)
        scores = (found @ vectors.unsqueeze(2)).squeeze(2)
        return scores + self._bias[candidates].squeeze(2), vectors.square().sum(dim=1)

    def update(self, rate: float) -> None:
        """Step down the gradients of the users taken."""
        self.users.update(rate)


def _places_of_users(data: TrainingData) -> tuple[Places, Places]:
    """Number the users of both domains together, a shared one once -> (U,) of each domain."""
    first, second = data.domains
    places = np.array(second.other)
    alone = places < 0
    places[alone] = len(first.training) + np.arange(int(alone.sum()))
    return np.arange(len(first.training)), places
