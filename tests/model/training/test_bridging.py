"""Bridges learn what users new to a domain may prefer, from the other domain alone."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from model.data.dataset import Dataset, DomainData, Sequences
from model.data.vocabulary import StringTable, Vocabulary
from model.inference import Inference
from model.networks.settings import NetworkSettings
from model.training.bridging import KEPT, Bridging
from model.training.context import Context
from model.training.settings import BridgingSettings
from tests.model.training.context_making import QUICK, context_of

ITEMS = 20
BRIDGING = BridgingSettings(steps=300, batch_users=64, learning_rate=0.02, negatives=12)


def linked_dataset(*, users: int, shared: int) -> Dataset:
    """Make two rings; where a user is in the one says where the user is in the other."""
    starts = np.random.default_rng(1).integers(ITEMS, size=users)
    domains = []
    for name, turn in (("north", 0), ("south", 7)):
        rows = [
            ((start + turn + np.arange(6)) % ITEMS + 1).astype(np.int32)
            for start in starts.tolist()
        ]
        items = Vocabulary(StringTable.of(f"{name}-{item:03d}" for item in range(ITEMS)))
        known = StringTable.of(f"u{user:04d}" for user in range(users))
        domains.append(DomainData(name, items, known, Sequences.of(rows)))
    pairs = np.repeat(np.arange(shared, dtype=np.int32)[:, None], 2, axis=1)
    return Dataset((domains[0], domains[1]), pairs, "digest", {})


def bridged(dataset: Dataset, changes: Mapping[str, object]) -> Context:
    size = {**QUICK.network.model_dump(), "memory": "cold", "bridge_share": 0.99, **changes}
    network = NetworkSettings.model_validate(size)
    return context_of(dataset, QUICK.model_copy(update={"network": network, "bridging": BRIDGING}))


def run(context: Context) -> Bridging:
    phase = Bridging(context, 3)
    phase.begin()
    assert phase.selection is not None
    for step in range(phase.steps):
        phase.step(step)
        if phase.selection.is_due(step + 1):
            phase.selection.look()
            if phase.selection.is_over:
                break
    phase.selection.finish()
    context.networks.eval()
    return phase


def inference_of(context: Context) -> Inference:
    names = [domain.name for domain in context.data.domains]
    return Inference(context.networks.serving, names, context.settings.network, context.device)


@pytest.mark.parametrize(
    "changes",
    [{}, {"scoring": "cosine", "recent_decay": 0.5}, {"memory": "other"}],
    ids=["inner", "cosine", "other GUR read by all"],
)
def test_whoever_is_new_is_answered_as_shared_users_were(changes: dict[str, object]) -> None:
    context = bridged(linked_dataset(users=260, shared=200), changes)
    run(context)
    north, south = context.data.domains
    newcomers = range(200, 260)  # nobody has been told that these are in both
    table = context.networks.serving.recommender("north").embedding.item_table().numpy()
    asked = inference_of(context).prefer("north", [{"south": south.training[u]} for u in newcomers])
    best = (asked.preferences @ table[1:].T).argmax(axis=1) + 1
    latest = [int(north.training[user][-1]) for user in newcomers]
    assert np.mean(best == latest) > 0.9


def test_with_cosine_scoring_a_bridge_starts_with_a_direction_that_can_be_turned() -> None:
    context = bridged(linked_dataset(users=60, shared=60), {"scoring": "cosine"})
    Bridging(context, 3).begin()
    with torch.no_grad():
        lengths = context.networks.serving.bridge("north").eval()(torch.eye(16)).norm(dim=-1)
    assert torch.allclose(lengths, torch.ones(16))  # zeros have none


def test_nothing_else_learns() -> None:
    context = bridged(linked_dataset(users=60, shared=60), {"bridge_share": 0.5})
    phase = Bridging(context, 3)
    phase.begin()
    before = {name: value.clone() for name, value in context.networks.state_dict().items()}
    phase.step(0)
    after = context.networks.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("serving.bridges.") for name in moved)


def test_a_tenth_is_kept_from_learning_and_says_which_bridges_are_best() -> None:
    dataset = linked_dataset(users=60, shared=60)

    def after_a_step(turned: str) -> tuple[torch.Tensor, float]:
        context = bridged(dataset, {})
        phase = Bridging(context, 3)
        places = {"kept": phase._kept, "learned": phase._learned, "nobody": phase._kept[:0]}
        domain = context.data.domains[0]
        for user in phase._shared[places[turned], 0].tolist():
            rows = domain.training[user]
            rows[-1] = rows[-1] % ITEMS + 1
        phase.begin()
        phase.step(0)
        phase.step(1)
        bridge = context.networks.serving.bridge("north")
        weights = torch.cat([each.detach().flatten() for each in bridge.parameters()])
        assert phase.selection is not None
        likelihoods = {phase.selection.look()[KEPT] for _ in range(2)}
        assert len(likelihoods) == 1  # of the same negatives
        return weights, likelihoods.pop()

    as_it_is, likelihood = after_a_step("nobody")
    with_kept, otherwise = after_a_step("kept")
    with_learned, _ = after_a_step("learned")
    assert torch.equal(with_kept, as_it_is)
    assert otherwise != likelihood
    assert likelihood < 0
    assert not torch.equal(with_learned, as_it_is)


@pytest.mark.parametrize("shared", [0, 1])
def test_with_hardly_a_shared_user_the_gur_answers_alone(shared: int) -> None:
    context = bridged(linked_dataset(users=30, shared=shared), {"bridge_share": 0.4})
    phase = run(context)
    assert phase.steps == 0
    history = {"south": context.data.domains[1].training[3]}
    found = inference_of(context).prefer("north", [history]).preferences
    plain = context.settings.network.model_copy(update={"bridge_share": 0.0})
    inference = Inference(context.networks.serving, ["north", "south"], plain, context.device)
    expected = 0.6 * inference.prefer("north", [history]).preferences
    np.testing.assert_allclose(found, expected, atol=1e-6)
