"""Each phase learns what it is for, from nothing it may not see."""

import dataclasses

import numpy as np
import pytest
import torch

from model.arrays import Floats, Rows
from model.data.dataset import Dataset, DomainData, Sequences
from model.data.training_data import TrainingData
from model.data.vocabulary import StringTable
from model.errors import BadDataError
from model.inference import Inference
from model.training.context import Context
from model.training.draws import BatchPlan, Draws
from model.training.fine_tuning import FineTuning
from model.training.memory import draw_views
from model.training.phase import Phase
from model.training.phases import Adversarial, PreTraining


def first_and_last(phase: Phase, figure: str) -> tuple[float, float]:
    phase.begin()
    readings = [float(phase.step(step)[figure].detach()) for step in range(phase.steps)]
    return float(np.mean(readings[:3])), float(np.mean(readings[-3:]))


def test_pre_training_halves_the_reconstruction_loss_of_a_ring(context: Context) -> None:
    settings = context.settings.pre_training.model_copy(
        update={"epochs": 30, "item_start": "random"}
    )
    context = _with(context, pre_training=settings)
    before, after = first_and_last(PreTraining(context, 0), "reconstruction/north")
    assert before == pytest.approx(np.log(30), rel=0.05)  # uniform over 30 items
    assert after < before / 2


def test_the_learning_rate_rises_for_the_warm_up_and_falls_after_it(context: Context) -> None:
    phase = PreTraining(context, 0)
    rates = []
    for step in (0, 9, 39):  # warm-up of 10 steps
        phase.step(step)
        rates.append(phase.optimisers()["autoencoder-dense"].param_groups[0]["lr"])
    by_hand = [16**-0.5 * 1 * 10**-1.5, 16**-0.5 * 10**-0.5, 16**-0.5 * 40**-0.5]
    assert rates == pytest.approx(by_hand)


def test_the_critic_step_leaves_encoder_alone_and_the_generator_step_the_critic(
    context: Context,
) -> None:
    phase = Adversarial(context, 1)
    encoder, critic = context.networks.serving.gur_encoder, context.networks.critic
    started = _weights(encoder), _weights(critic)
    phase._draws.start_step(0, context.networks)
    phase._critic_steps()
    assert torch.equal(_weights(encoder), started[0])
    assert not torch.equal(_weights(critic), started[1])
    criticised = _weights(critic)
    phase.step(1)
    moved = _weights(encoder)
    assert not torch.equal(moved, started[0])
    assert not torch.equal(_weights(critic), criticised)  # the step's own critic steps
    assert all(parameter.requires_grad for parameter in critic.parameters())


def test_the_critic_learns_from_gurs_made_as_those_that_it_judges(context: Context) -> None:
    dropping: list[bool] = []
    encoder = context.networks.serving.gur_encoder
    encoder.register_forward_hook(lambda network, *_: dropping.append(network.training))
    context.networks.eval()
    Adversarial(context, 1).step(0)
    assert dropping
    assert all(dropping)


def test_the_critic_learns_to_tell_two_untouched_domains_apart(context: Context) -> None:
    settings = context.settings.adversarial.model_copy(update={"critic_rate": 1e-3})
    phase = Adversarial(_with(context, adversarial=settings), 1)
    distances = []
    for step in range(60):
        phase._draws.start_step(step, context.networks)
        distances.append(float(phase._critic_steps()["wasserstein"].detach()))
    assert np.mean(distances[-5:]) > 3 * abs(np.mean(distances[:5]))


def test_fine_tuning_learns_a_ring(context: Context) -> None:
    phase = FineTuning(context, 2, context.data.domains[0])
    settings = context.settings.fine_tuning.model_copy(update={"epochs": 60, "learning_rate": 3e-3})
    phase = FineTuning(_with(context, fine_tuning=settings), 2, context.data.domains[0])
    before, after = first_and_last(phase, "loss")
    assert after < before / 2
    assert phase.selection is not None
    assert phase.selection.look()["validation_ndcg@10"] > 0.8


def test_bpr_is_there_for_who_asks_for_it(context: Context) -> None:
    settings = context.settings.fine_tuning.model_copy(
        update={"epochs": 20, "loss": "bpr", "learning_rate": 3e-3}
    )
    phase = FineTuning(_with(context, fine_tuning=settings), 2, context.data.domains[0])
    before, after = first_and_last(phase, "loss")
    assert before == pytest.approx(2 * np.log(2), rel=0.05)  # two coins, equation 12 at zero scores
    assert after < 0.9 * before


def test_fine_tuning_moves_its_own_recommender_and_nothing_else(context: Context) -> None:
    phase = FineTuning(context, 2, context.data.domains[0])
    phase.begin()
    serving = context.networks.serving
    others = [serving.gur_encoder, serving.recommender("south"), context.networks.critic]
    before = [_weights(network) for network in [*others, serving.recommender("north")]]
    phase.step(0)
    after = [_weights(network) for network in [*others, serving.recommender("north")]]
    same = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert same == [True, True, True, False]


@pytest.mark.parametrize("place", [0, 1])
def test_a_step_at_the_cut_is_trained_as_it_is_served(context: Context, place: int) -> None:
    """Where the cut lies right before the last row, that row is predicted as serving would.

    An earlier step stands elsewhere, for positions are counted from the end: there what the step
    may read is compared alone.
    """
    domain = context.data.domains[place]
    other = context.data.domains[1 - place]
    phase = FineTuning(context, 2 + place, domain)
    phase.begin()
    context.networks.eval()
    users = np.arange(30)
    phase._draws.start_step(4)
    size = context.settings.network
    views = draw_views(domain, users, size=size, hide_other=0.0, generator=phase._draws.numpy)
    rows = context.rows(domain, users)
    shown = torch.from_numpy(views.shown(rows.shape[1]))
    with torch.no_grad():
        states = phase._recommender(rows[:, :-1], phase._gurs(users, views), shown).numpy()
    lengths, cuts = domain.training.lengths[users], views.counts
    histories = []
    for user, cut in zip(users, cuts, strict=True):
        history = {domain.name: domain.training[int(user)][:cut]}
        if domain.other[user] >= 0:
            history[other.name] = other.training[int(domain.other[user])]
        histories.append(history)
    compared = 0
    names = [each.name for each in context.data.domains]
    served = Inference(
        context.networks.serving, names, context.settings.network, context.device
    ).encode(domain.name, histories)
    for row in range(len(users)):
        step = rows.shape[1] - int(lengths[row]) + int(cuts[row])  # it has read `cut` items
        alone = _served_position(context, phase, histories[row], domain.name)
        np.testing.assert_allclose(served.preferences[row], alone, atol=1e-5)
        assert not shown[row, :step, 0].any()
        assert shown[row, step:, 0].all()
        if cuts[row] == lengths[row] - 1:
            np.testing.assert_allclose(states[row, -1], served.preferences[row], atol=1e-5)
            compared += 1
    assert compared > 1


def _served_position(
    context: Context, phase: FineTuning, history: dict[str, Rows], domain: str
) -> Floats:
    own = torch.from_numpy(history[domain].astype(np.int64)).unsqueeze(0)
    encoder = context.networks.serving.gur_encoder
    with torch.no_grad():
        gurs = [
            encoder(name, torch.from_numpy(rows.astype(np.int64)).unsqueeze(0))
            for name, rows in history.items()
        ]
        memory = torch.stack(gurs, dim=1)
        shown = torch.ones(1, own.shape[1] + 1, len(gurs), dtype=torch.bool)
        shown[:, :-1, 0] = False
        preferences: Floats = phase._recommender(own, memory, shown)[0, -1].numpy()
    return preferences


def test_training_data_cannot_reach_a_test_row(chained: Dataset) -> None:
    data = TrainingData.of(chained)
    for domain, source in zip(data.domains, chained.domains, strict=True):
        for user in range(len(source.sequences)):
            rows = source.sequences[user]
            np.testing.assert_array_equal(domain.training[user], rows[:-2])
            assert domain.validation[user] == rows[-2]


def test_partners_are_each_other(chained: Dataset) -> None:
    first, second = TrainingData.of(chained).domains
    for user, partner in enumerate(first.other):
        if partner >= 0:
            assert second.other[partner] == user
            assert chained.domains[0].users[user] == chained.domains[1].users[int(partner)]


def test_an_empty_domain_is_refused(chained: Dataset) -> None:
    first, second = chained.domains
    empty = DomainData("south", second.vocabulary, StringTable.of([]), Sequences.of([]))
    dataset = Dataset((first, empty), np.empty((0, 2), np.int32), "", {})
    with pytest.raises(BadDataError, match="domain south of the dataset is empty"):
        TrainingData.of(dataset)


def test_every_user_is_trained_on_once_an_epoch() -> None:
    lengths = np.random.default_rng(1).integers(1, 30, 103)
    plan = BatchPlan(lengths, 16, (1, 2))
    for epoch in range(2):
        first = epoch * plan.steps_per_epoch
        batches = [plan.batch(first + step) for step in range(plan.steps_per_epoch)]
        assert sorted(np.concatenate(batches)) == list(range(103))
    assert not np.array_equal(plan.batch(0), plan.batch(plan.steps_per_epoch))


def test_a_step_draws_the_same_whenever_it_comes() -> None:
    draws = Draws(3, 1, torch.device("cpu"))

    def drawn(step: int) -> tuple[float, float]:
        draws.start_step(step)
        return draws.numpy.random(), float(torch.rand(1, generator=draws.torch))

    first, second = drawn(7), drawn(8)
    assert drawn(7) == first != second
    other = Draws(4, 1, torch.device("cpu"))
    other.start_step(7)
    assert other.numpy.random() != first[0]


def _with(context: Context, **changes: object) -> Context:
    settings = context.settings.model_copy(update=changes)
    return dataclasses.replace(context, settings=settings)


def _weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()
