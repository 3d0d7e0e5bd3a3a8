"""Bridges at work: who is new to a domain is answered from the GUR and over the bridge."""

import numpy as np
import pytest
import torch

from model.arrays import Floats, Rows
from model.basis import Basis
from model.inference import Inference
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, TrainingNetworks, initialise

SIZE = NetworkSettings(width=12, heads=3, layers=2, feed_forward=20, max_history=8, recent=5)
TOLERANCE = 1e-5


def rows(*numbers: int) -> Rows:
    return np.asarray(numbers, np.int32)


# Users of each kind for the target domain films.
HISTORIES = [
    {"films": rows(3, 14, 1), "books": rows(9, 2)},
    {"books": rows(1, 2, 3, 4)},
    {},
    {"films": rows(5)},
    {"films": rows(), "books": rows(7)},
]


def inference_of(networks: ServingNetworks, settings: NetworkSettings) -> Inference:
    return Inference(networks, ["films", "books"], settings, torch.device("cpu"))


def draw(networks: ServingNetworks) -> None:
    initialise(networks, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(5)
    for domain in ("films", "books"):
        networks.bridge(domain).perceptron.draw(generator, out_spread=1.0)


def over_the_bridge(networks: ServingNetworks, preferences: Floats) -> Floats:
    """Multiply out the bridge to films, (B, D) -> (B, D)."""
    first, second = (
        (layer.weight.numpy(), layer.bias.numpy())
        for layer in (
            networks.bridge("films").perceptron.hidden,
            networks.bridge("films").perceptron.out,
        )
    )
    crossed: Floats = np.tanh(preferences @ first[0].T + first[1]) @ second[0].T + second[1]
    return crossed


def unit(vectors: Floats) -> Floats:
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize("memory", ["other", "cold"])
@pytest.mark.parametrize("scoring", ["inner", "cosine"])
def test_newcomers_are_answered_from_the_gur_and_over_the_bridge(scoring: str, memory: str) -> None:
    changes = {"bridge_share": 0.25, "bridge_hidden": 7, "scoring": scoring, "memory": memory}
    size = NetworkSettings.model_validate(SIZE.model_dump() | changes)
    networks = ServingNetworks({"films": 14, "books": 9}, size)
    draw(networks)
    networks.requires_grad_(requires_grad=False).eval()

    inference = inference_of(networks, size)
    found, alone = inference.encode("films", HISTORIES), inference.prefer("films", HISTORIES)

    from_gurs = inference_of(networks, size.model_copy(update={"bridge_share": 0.0}))
    expected = from_gurs.encode("films", HISTORIES)
    new = [basis is Basis.CROSS_DOMAIN for basis in expected.bases]
    assert new == [False, True, False, False, True]
    others = [
        {"books": history["books"]}
        for history, is_new in zip(HISTORIES, new, strict=True)
        if is_new
    ]
    crossed = over_the_bridge(networks, from_gurs.prefer("books", others).preferences)
    blend = 0.75 * expected.preferences[new] + 0.25 * (
        unit(crossed) if scoring == "cosine" else crossed
    )
    wanted = np.array(expected.preferences)
    wanted[new] = unit(blend) if scoring == "cosine" else blend
    assert np.abs(wanted - expected.preferences)[new].max(axis=1).min() > 100 * TOLERANCE
    for answered in (found, alone):
        np.testing.assert_allclose(answered.preferences, wanted, atol=TOLERANCE)
        assert answered.bases == expected.bases
    np.testing.assert_allclose(found.gurs, expected.gurs, atol=TOLERANCE)


def test_a_bridge_drops_what_it_reads_in_training_alone() -> None:
    size = SIZE.model_copy(update={"bridge_share": 0.5, "dropout": 0.5})
    networks = ServingNetworks({"films": 14, "books": 9}, size)
    draw(networks)
    bridge = networks.bridge("films")
    bridge.dropout.generator = torch.Generator().manual_seed(1)
    vectors = torch.ones(1, 12)
    answers = [bridge.train()(vectors) for _ in range(2)]
    assert not torch.equal(*answers)
    answers = [bridge.eval()(vectors) for _ in range(2)]
    assert torch.equal(*answers)


def test_what_else_is_drawn_does_not_hang_on_bridges() -> None:
    drawn = {}
    for share in (0.0, 0.5):
        size = SIZE.model_copy(update={"memory": "cold", "bridge_share": share})
        networks = TrainingNetworks({"films": 14, "books": 9}, size)
        initialise(networks, torch.Generator().manual_seed(4))
        drawn[share] = networks.state_dict()
    added = drawn[0.5].keys() - drawn[0.0].keys()
    assert added
    for name, weight in drawn[0.5].items():
        expected = torch.zeros_like(weight) if name in added else drawn[0.0][name]
        assert torch.equal(weight, expected), name
