"""How far the domains' GURs are one: measured with judges that training never sees.

A fresh classifier is trained to name the domain of GURs and asked about users it has not met: near
50 % it cannot, the domains look alike. And for a shared user the GUR of the one domain is looked up
among the GURs of many shared users in the other: rank 1 is the user's own.

Shapes: B users, D width, S shared users.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from model.arrays import Places
from model.data.training_data import TrainingDomain
from model.files import write_bytes_atomically
from model.networks.blocks import undrawn_linear
from model.training.context import Context
from model.training.descent import optimise

GURS = "gurs-{phase}.safetensors"
"""What `write_gurs` leaves in a run: by domain (B, D), float32."""
FIGURES = (
    "domain_accuracy",
    "shared_rank",
    "shared_looked_up",
    "untied_rank",
    "untied_looked_up",
)
USERS = 3000
"""Most users of each domain that the classifier sees; 7 in 10 to learn from, the rest to judge."""
LOOKED_UP = 800
"""Most shared users among whom one is looked up."""
_LEARNED_SHARE = 0.7
_HIDDEN, _BATCH, _RATE = 128, 256, 3e-3
_EPOCHS, _LEAST_STEPS, _MOST_STEPS = 25, 100, 400
"""Few users are learned by heart in more steps, and judged no better."""
_FEW = 20  # with fewer unshared users in a domain all of its users are judged


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the judges found."""

    accuracy: float
    """Share of held-out GURs whose domain a fresh classifier names; 0.5 is chance."""
    shared_rank: float
    """Median rank of a shared user's GUR of the other domain among those of `looked_up` users; 0
    where no user is shared."""
    looked_up: int
    """Shared users looked up among each other."""
    untied_rank: float
    """As `shared_rank`, for users whom training did not know to be shared; 0 for none."""
    untied_looked_up: int
    """Users of `untied_rank`."""

    def figures(self) -> Mapping[str, float]:
        """Spell it for records and summaries, by the names of `FIGURES`."""
        figures = (
            self.accuracy,
            self.shared_rank,
            self.looked_up,
            self.untied_rank,
            self.untied_looked_up,
        )
        return dict(zip(FIGURES, figures, strict=True))


@dataclass(frozen=True, slots=True)
class Sample:
    """GURs of users that are not shared, equally many of each domain."""

    by_domain: Mapping[str, Tensor]
    """(B, D) each."""


def sample_gurs(context: Context, generator: np.random.Generator) -> Sample:
    """Encode the training rows of users drawn from each domain, unshared ones if there are any."""
    first, second = context.data.domains
    pools = [_unshared(domain) for domain in (first, second)]
    count = min(USERS, *(len(pool) for pool in pools))
    chosen = [generator.choice(pool, count, replace=False) for pool in pools]
    return Sample(
        {
            first.name: _gurs(context, first, chosen[0]),
            second.name: _gurs(context, second, chosen[1]),
        }
    )


def measure_alignment(
    context: Context, sample: Sample, generator: np.random.Generator
) -> Alignment:
    """Judge how far the domains are one.

    Args:
        context: The training; its networks are put into evaluation mode.
        sample: From `sample_gurs`.
        generator: Draws the judges and whom they see.
    """
    first, second = sample.by_domain.values()
    tied = generator.permutation(context.data.shared)[:LOOKED_UP]
    untied = generator.permutation(context.untied)[:LOOKED_UP]
    return Alignment(
        accuracy=domain_accuracy(first, second, generator),
        shared_rank=_shared_rank(context, tied),
        looked_up=len(tied),
        untied_rank=_shared_rank(context, untied),
        untied_looked_up=len(untied),
    )


def write_gurs(run: Path, phase: str, sample: Sample) -> None:
    """Leave a sample in the run's folder, to draw."""
    write_bytes_atomically(run / GURS.format(phase=phase), save(dict(sample.by_domain)))


def domain_accuracy(first: Tensor, second: Tensor, generator: np.random.Generator) -> float:
    """Train a classifier with one hidden layer on 7 in 10 GURs (B, D) of each domain.

    Returns:
        Its share of right answers on the rest, between 0 and 1; 0.5 for too few to learn from.
    """
    draws = torch.Generator().manual_seed(int(generator.integers(2**63)))
    learned = int(_LEARNED_SHARE * len(first))
    if not learned:
        return 0.5
    gurs = torch.cat([first[:learned], second[:learned], first[learned:], second[learned:]])
    gurs = gurs.detach().cpu().to(torch.get_default_dtype())  # as the classifier is
    labels = torch.cat([_labels(learned), _labels(len(first) - learned)])
    seen = gurs[: 2 * learned]
    gurs = (gurs - seen.mean(dim=0)) / (seen.std(dim=0) + 1e-6)
    layers = undrawn_linear(gurs.shape[1], _HIDDEN), undrawn_linear(_HIDDEN, 1)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, generator=draws)
        nn.init.zeros_(layer.bias)
    judge = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    optimiser = torch.optim.Adam(judge.parameters(), lr=_RATE, weight_decay=1e-4, fused=True)
    steps = _EPOCHS * math.ceil(2 * learned / _BATCH)
    for _ in range(min(max(steps, _LEAST_STEPS), _MOST_STEPS)):
        chosen = torch.randint(2 * learned, (_BATCH,), generator=draws)
        loss = F.binary_cross_entropy_with_logits(judge(gurs[chosen]).squeeze(1), labels[chosen])
        optimise(optimiser, loss)
    with torch.no_grad():
        said = judge(gurs[2 * learned :]).squeeze(1) > 0
    return float((said == (labels[2 * learned :] > 0)).float().mean())


def rank_of_partner(first: Tensor, second: Tensor) -> Tensor:
    """Look each row of `first` up among the rows of `second` by distance -> ranks (S,), from 1.

    Args:
        first: GURs of shared users in the one domain, (S, D).
        second: GURs of the same users in the other, (S, D). Ties count against the user.
    """
    distances = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances <= distances.diagonal().unsqueeze(1)).sum(dim=1)


def _shared_rank(context: Context, users: Places) -> float:
    if not len(users):
        return 0.0
    first, second = (
        _gurs(context, domain, users[:, place]) for place, domain in enumerate(context.data.domains)
    )
    return float(rank_of_partner(first, second).float().median())


def _unshared(domain: TrainingDomain) -> Places:
    alone = np.flatnonzero(domain.other < 0)
    return alone if len(alone) >= _FEW else np.arange(len(domain.other))


def _gurs(context: Context, domain: TrainingDomain, users: Places) -> Tensor:
    context.networks.eval()
    return context.gurs_of_many(domain, users).cpu()


def _labels(count: int) -> Tensor:
    return torch.cat([torch.ones(count), torch.zeros(count)])
