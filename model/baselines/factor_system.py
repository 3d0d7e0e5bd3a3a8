"""What every factorising baseline is once it is fitted: vectors of users and of items, by name.

A user's scores are the inner products of the user's vector with those of the items, plus what an
item is worth to anyone. Which vectors these are is what the baselines differ in. It needs numpy
alone; `model.baselines.factors` is where vectors are learned.

Shapes: B users, U users of a domain, W users of the other domain, V items, D width; row 0 is
padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from model.arrays import Floats
from model.baselines.system import Tensors
from model.baselines.tensors import of_domain, stored
from model.data.popularity import item_shares
from model.data.training_data import TrainingData
from model.evaluation.protocol import History, Users


@dataclass(frozen=True, slots=True)
class DomainFactors:
    """What is known of the users and items of one domain."""

    users: Floats
    """(U, D)."""
    items: Floats
    """(V + 1, D)."""
    bias: Floats
    """What an item is worth to anyone, (V + 1,)."""
    newcomers: Floats | None = None
    """Vectors for users of the other domain who are new to this one, (W, D), made without what the
    domain knows of them; none where the system cannot make any."""


class FactorSystem:
    """Scores by the vectors of users and items; popularity where nobody knows who asks."""

    def __init__(self, data: TrainingData, factors: Mapping[str, DomainFactors]) -> None:
        """Put the vectors of one or both domains to work.

        Args:
            data: What they were learned from.
            factors: By the name of the domain.
        """
        self._factors = dict(factors)
        self._shares = {each.name: item_shares(each.training, each.items) for each in data.domains}
        self._other = {each.name: data.other_than(each).name for each in data.domains}

    @classmethod
    def restore(cls, data: TrainingData, width: int, tensors: Tensors) -> Self:
        """Take back what `tensors` returned.

        Raises:
            BadArtifactError: If it does not fit the data and the width.
        """
        factors = {}
        for domain in data.domains:
            users, newcomers = len(domain.training), len(data.other_than(domain).training)
            shapes: dict[str, tuple[int, ...]] = {
                "users": (users, width),
                "items": (domain.items + 1, width),
                "bias": (domain.items + 1,),
            }
            if f"{domain.name}.newcomers" in tensors:
                shapes["newcomers"] = (newcomers, width)
            found = {
                field: stored(tensors, f"{domain.name}.{field}", shape).astype(np.float32)
                for field, shape in shapes.items()
            }
            factors[domain.name] = DomainFactors(**found)
        return cls(data, factors)

    def tensors(self) -> Tensors:
        """Return the vectors of both domains."""
        tensors: dict[str, Floats] = {}
        for name, factors in self._factors.items():
            tensors[f"{name}.users"] = factors.users
            tensors[f"{name}.items"] = factors.items
            tensors[f"{name}.bias"] = factors.bias
            if factors.newcomers is not None:
                tensors[f"{name}.newcomers"] = factors.newcomers
        return tensors

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); histories do not matter, names do.

        Raises:
            NotFoundError: If the dataset it was fitted to has no such domain.
        """
        factors = of_domain(self._factors, domain)
        nobody = np.full(len(histories), -1, np.int64)
        here = nobody if users is None else users.get(domain, nobody)
        there = nobody if users is None else users.get(self._other[domain], nobody)
        vectors = np.zeros((len(histories), factors.items.shape[1]), np.float32)
        vectors[here >= 0] = factors.users[here[here >= 0]]
        unknown = here < 0
        if factors.newcomers is not None:
            new = unknown & (there >= 0)
            vectors[new] = factors.newcomers[there[new]]
            unknown = unknown & ~new
        scores: Floats = vectors @ factors.items.T + factors.bias
        scores[unknown] = self._shares[domain]
        return scores
