"""What a recommender learns from is what it will see when it serves."""

import numpy as np
import pytest
import torch

from model.data.training_data import TrainingData
from model.networks.settings import NetworkSettings
from model.training.context import Context
from model.training.fine_tuning import FineTuning
from model.training.joint import JointFineTuning
from model.training.memory import draw_views
from tests.model.training.context_making import QUICK, chained_dataset, context_of

RECENT = 3
STRETCH = RECENT + 1  # and one more is predicted


def short_sighted(max_history: int, **fine_tuning: object) -> Context:
    """Draw networks whose recommender reads 3 items of up to 9, the encoder as many as given."""
    size = QUICK.network.model_dump()
    size |= {"max_history": max_history, "recent": RECENT, "memory": "both"}
    settings = QUICK.model_dump() | {"network": size}
    settings["fine_tuning"] |= fine_tuning
    return context_of(chained_dataset(), type(QUICK).model_validate(settings))


def read_in_steps(context: Context, phase: FineTuning | JointFineTuning) -> list[torch.Tensor]:
    """Run ten steps -> what the recommender of the first domain was given to read."""
    read: list[torch.Tensor] = []
    recommender = context.networks.serving.recommender(context.data.domains[0].name)
    recommender.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    phase.begin()
    for step in range(10):
        phase.step(step)
    return [rows for rows in read if rows.shape[1]]  # cold starts are read as nothing


@pytest.mark.parametrize("max_history", [RECENT, 8])
def test_a_domain_by_itself_learns_from_as_much_as_it_will_read(max_history: int) -> None:
    context = short_sighted(max_history)
    read = read_in_steps(context, FineTuning(context, 2, context.data.domains[0]))
    assert read
    assert {rows.shape[1] for rows in read} == {RECENT}


@pytest.mark.parametrize("max_history", [RECENT, 8])
def test_joint_fine_tuning_learns_from_as_much_as_it_will_read(max_history: int) -> None:
    context = short_sighted(max_history, joint=True, cold_weight=0.3, shared_weight=0.5)
    read = read_in_steps(context, JointFineTuning(context, 2))
    assert read
    assert {rows.shape[1] for rows in read} == {RECENT}


def test_who_has_one_training_row_learns_from_the_other_gur_as_a_cold_start_reads_it() -> None:
    size = QUICK.network.model_dump() | {"memory": "cold"}
    settings = QUICK.model_dump() | {"network": size}
    settings["fine_tuning"] |= {"joint": True, "hide_other": 0.5}
    context = context_of(chained_dataset(shortest=3), type(QUICK).model_validate(settings))
    phase = JointFineTuning(context, 2)
    given: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for domain in context.data.domains:
        recommender = context.networks.serving.recommender(domain.name)
        recommender.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    phase.begin()
    for step in range(10):
        phase.step(step)

    reading = [shown[:, :, 1].any(dim=1) & (rows == 0).all(dim=1) for rows, _, shown in given]
    read = torch.cat([gurs[who, 1] for (_, gurs, _), who in zip(given, reading, strict=True)])
    unread = torch.cat([gurs[~who, 1] for (_, gurs, _), who in zip(given, reading, strict=True)])
    assert len(read) > 5
    assert bool(read.any(dim=1).all())
    assert not unread.any()


def test_each_row_the_encoder_may_read_is_predicted_and_no_earlier_one() -> None:
    domain = TrainingData.of(chained_dataset()).domains[0]
    lengths = domain.training.lengths
    user = int(lengths.argmax())
    size = NetworkSettings(width=4, max_history=6, recent=RECENT)
    views = draw_views(
        domain,
        np.full(2000, user),
        size=size,
        hide_other=0.5,
        generator=np.random.default_rng(3),
    )
    assert lengths[user] > size.max_history
    firsts, lasts = views.ends - STRETCH, views.ends - 1
    assert firsts.min() == lengths[user] - size.max_history
    assert lasts.max() == lengths[user] - 1
    assert set(views.ends) == set(range(firsts.min() + STRETCH, lengths[user] + 1))


def test_no_step_reads_a_gur_that_was_made_of_what_it_predicts() -> None:
    domain = TrainingData.of(chained_dataset()).domains[0]
    users = np.arange(len(domain.training)).repeat(20)
    size = NetworkSettings(width=4, max_history=8, recent=RECENT)
    views = draw_views(domain, users, size=size, hide_other=0.5, generator=np.random.default_rng(3))
    predicted = np.arange(STRETCH) + (views.ends - STRETCH)[:, None]  # place in the history
    own = views.shown(STRETCH)[:, :, 0]
    assert own.any()
    assert (predicted >= views.counts[:, None])[own].all()
    assert own[:, -1].all()  # the last step comes after every cut


def test_of_shared_users_alone_a_share_is_shown_without_the_other_gur() -> None:
    domain = TrainingData.of(chained_dataset()).domains[0]
    users = np.tile(np.arange(len(domain.training)), 200)
    shared = domain.other[users] >= 0
    assert set(shared.tolist()) == {True, False}

    for share in (0.0, 0.25, 1.0):
        generator = np.random.default_rng(1)
        views = draw_views(domain, users, size=QUICK.network, hide_other=share, generator=generator)
        assert not views.other[~shared].any()
        assert abs(float(views.other[shared].mean()) - (1 - share)) < 0.03


@pytest.mark.parametrize("joint", [False, True])
def test_the_rate_of_fine_tuning_falls_to_zero_in_a_straight_line(*, joint: bool) -> None:
    context = short_sighted(8, joint=joint, learning_rate=0.004)
    phase = (
        JointFineTuning(context, 2) if joint else FineTuning(context, 2, context.data.domains[0])
    )
    phase.begin()

    for step in (0, phase.steps // 2):
        phase.step(step)
        rates = {group["lr"] for each in phase.optimisers().values() for group in each.param_groups}
        assert max(rates) == pytest.approx(0.004 * (1 - step / phase.steps))
