"""Joint fine-tuning learns next items, cold starts and one space, from nothing it may not see."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from model.data.dataset import Dataset
from model.inference import Inference
from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks, initialise
from model.training.alignment import rank_of_partner
from model.training.context import Context
from model.training.joint import JointFineTuning
from model.training.settings import FineTuningSettings
from model.training.start import NORM
from tests.model.training.context_making import QUICK, chained_dataset, context_of

ALL_TERMS = FineTuningSettings(
    joint=True,
    epochs=30,
    batch_users=16,
    learning_rate=5e-3,
    validation_steps=5,
    negatives=20,
    cold_weight=0.3,
    shared_weight=0.5,
    shared_loss="contrastive",
    adversarial_weight=0.1,
    shared_users=16,
)


SCORINGS: Mapping[str, Mapping[str, object]] = {
    "inner": {"scoring": "inner"},
    "cosine": {"scoring": "cosine", "recent_decay": 0.5},
}
"""Changes of the network's settings."""


def joint_context(changes: Mapping[str, object]) -> Context:
    """Draw fresh networks; all terms of the joint loss."""
    size = {**QUICK.network.model_dump(), "encoder_dropout": 0.0, **changes}
    settings = QUICK.model_copy(
        update={
            "network": NetworkSettings.model_validate(size),
            "fine_tuning": ALL_TERMS,
            "dense_items": 40,
        }
    )
    return context_of(chained_dataset(), settings)


@pytest.fixture(params=[*SCORINGS])
def joint(request: pytest.FixtureRequest) -> Context:
    """Give fresh networks with either way of scoring."""
    return joint_context(SCORINGS[request.param])


@dataclasses.dataclass(frozen=True)
class Learned:
    """A joint fine-tuning at its end."""

    context: Context
    phase: JointFineTuning
    readings: Sequence[Mapping[str, torch.Tensor]]
    """Of every step."""
    rank_before: float
    """Median rank of shared users' other GUR before the first step."""


@pytest.fixture(scope="module", params=[*SCORINGS])
def learned(request: pytest.FixtureRequest) -> Learned:
    """Train with either way of scoring; the networks are only to be read."""
    context = joint_context(SCORINGS[request.param])
    phase = JointFineTuning(context, 2)
    phase.begin()
    before = median_rank(context)
    readings = [phase.step(step) for step in range(phase.steps)]
    context.networks.eval()
    return Learned(context, phase, readings, before)


def median_rank(context: Context) -> float:
    context.networks.eval()
    shared = context.data.shared
    with torch.no_grad():
        gurs = [
            context.gurs(domain, shared[:, place])
            for place, domain in enumerate(context.data.domains)
        ]
    return float(rank_of_partner(gurs[0], gurs[1]).float().median())


def test_it_learns_both_rings_and_keeps_the_best_weights(learned: Learned) -> None:
    readings = learned.readings
    for name, left in (("loss/north", 0.7), ("loss/south", 0.7), ("cold/north", 0.95)):
        first, last = (
            np.mean([float(each[name].detach()) for each in part])
            for part in (readings[:5], readings[-5:])
        )
        assert last < left * first, name
    assert learned.phase.selection is not None
    assert learned.phase.selection.look()["validation_ndcg@10"] > 0.8


def test_shared_users_find_their_other_gur(learned: Learned) -> None:
    assert median_rank(learned.context) <= 2 < learned.rank_before


def test_a_user_who_is_new_to_a_domain_is_answered_from_the_other(learned: Learned) -> None:
    joint = learned.context
    names = [domain.name for domain in joint.data.domains]
    inference = Inference(
        joint.networks.serving, names, joint.settings.network, torch.device("cpu")
    )
    users = joint.data.shared
    south = joint.data.domains[1].training
    asked = inference.encode("north", [{"south": south[int(user)]} for user in users[:, 1]])
    table = joint.networks.serving.recommender("north").embedding.item_table().numpy()
    best = (asked.preferences @ table[1:].T).argsort(axis=1)[:, ::-1][:, :5] + 1
    north = joint.data.domains[0].training
    hits = [
        len(np.intersect1d(found, north[int(user)]))
        for found, user in zip(best, users[:, 0], strict=True)
    ]
    by_chance = 5 * np.mean([len(north[int(user)]) for user in users[:, 0]]) / 30
    assert np.mean(hits) > 2 * by_chance


def test_training_does_not_know_that_untied_users_are_shared(
    joint: Context, chained: Dataset
) -> None:
    everyone = {tuple(pair) for pair in chained.shared.tolist()}
    untied = {tuple(pair) for pair in joint.untied.tolist()}
    known = {tuple(pair) for pair in joint.data.shared.tolist()}
    assert (len(everyone), len(untied)) == (30, 3)
    assert known == everyone - untied
    north, south = joint.data.domains
    assert all(north.other[first] == -1 == south.other[second] for first, second in untied)
    assert all(north.other[first] == second for first, second in known)
    assert all(south.other[second] == first for first, second in known)


def test_the_adversarial_term_brings_the_domains_nearer(joint: Context) -> None:
    def apart_after(weight: float) -> float:
        changed = ALL_TERMS.model_copy(
            update={
                "adversarial_weight": weight,
                "cold_weight": 0.0,
                "shared_weight": 0.0,
                "epochs": 15,
            }
        )
        networks = TrainingNetworks({"north": 30, "south": 50}, joint.settings.network)
        initialise(networks, torch.Generator().manual_seed(1))
        able = joint.settings.adversarial.model_copy(
            update={"critic_rate": 1e-3, "critic_steps": 5}
        )
        settings = joint.settings.model_copy(update={"fine_tuning": changed, "adversarial": able})
        context = dataclasses.replace(joint, networks=networks, settings=settings)
        phase = JointFineTuning(context, 2)
        for step in range(phase.steps):
            phase.step(step)
        networks.eval()
        with torch.no_grad():
            first, second = (
                context.gurs(domain, np.arange(len(domain.training)))
                for domain in context.data.domains
            )
        return float((first.mean(dim=0) - second.mean(dim=0)).norm())

    assert apart_after(3.0) < 0.2 * apart_after(0.0)


@pytest.mark.parametrize(
    ("epochs", "least_steps", "steps"), [(2, 0, 10), (2, 50, 50), (20, 50, 100), (0, 50, 0)]
)
def test_small_data_is_passed_over_more_often(
    context: Context, epochs: int, least_steps: int, steps: int
) -> None:
    changed = ALL_TERMS.model_copy(update={"epochs": epochs, "least_steps": least_steps})
    settings = context.settings.model_copy(update={"fine_tuning": changed})
    phase = JointFineTuning(dataclasses.replace(context, settings=settings), 2)
    assert phase.steps == steps  # 80 users are five batches of 16, the larger domain's


def test_recommenders_may_start_apart_from_the_encoder(joint: Context) -> None:
    def tables(start: str) -> list[list[torch.Tensor]]:
        changed = joint.settings.fine_tuning.model_copy(update={"item_start": start})
        settings = joint.settings.model_copy(update={"fine_tuning": changed})
        JointFineTuning(dataclasses.replace(joint, settings=settings), 2).begin()
        serving = joint.networks.serving
        return [
            [
                table.items.weight.detach().clone()
                for table in (
                    serving.gur_encoder.embedding(domain.name),
                    serving.recommender(domain.name).embedding,
                )
            ]
            for domain in joint.data.domains
        ]

    for (encoder, same), (still, apart) in zip(
        tables("encoder"), tables("neighbours"), strict=True
    ):
        assert torch.equal(encoder, same)
        assert torch.equal(encoder, still)
        assert not torch.equal(encoder, apart)
        torch.testing.assert_close(apart[1:].norm(dim=1), torch.full((len(apart) - 1,), NORM))
        near = torch.nn.functional.cosine_similarity(apart[1:-1], apart[2:])  # next in the ring
        far = torch.nn.functional.cosine_similarity(apart[1:-15], apart[16:])
        assert near.mean() > 0.3 + far.mean()


def test_without_an_adversarial_term_no_critic_is_trained(joint: Context) -> None:
    settings = ALL_TERMS.model_copy(update={"adversarial_weight": 0.0})
    plain = dataclasses.replace(
        joint, settings=joint.settings.model_copy(update={"fine_tuning": settings})
    )
    phase = JointFineTuning(plain, 2)
    before = [weight.clone() for weight in joint.networks.critic.parameters()]
    figures = phase.step(0)
    assert "wasserstein" not in figures
    after = joint.networks.critic.parameters()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_where_nobody_is_shared_the_shared_losses_are_left_out(joint: Context) -> None:
    data = joint.data.with_untied(np.arange(len(joint.data.shared)))
    phase = JointFineTuning(dataclasses.replace(joint, data=data), 2)
    figures = phase.step(0)
    assert {"loss/north", "loss/south", "wasserstein"} <= set(figures)
    assert not {"cold/north", "cold/south", "shared"} & set(figures)


@pytest.mark.parametrize(("cold_rows", "asked"), [(0, {3, 2, 1}), (1, {1}), (2, {2, 1})])
def test_a_cold_start_asks_for_the_latest_rows_alone(
    joint: Context, cold_rows: int, asked: set[int]
) -> None:
    north, south = joint.data.domains
    weights = {name: weight.clone() for name, weight in joint.networks.state_dict().items()}

    def cold(*, back: int | None) -> float:
        """Give the first loss where each user's row so far from the end is another one."""
        joint.networks.load_state_dict(weights)
        rows = np.array(north.training.rows)
        if back is not None:
            places = north.training.ends - back
            rows[places] = rows[places] % north.items + 1
        training = dataclasses.replace(north.training, rows=rows)
        data = dataclasses.replace(
            joint.data, domains=(dataclasses.replace(north, training=training), south)
        )
        fine_tuning = ALL_TERMS.model_copy(update={"cold_rows": cold_rows})
        settings = joint.settings.model_copy(update={"fine_tuning": fine_tuning})
        phase = JointFineTuning(dataclasses.replace(joint, data=data, settings=settings), 2)
        return float(phase.step(0)["cold/north"].detach())

    assert north.training.lengths.min() == 3
    as_it_is = cold(back=None)
    assert cold(back=None) == as_it_is
    assert {back for back in (3, 2, 1) if cold(back=back) != as_it_is} == asked
