"""The networks together: how they are drawn, how large they are, what they leave alone."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from model.networks.blocks import draw_dropout_from
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, TrainingNetworks, initialise

ROWS = torch.tensor([[0, 3, 1], [2, 7, 4]])


def drawn(seed: int, settings: NetworkSettings) -> TrainingNetworks:
    networks = TrainingNetworks({"books": 7, "films": 11}, settings)
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(
    settings: NetworkSettings,
) -> None:
    first = drawn(1, settings).state_dict()
    torch.rand(100)
    again, other = drawn(1, settings).state_dict(), drawn(2, settings).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    moved = {name for name, weight in first.items() if not torch.equal(weight, other[name])}
    plain = {name for name in first if "norm" in name or name.endswith("bias")}
    assert moved == first.keys() - plain


def test_no_weight_is_left_as_it_was(settings: NetworkSettings) -> None:
    networks = drawn(1, settings)
    expected = {name: weight.clone() for name, weight in networks.state_dict().items()}
    for parameter in networks.parameters():
        nn.init.constant_(parameter, torch.nan)
    initialise(networks, torch.Generator().manual_seed(1))
    for name, weight in networks.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_weights_start_small_and_padding_at_zero(networks: TrainingNetworks) -> None:
    for name, weight in networks.state_dict().items():
        if name.endswith("items.weight"):
            assert (weight[0] == 0).all()
            assert weight[1:].std().item() == pytest.approx(0.02, rel=0.3)
        if name.endswith((".start", ".end", ".nothing")):
            assert 0.005 < weight.std().item() < 0.05
        if name.endswith("bias"):
            assert (weight == 0).all()


def test_a_pass_draws_nothing_from_the_global_generator(settings: NetworkSettings) -> None:
    dropping = NetworkSettings.model_validate(settings.model_dump() | {"dropout": 0.3})
    networks = drawn(1, dropping).train()
    draw_dropout_from(networks, torch.Generator().manual_seed(2))
    before = torch.get_rng_state()
    gurs = networks.serving.gur_encoder("books", ROWS)
    shown = torch.ones(2, 4, 1, dtype=torch.bool)
    first = networks.serving.recommender("books")(ROWS, gurs.unsqueeze(1), shown)
    embedding = networks.serving.gur_encoder.embedding("books")
    networks.reconstructor("books")(embedding, ROWS, gurs)
    networks.critic(gurs)
    assert torch.equal(torch.get_rng_state(), before)
    draw_dropout_from(networks, torch.Generator().manual_seed(2))
    again = networks.serving.gur_encoder("books", ROWS)
    assert torch.equal(again, gurs)
    networks.eval()
    assert not torch.equal(networks.serving.gur_encoder("books", ROWS), gurs)
    assert first.isfinite().all()


def parameters_in(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_sizes_make_as_many_weights_as_counted_by_hand() -> None:
    networks = TrainingNetworks({"sport": 16_876, "cloth": 19_581}, NetworkSettings())
    norm = 2 * 64
    attention = 4 * (64 * 64 + 64)  # query, key, value, output
    feed_forward = (64 * 512 + 512) + (512 * 64 + 64)
    encoder = 3 * (attention + feed_forward + 2 * norm) + norm
    decoder = 3 * (2 * attention + feed_forward + 3 * norm) + norm
    assert (encoder, decoder) == (249_152, 299_456)
    embedding = {
        name: (items + 1) * 64 + 101 * 64 + 64  # items and padding, N + 1 positions, [eos]
        for name, items in {"sport": 16_876, "cloth": 19_581}.items()
    }
    gur_encoder = encoder + sum(embedding.values())
    assert parameters_in(networks.serving.gur_encoder) == gur_encoder
    for name, size in embedding.items():
        assert parameters_in(networks.reconstructor(name)) == decoder + 64  # the start token
        recommender = decoder + size + 2 * 64  # and the token that says nothing
        assert parameters_in(networks.serving.recommender(name)) == recommender
    critic = (64 * 128 + 128) + 2 * (128 * 128 + 128) + (128 + 1)
    assert parameters_in(networks.critic) == critic


def test_the_networks_that_serve_are_a_part_of_those_that_train(
    networks: TrainingNetworks, settings: NetworkSettings
) -> None:
    serving = ServingNetworks({"books": 7, "films": 11}, settings)
    serving.load_state_dict(networks.serving.state_dict())
    assert torch.equal(
        serving.eval().gur_encoder("films", ROWS), networks.serving.gur_encoder("films", ROWS)
    )


@pytest.mark.parametrize("name", ["items", "training", "forward", "a-b", "1", "Ünder"])
def test_a_domain_may_have_any_name_that_is_no_path(name: str, settings: NetworkSettings) -> None:
    networks = TrainingNetworks({name: 3, "other": 4}, settings).eval()
    assert networks.serving.gur_encoder(name, torch.tensor([[1, 3]])).shape == (1, 12)
    assert len(networks.serving.recommender(name).embedding.items.weight) == 4
    assert networks.reconstructor(name) is not networks.reconstructor("other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 64, "heads": 3}, "width 64 must be a multiple of heads 3"),
        ({"recent": 101}, "recent 101 is more than max_history 100"),
        ({"dropout": 1.0}, "Input should be less than 1"),
        ({"recent_decay": 0.5}, "recent_decay needs scoring 'cosine'"),
        (
            {"bridge_share": 0.5, "memory": "both"},
            "bridge_share above 0 needs memory 'other' or 'cold', not 'both'",
        ),
        ({"layers": 0}, "Input should be greater than or equal to 1"),
        ({"depth": 3}, "Extra inputs are not permitted"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkSettings.model_validate(changes)


def test_the_default_sizes_are_the_papers() -> None:
    assert NetworkSettings().model_dump() == {
        "width": 64,
        "heads": 2,
        "layers": 3,
        "feed_forward": 512,
        "max_history": 100,
        "recent": 100,
        "dropout": 0.2,
        "encoder_dropout": None,
        "item_dropout": 0.0,
        "scaled_input": False,
        "scoring": "inner",
        "neighbours": 0,
        "memory": "both",
        "recent_decay": 0.0,
        "bridge_share": 0.0,
        "bridge_hidden": 128,
        "critic_layers": 4,
        "critic_hidden": 128,
    }
