"""CnGAN: vectors in the domain where a user is not known are generated, adversarially learned.

Perera and Zimmermann, "CnGAN: generative adversarial networks for cross-network user preference
generation for non-overlapped users", WWW 2019. A generator makes a user's vector in the other
domain from the one in the target domain. A discriminator looks at pairs of vectors: a shared user's
own are real; those of two different shared users do not match; a user who is not shared with what
the generator made is synthetic. It learns to tell the real from both others, the generator to pass
its pairs for real while staying near the truth on shared users (their content loss).

For implicit feedback, as in section 6.2 of the RecGURU paper: vectors are those of BPRMF in place
of topics of texts, so the encoder falls away; the recommender merges both vectors
(`model.baselines.transfer`) and learns by pairs of items, not of users, and the generator goes on
learning with it (their multi-task training, here one after the other). The generator's adversarial
term is the one that does not saturate. Generators are made for both directions: the one back serves
those who are new to the target domain.

Shapes: U users of a domain, S shared users, B users of a step, D width.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
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
    shared_vectors,
)
from model.data.training_data import TrainingData
from model.networks.perceptron import Perceptron
from model.settings import Settings
from model.training.descent import optimise

_GENERATING, _MERGING = 4, 5


class GeneratorSettings(Settings):
    """Generator and discriminator, and how they learn against each other."""

    hidden: Count = 128
    """Numbers in the hidden layer of each."""

    steps: Annotated[int, Field(ge=0)] = 1000
    """Steps; in each the discriminator learns first, then the generator."""

    batch_users: Count = 128
    """Pairs of each sort in a step."""

    learning_rate: Rate = 1e-3
    """Learning rate of both."""

    adversarial_weight: Weight = 0.1
    """Weight of passing for real, beside the content loss."""


class CnGanSettings(TransferSettings):
    """The vectors of each domain, the generators between them, and the layer that merges."""

    generator: GeneratorSettings = GeneratorSettings()
    """The generators, one for each direction."""


class CnGan:
    """The kind of system: `fit` learns one, `restore` takes one back."""

    @classmethod
    def fit(cls, data: TrainingData, settings: CnGanSettings, *, seed: int) -> FactorSystem:
        """Factorise each domain, learn the generators, then merge; see `Kind.fit`."""
        found = domain_factors(data, settings.factors, seed=seed)
        generators = [
            learn_generator(data, found, place, settings.generator, (seed, _GENERATING, place))
            for place in (0, 1)
        ]
        merges = {}
        for place, domain in enumerate(data.domains):
            outward = deepcopy(generators[place]).requires_grad_()
            merge = Merge(
                data,
                found,
                place,
                (outward, generators[1 - place]),
                settings.merge,
                list(outward.parameters()),
            )
            one_pass = merge_pass(data, merge, place, settings.merge, (seed, _MERGING))
            validate = Validated(data, {domain.name: merge})
            learn([one_pass], merge, validate, settings.merge, start_counts=True)
            merges[domain.name] = merge
        return as_system(data, merges)

    @classmethod
    def restore(cls, data: TrainingData, settings: CnGanSettings, tensors: Tensors) -> FactorSystem:
        """Take back a system; see `Kind.restore`."""
        return FactorSystem.restore(data, settings.factors.width, tensors)


def learn_generator(
    data: TrainingData, found: Found, place: int, settings: GeneratorSettings, path: tuple[int, ...]
) -> Perceptron:
    """Learn to generate vectors of the other domain from those of the domain at `place`.

    With fewer than two shared users there is nothing to learn: zeros are generated.
    """
    domain = data.domains[place]
    both = shared_vectors(data, found)
    own, other = both[place], both[1 - place]
    width = own.shape[1]
    torch_random = torch_generator(*path)
    generator = Perceptron((width, settings.hidden, width), torch_random)
    discriminator = Perceptron((2 * width, settings.hidden, 1), torch_random)
    alone = np.flatnonzero(domain.other < 0)
    unmatched = torch.from_numpy(found[domain.name].users[alone]) if len(alone) else own
    optimisers = [
        Adam(network.parameters(), lr=settings.learning_rate)
        for network in (generator, discriminator)
    ]
    for real, mistaken, synthetic in _draws(len(own), len(unmatched), settings, path):
        left = unmatched[synthetic]
        made = torch.cat([left, generator(left)], dim=1)
        pairs = torch.cat([own[real], other[real]], dim=1)
        mismatched = torch.cat([own[real], other[mistaken]], dim=1)
        told = discrimination(discriminator, pairs, mismatched, made.detach())
        optimise(optimisers[1], told)
        content = (generator(own[real]) - other[real]).square().sum(dim=1).mean()
        passed = F.softplus(-discriminator(made)).mean()
        optimise(optimisers[0], content + settings.adversarial_weight * passed)
    return generator.requires_grad_(requires_grad=False)


def discrimination(
    discriminator: Perceptron, real: Tensor, mismatched: Tensor, synthetic: Tensor
) -> Tensor:
    """Give the loss of telling real pairs (B, 2 D) from mismatched and synthetic ones, a scalar."""
    told = F.softplus(-discriminator(real)).mean()
    for false in (mismatched, synthetic):
        told = told + F.softplus(discriminator(false)).mean()
    return told


def _draws(
    shared: int, unmatched: int, settings: GeneratorSettings, path: tuple[int, ...]
) -> Iterator[tuple[Places, Places, Places]]:
    """Draw each step's shared users, others in their place, and users of one domain (B,)."""
    steps = settings.steps if shared > 1 else 0
    for step in range(steps):
        random = np.random.default_rng([*path, step])
        real = random.integers(shared, size=settings.batch_users)
        mistaken = (real + random.integers(1, shared, settings.batch_users)) % shared
        yield real, mistaken, random.integers(unmatched, size=settings.batch_users)
