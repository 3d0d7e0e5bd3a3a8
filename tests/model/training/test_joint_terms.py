"""Each term of joint fine-tuning weighs what it should, and reaches what it should."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from model.arrays import Places
from model.data.training_data import TrainingDomain
from model.networks.settings import NetworkSettings
from model.training.context import Context
from model.training.joint import JointFineTuning
from model.training.reconstruction import autoencode
from model.training.settings import FineTuningSettings
from tests.model.training.context_making import QUICK, chained_dataset, context_of

NEXT_ITEMS = FineTuningSettings(joint=True, epochs=4, batch_users=16, negatives=20)
"""Nothing but the next items of both domains."""
Weights = Mapping[str, torch.Tensor]
Encoded = tuple[str, Places, Places | None]


def context_with(memory: object = "cold", **changes: object) -> Context:
    """Draw fresh networks without dropout, for a fine-tuning with some changes."""
    size = {**QUICK.network.model_dump(), "dropout": 0.0, "encoder_dropout": 0.0, "memory": memory}
    fine_tuning = FineTuningSettings.model_validate({**NEXT_ITEMS.model_dump(), **changes})
    settings = QUICK.model_copy(
        update={"network": NetworkSettings.model_validate(size), "fine_tuning": fine_tuning}
    )
    return context_of(chained_dataset(), settings)


def after_one_step(**changes: object) -> Weights:
    """Take the first step -> the weights of what serves."""
    context = context_with(**changes)
    JointFineTuning(context, 2).step(0)
    return context.networks.serving.state_dict()


def differing(some: Weights, others: Weights) -> set[str]:
    return {name for name, weight in some.items() if not torch.equal(weight, others[name])}


def losses_of(phase: JointFineTuning, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note what each step descends from here on."""
    losses: list[float] = []
    descend = phase._descent.step

    def step_down(loss: torch.Tensor, rate: float | None = None) -> None:
        losses.append(loss.item())
        descend(loss, rate)

    monkeypatch.setattr(phase._descent, "step", step_down)
    return losses


def test_the_adversarial_weight_rises_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    phase = JointFineTuning(context_with(adversarial_weight=1000.0), 2)
    distances: list[float] = []
    losses = losses_of(phase, monkeypatch)
    distance_of = phase._distance

    def distance() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found, figures = distance_of()
        distances.append(found.item())
        return found, figures

    monkeypatch.setattr(phase, "_distance", distance)

    for step in (0, phase.steps // 2 - 1, phase.steps - 1):
        figures = phase.step(step)
        beside = sum(each.item() for name, each in figures.items() if name.startswith("loss/"))
        weight = 1000 * (step + 1) / phase.steps
        assert abs(weight * distances[-1]) > 0.1
        assert losses[-1] - beside == pytest.approx(weight * distances[-1], rel=1e-3)


def test_cold_starts_leave_the_items_of_the_recommender_where_they_are() -> None:
    """The few users who are asked again and again would draw their items together."""
    without = after_one_step(cold_weight=1e-6)
    moved = differing(after_one_step(cold_weight=3.0), without)
    items = {name for name in without if "recommender" in name and "items" in name}
    assert len(items) == 2
    assert not items & moved
    assert {name.partition(".")[0] for name in moved} >= {"gur_encoder", "recommenders"}


def test_reconstruction_weighs_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_with(reconstruction_weight=0.5)
    phase = JointFineTuning(context, 2)
    before = {
        domain.name: autoencode(context, domain, context.share(domain, plan.batch(0)), None)[1]
        for domain, plan in zip(context.data.domains, phase._plans, strict=True)
    }
    losses = losses_of(phase, monkeypatch)

    figures = phase.step(0)

    rebuilt = {name: figures[f"reconstruction/{name}"].item() for name in before}
    next_items = sum(figures[f"loss/{name}"].item() for name in before)
    assert rebuilt == pytest.approx({name: loss.item() for name, loss in before.items()}, rel=0.1)
    assert losses == [pytest.approx(next_items + 0.5 * sum(rebuilt.values()), rel=1e-5)]


def test_decoders_learn_to_rebuild_only_where_it_weighs() -> None:
    longer = {"epochs": 20, "learning_rate": 5e-3}
    phases = [
        JointFineTuning(context_with("none", reconstruction_weight=weight, **longer), 2)
        for weight in (0.0, 1.0)
    ]
    learned = []
    for phase in phases:
        networks = phase._context.networks
        before = {name: weight.clone() for name, weight in networks.state_dict().items()}
        figures = [phase.step(step) for step in range(phase.steps)]
        learned.append(
            {name.partition(".")[0] for name in differing(networks.state_dict(), before)}
        )
    assert learned == [{"serving"}, {"serving", "reconstructors"}]
    first, last = (
        sum(figures[step][f"reconstruction/{name}"].item() for name in ("north", "south"))
        for step in (0, -1)
    )
    assert last < 0.9 * first


@pytest.mark.parametrize("beta_2", [0.9, 0.98])
def test_adam_takes_the_beta_of_the_settings(beta_2: float) -> None:
    phase = JointFineTuning(context_with(beta_2=beta_2), 2)
    betas = {
        name: optimiser.param_groups[0]["betas"]
        for name, optimiser in phase.optimisers().items()
        if name.startswith("serving")
    }
    assert betas == {"serving-dense": (0.9, beta_2)}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Encoded]:
    """Note whose rows are encoded, and how many of each."""
    noted: list[Encoded] = []
    encode = Context.gurs

    def gurs(
        context: Context, domain: TrainingDomain, users: Places, *, counts: Places | None = None
    ) -> torch.Tensor:
        noted.append((domain.name, users, counts))
        return encode(context, domain, users, counts=counts)

    monkeypatch.setattr(Context, "gurs", gurs)
    return noted


def test_the_other_gur_is_of_a_beginning_that_is_drawn_anew(encoded: list[Encoded]) -> None:
    context = context_with(memory="other")
    phase = JointFineTuning(context, 2)
    for step in range(20):
        phase.step(step)
    lengths = {domain.name: domain.training.lengths for domain in context.data.domains}
    beginnings: dict[tuple[str, int], set[int]] = {}
    for name, users, counts in encoded:
        assert counts is not None
        assert (counts >= 1).all()
        assert (counts <= lengths[name][users]).all()
        for user, count in zip(users.tolist(), counts.tolist(), strict=True):
            beginnings.setdefault((name, user), set()).add(count)
    long = [found for (name, user), found in beginnings.items() if lengths[name][user] >= 5]
    assert len(long) > 10
    assert np.mean([len(found) > 1 for found in long]) > 0.5


def test_the_critic_sees_users_of_any_length(encoded: list[Encoded]) -> None:
    """Those of a batch are of like length: it would tell short from long."""
    context = context_with(memory="none", adversarial_weight=1.0)
    phase = JointFineTuning(context, 2)
    spread: dict[str, list[int]] = {"north": [], "south": []}
    met: dict[str, set[int]] = {"north": set(), "south": set()}
    for step in range(20):
        encoded.clear()
        phase.step(step)
        for domain, (name, users, counts) in zip(context.data.domains, encoded, strict=True):
            assert (name, counts) == (domain.name, None)
            lengths = domain.training.lengths[users]
            spread[name].append(int(lengths.max() - lengths.min()))
            met[name] |= set(users.tolist())
    for domain in context.data.domains:
        assert min(spread[domain.name]) >= 3
        assert len(met[domain.name]) > 0.9 * len(domain.training)


@pytest.mark.parametrize(("scoring", "divided_by"), [("cosine", 0.25), ("inner", 1.0)])
def test_cosines_alone_are_sharpened(scoring: str, divided_by: float) -> None:
    context = context_with()
    network = context.settings.network.model_copy(update={"scoring": scoring})
    settings = context.settings.model_copy(update={"network": network, "temperature": 0.25})
    states = torch.tensor([[0.5, -1.0]])
    found = dataclasses.replace(context, settings=settings).sharpened(states)
    assert_close(found, states / divided_by)
