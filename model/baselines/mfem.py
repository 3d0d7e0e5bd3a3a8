"""MFEM: BPRMF, and a map of user vectors from one domain to the other.

Man et al., "Cross-domain recommendation: an embedding and mapping approach", IJCAI 2017 (EMCDR):
factorise each domain, learn on shared users a map f that brings f(source vector) to the target
vector in squares (their section 4.2, the multi-layer perceptron), serve those new to the target
domain by f of their source vector. Here the factorisation is BPRMF, as the RecGURU paper says; a
tenth of the shared users are kept from learning to say when f is at its best; and the two vectors
of a user are merged as in `model.baselines.transfer`.

Shapes: S shared users, D width.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam

from model.baselines.bprmf import domain_factors
from model.baselines.factor_system import FactorSystem
from model.baselines.factors import Count, Rate, learn, torch_generator
from model.baselines.system import Tensors
from model.baselines.transfer import (
    Found,
    Merge,
    MergeSettings,
    TransferSettings,
    Validated,
    as_system,
    merge_pass,
    shared_vectors,
)
from model.data.training_data import TrainingData
from model.networks.perceptron import Perceptron
from model.settings import Settings
from model.training.descent import optimise
from model.training.selection import Selection

_MAPPING, _MERGING = 2, 3
_KEPT = 10  # one shared user in so many is kept from learning
_LOOK = 50  # steps between two looks at them


class MappingSettings(Settings):
    """The map from one domain's vectors to the other's."""

    hidden: Count = 128
    """Numbers in its hidden layer."""

    steps: Annotated[int, Field(ge=0)] = 1000
    """Most steps; every fiftieth the error is looked at."""

    batch_users: Count = 256
    """Shared users in a step."""

    learning_rate: Rate = 1e-3
    """Learning rate."""

    patience: Count = 5
    """Looks without a smaller error after which learning ends; the best map is kept."""


class MfemSettings(TransferSettings):
    """The vectors of each domain, the maps between them, and the layer that merges."""

    mapping: MappingSettings = MappingSettings()
    """The maps, one for each direction."""


class Mfem:
    """The kind of system: `fit` learns one, `restore` takes one back."""

    @classmethod
    def fit(cls, data: TrainingData, settings: MfemSettings, *, seed: int) -> FactorSystem:
        """Factorise each domain, learn the maps, then the merging layers; see `Kind.fit`."""
        found = domain_factors(data, settings.factors, seed=seed)
        merges = merged_by_maps(data, found, settings.mapping, settings.merge, seed=seed)
        return as_system(data, merges)

    @classmethod
    def restore(cls, data: TrainingData, settings: MfemSettings, tensors: Tensors) -> FactorSystem:
        """Take back a system; see `Kind.restore`."""
        return FactorSystem.restore(data, settings.factors.width, tensors)


def merged_by_maps(
    data: TrainingData, found: Found, mapping: MappingSettings, merge: MergeSettings, *, seed: int
) -> dict[str, Merge]:
    """Learn maps between the vectors of two domains, then to merge them -> by target domain."""
    vectors = shared_vectors(data, found)
    maps = [
        learn_map(vectors[place], vectors[1 - place], mapping, (seed, _MAPPING, place))
        for place in (0, 1)
    ]
    merges = {}
    for place, domain in enumerate(data.domains):
        merged = Merge(data, found, place, (maps[place], maps[1 - place]), merge)
        one_pass = merge_pass(data, merged, place, merge, (seed, _MERGING))
        validate = Validated(data, {domain.name: merged})
        learn([one_pass], merged, validate, merge, start_counts=True)
        merges[domain.name] = merged
    return merges


def learn_map(
    sources: Tensor, targets: Tensor, settings: MappingSettings, path: tuple[int, ...]
) -> Perceptron:
    """Learn to map the vectors (S, D) of shared users in one domain to those in the other.

    With fewer than two shared users there is nothing to learn: everyone is mapped to zeros.
    """
    width = sources.shape[1]
    network = Perceptron((width, settings.hidden, width), torch_generator(*path))
    order = np.random.default_rng(path).permutation(len(sources))
    kept, learned = np.split(order, [-(-len(order) // _KEPT)])
    if not len(learned):
        return network.requires_grad_(requires_grad=False)

    def closeness() -> float:
        with torch.no_grad():
            error = (network(sources[kept]) - targets[kept]).square().sum(dim=1).mean()
        return 1 / (1 + float(error))

    optimiser = Adam(network.parameters(), lr=settings.learning_rate)
    selection = Selection(network, closeness, interval=_LOOK, patience=settings.patience)
    for step in range(settings.steps):
        generator = np.random.default_rng([*path, step])
        users = generator.choice(learned, min(settings.batch_users, len(learned)), replace=False)
        loss = (network(sources[users]) - targets[users]).square().sum(dim=1).mean()
        optimise(optimiser, loss)
        if selection.is_due(step + 1):
            selection.look()
            if selection.is_over:
                break
    selection.finish()
    return network.requires_grad_(requires_grad=False)
