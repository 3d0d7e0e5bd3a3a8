"""The judges of alignment tell what is one from what is not."""

import numpy as np
import pytest
import torch

from model.training.alignment import (
    domain_accuracy,
    measure_alignment,
    rank_of_partner,
    sample_gurs,
)
from model.training.context import Context


def gaussian(users: int, *, shift: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(users, 16, generator=generator) + shift


def test_a_judge_of_equal_domains_is_at_chance() -> None:
    first, second = gaussian(2000, shift=0, seed=1), gaussian(2000, shift=0, seed=2)
    accuracy = domain_accuracy(first, second, np.random.default_rng(3))
    assert accuracy == pytest.approx(0.5, abs=0.05)  # 1,200 answers: a deviation is 0.014


def test_a_judge_finds_a_difference_that_no_plane_divides() -> None:
    first = gaussian(2000, shift=0, seed=1)
    second = 3 * gaussian(2000, shift=0, seed=2)  # the same mean, more spread
    assert domain_accuracy(first, second, np.random.default_rng(3)) > 0.9


def test_the_same_draws_judge_the_same() -> None:
    first, second = gaussian(300, shift=0, seed=1), gaussian(300, shift=0.3, seed=2)
    judged = [domain_accuracy(first, second, np.random.default_rng(seed)) for seed in (5, 5)]
    assert judged[0] == judged[1]


def test_ranks_of_partners_are_those_counted_by_hand() -> None:
    first = torch.tensor([[0.0, 0.0], [10.0, 0.0], [5.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [0.5, 0.0], [5.0, 0.0]])
    # From 0: own at 1, others at 0.5 and 5. From 10: own at 9.5, others at 9 and 5. From 5: own.
    assert rank_of_partner(first, second).tolist() == [2, 3, 1]


def test_equal_distances_count_against_the_user() -> None:
    everyone_alike = torch.zeros(4, 3)
    assert rank_of_partner(everyone_alike, everyone_alike).tolist() == [4, 4, 4, 4]


def test_users_whom_no_penalty_ties_are_looked_up_apart(context: Context) -> None:
    sample = sample_gurs(context, np.random.default_rng(1))
    shared = len(context.data.shared)

    found = measure_alignment(context, sample, np.random.default_rng(2))

    assert [each.shape for each in sample.by_domain.values()] == [(33, 16)] * 2  # south, not shared
    assert shared == 27
    assert (found.looked_up, found.untied_looked_up) == (27, 3)
    assert 1 <= found.untied_rank <= 3
    assert 1 <= found.shared_rank <= 27


def test_only_users_of_one_domain_are_judged(context: Context) -> None:
    sample = sample_gurs(context, np.random.default_rng(1))
    domain = context.data.domains[1]
    alone = np.flatnonzero(domain.other < 0)
    context.networks.eval()
    with torch.no_grad():
        everyone = context.gurs(domain, alone)
    apart = (sample.by_domain["south"].unsqueeze(1) - everyone).abs().amax(dim=2)
    assert (apart.min(dim=1).values < 1e-5).all()
