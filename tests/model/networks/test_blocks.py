"""Layers against slow loops, masks against what they must hide, dropout against its promise.

Shapes: B users, T steps, M memory tokens, D width.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.networks.blocks import (
    Attention,
    Decoder,
    DecoderLayer,
    Dropout,
    Encoder,
    EncoderLayer,
    Stack,
    draw_dropout_from,
    undrawn,
)

Matrix = NDArray[np.float64]
SIZE = Stack(width=6, heads=2, layers=2, feed_forward=10, dropout=0.0)
USERS, STEPS, MEMORY = 3, 5, 4


def drawn(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_drawn_weights(network: nn.Module) -> None:
    """Draw every weight, those of the norms too, so that none of them can be left out unseen."""
    network.double().eval()
    for place, parameter in enumerate(network.parameters()):
        parameter.data = 0.5 * drawn(*parameter.shape, seed=100 + place)


def linear(layer: nn.Module, values: Matrix) -> Matrix:
    assert isinstance(layer, nn.Linear)
    product: Matrix = values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    return product


def normed(norm: nn.LayerNorm, values: Matrix) -> Matrix:
    rows = []
    for row in values:
        unit = (row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).mean() + 1e-5)
        rows.append(unit * norm.weight.detach().numpy() + norm.bias.detach().numpy())
    return np.asarray(rows)


def attended(layer: Attention, steps: Matrix, source: Matrix, visible: NDArray[np.bool_]) -> Matrix:
    """Let one user's steps (T, D) read the source (S, D), step by step and head by head."""
    query, key_value = linear(layer.query, steps), linear(layer.key_value, source)
    width = steps.shape[1]
    key, value = key_value[:, :width], key_value[:, width:]
    share = width // layer.heads
    read = np.zeros_like(steps)
    for step in range(len(steps)):
        seen = np.flatnonzero(visible[step])
        for head in range(layer.heads):
            part = slice(head * share, (head + 1) * share)
            scores = key[seen, part] @ query[step, part] / np.sqrt(share)
            weights = np.exp(scores) / np.exp(scores).sum()
            read[step, part] = weights @ value[seen, part]
    return linear(layer.output, read)


def fed(layer: nn.Sequential, values: Matrix) -> Matrix:
    return linear(layer[2], np.maximum(linear(layer[0], values), 0))


def random_mask(*shape: int) -> Tensor:
    visible = drawn(*shape, seed=9) > 0
    visible[..., 0] = True  # everybody reads something
    return visible


def test_attention_is_what_slow_loops_say() -> None:
    attention = Attention(width=6, heads=2)
    with_drawn_weights(attention)
    steps, source = drawn(USERS, STEPS, 6), drawn(USERS, MEMORY, 6, seed=2)
    visible = random_mask(USERS, STEPS, MEMORY)
    found = attention(steps, source, visible).detach().numpy()
    for user in range(USERS):
        expected = attended(
            attention, steps[user].numpy(), source[user].numpy(), visible[user].numpy()
        )
        np.testing.assert_allclose(found[user], expected, rtol=1e-10)


def test_a_lone_token_is_read_as_one_that_stands_there_twice() -> None:
    attention = Attention(6, 2)
    with_drawn_weights(attention)
    steps, lone = drawn(USERS, STEPS, 6), drawn(USERS, 1, 6, seed=2)
    found = attention.read_lone(lone)
    twice = attention(steps, lone.expand(-1, 2, -1), torch.ones(USERS, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(found.expand_as(twice), twice)


def test_one_row_of_a_mask_stands_for_all_steps() -> None:
    attention = Attention(width=6, heads=2)
    with_drawn_weights(attention)
    steps, source = drawn(USERS, STEPS, 6), drawn(USERS, MEMORY, 6, seed=2)
    row = random_mask(USERS, 1, MEMORY)
    torch.testing.assert_close(
        attention(steps, source, row), attention(steps, source, row.expand(-1, STEPS, -1))
    )


def test_an_encoder_layer_is_what_slow_loops_say() -> None:
    layer = EncoderLayer(SIZE)
    with_drawn_weights(layer)
    steps, visible = drawn(USERS, STEPS, 6), random_mask(USERS, STEPS, STEPS)
    found = layer(steps, visible).detach().numpy()
    for user in range(USERS):
        state = steps[user].numpy()
        source = normed(layer.norm_attention, state)
        state = state + attended(layer.attention, source, source, visible[user].numpy())
        state = state + fed(layer.feed_forward, normed(layer.norm_feed_forward, state))
        np.testing.assert_allclose(found[user], state, rtol=1e-9)


def test_a_decoder_layer_is_what_slow_loops_say() -> None:
    layer = DecoderLayer(SIZE)
    with_drawn_weights(layer)
    steps, memory = drawn(USERS, STEPS, 6), drawn(USERS, MEMORY, 6, seed=2)
    visible, shown = random_mask(USERS, STEPS, STEPS), random_mask(USERS, STEPS, MEMORY)
    found = layer(steps, visible, memory, shown).detach().numpy()
    for user in range(USERS):
        state, given = steps[user].numpy(), memory[user].numpy()
        source = normed(layer.norm_attention, state)
        state = state + attended(layer.attention, source, source, visible[user].numpy())
        reader = normed(layer.norm_memory, state)
        state = state + attended(layer.memory_attention, reader, given, shown[user].numpy())
        state = state + fed(layer.feed_forward, normed(layer.norm_feed_forward, state))
        np.testing.assert_allclose(found[user], state, rtol=1e-9)


REAL = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)


def test_the_last_steps_of_a_layer_are_the_same_when_the_others_are_left_out() -> None:
    layer = EncoderLayer(SIZE)
    with_drawn_weights(layer)
    steps, visible = drawn(USERS, STEPS, 6), random_mask(USERS, STEPS, STEPS)
    everything = layer(steps, visible)
    torch.testing.assert_close(layer(steps, visible, last=2), everything[:, -2:])


@pytest.mark.parametrize("read", [1, MEMORY])
def test_so_are_those_of_a_decoder_layer(read: int) -> None:
    layer = DecoderLayer(SIZE)
    with_drawn_weights(layer)
    steps, memory = drawn(USERS, STEPS, 6), drawn(USERS, MEMORY, 6, seed=2)[:, :read]
    visible, shown = random_mask(USERS, STEPS, STEPS), random_mask(USERS, STEPS, read)
    shown[:] |= read == 1
    for mask in (shown, torch.ones_like(shown[:, :1])):  # a row a step, and one for all
        everything = layer(steps, visible, memory, mask)
        torch.testing.assert_close(layer(steps, visible, memory, mask, last=2), everything[:, -2:])


def test_an_encoder_gives_the_last_state_of_its_layers() -> None:
    encoder = Encoder(SIZE)
    with_drawn_weights(encoder)
    states = drawn(USERS, STEPS, 6)
    found = encoder(states, REAL)
    visible = REAL.unsqueeze(1) | torch.eye(STEPS, dtype=torch.bool)
    for layer in encoder.layers:
        states = layer(states, visible)
    torch.testing.assert_close(found, encoder.norm(states)[:, -1])


def test_an_encoder_reads_every_real_step_and_never_padding() -> None:
    encoder = Encoder(SIZE)
    with_drawn_weights(encoder)
    steps = drawn(USERS, STEPS, 6)
    found = encoder(steps, REAL)
    for user in range(USERS):
        alone = encoder(steps[user][REAL[user]].unsqueeze(0), REAL[user][REAL[user]].unsqueeze(0))
        torch.testing.assert_close(found[user], alone[0])
    for step in range(STEPS):
        other = steps.clone()
        other[1, step, 0] += 1
        assert (encoder(other, REAL)[1] - found[1]).abs().max() > 1e-3


def test_a_decoder_reads_earlier_steps_alone_and_never_padding() -> None:
    decoder = Decoder(SIZE)
    with_drawn_weights(decoder)
    steps, memory = drawn(USERS, STEPS, 6), drawn(USERS, MEMORY, 6, seed=2)
    shown = random_mask(USERS, STEPS, MEMORY)
    found = decoder(steps, REAL, memory, shown)
    for user in range(USERS):
        first = STEPS - int(REAL[user].sum())
        for step in range(first, STEPS):
            upto = slice(first, step + 1)
            alone = decoder(
                steps[user : user + 1, upto],
                REAL[user : user + 1, upto],
                memory[user : user + 1],
                shown[user : user + 1, upto],
            )
            torch.testing.assert_close(found[user, step], alone[0, -1])


def test_what_padding_holds_reaches_no_real_step_and_no_gradient() -> None:
    decoder = Decoder(SIZE)
    with_drawn_weights(decoder)
    steps = drawn(USERS, STEPS, 6)
    steps[~REAL] = 1e30
    steps.requires_grad_()
    memory, shown = drawn(USERS, MEMORY, 6, seed=2), random_mask(USERS, STEPS, MEMORY)
    states = decoder(steps, REAL, memory, shown)[REAL]
    (slope,) = torch.autograd.grad(states.square().sum(), steps)
    assert states.isfinite().all()
    assert slope[REAL].isfinite().all()
    assert (slope[~REAL] == 0).all()


def test_a_user_of_padding_alone_turns_nobody_into_nan() -> None:
    nobody = torch.zeros(1, STEPS, dtype=torch.bool)
    for network, memory in ((Encoder(SIZE), ()), (Decoder(SIZE), (drawn(1, 2, 6),))):
        with_drawn_weights(network)
        shown = (torch.ones(1, 1, 2, dtype=torch.bool),) if memory else ()
        assert network(drawn(1, STEPS, 6), nobody, *memory, *shown).isfinite().all()


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_dropout_drops_about_the_share_it_is_asked_for_and_keeps_the_mean(rate: float) -> None:
    dropout = Dropout(rate)
    dropout.generator = torch.Generator().manual_seed(1)
    dropped = dropout(torch.ones(1001, 997))
    share = float((dropped == 0).double().mean())
    exact = round(rate * 256) / 256
    assert share == pytest.approx(exact, abs=0.003)
    assert abs(exact - rate) <= 1 / 512
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - exact)))


def test_dropout_falls_on_every_place_alike() -> None:
    dropout = Dropout(0.25)
    dropout.generator = torch.Generator().manual_seed(1)
    counts = torch.stack([dropout(torch.ones(5, 3)) == 0 for _ in range(4000)]).double().mean(dim=0)
    assert ((counts - 0.25).abs() < 0.04).all()


def test_dropout_draws_from_the_generator_it_is_given_and_no_other() -> None:
    dropout, values = Dropout(0.5), torch.ones(50, 7)

    def draw(seed: int) -> Tensor:
        dropout.generator = torch.Generator().manual_seed(seed)
        result: Tensor = dropout(values)
        return result

    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_two_draws_in_a_row_differ() -> None:
    dropout, values = Dropout(0.5), torch.ones(50, 7)
    dropout.generator = torch.Generator().manual_seed(1)
    assert not torch.equal(dropout(values), dropout(values))


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_nothing_is_dropped_outside_training(rate: float) -> None:
    values = drawn(4, 3)
    assert torch.equal(Dropout(rate).eval()(values), values)


def test_a_rate_of_zero_needs_no_generator() -> None:
    values = drawn(4, 3)
    assert torch.equal(Dropout(0.0).train()(values), values)


def test_a_rate_next_to_one_still_keeps_something() -> None:
    dropout = Dropout(0.9999)
    dropout.generator = torch.Generator().manual_seed(1)
    dropped = dropout(torch.ones(300, 300))
    assert set(dropped.flatten().tolist()) == {0.0, 256.0}


def test_dropout_without_a_generator_says_what_is_missing() -> None:
    expected = r"^dropout in training needs a generator; call draw_dropout_from first$"
    with pytest.raises(ValueError, match=expected):
        Dropout(0.2)(torch.ones(3))


def test_one_generator_serves_all_dropout_of_a_network() -> None:
    size = Stack(width=6, heads=2, layers=2, feed_forward=10, dropout=0.4)
    encoder = Encoder(size)
    generator = torch.Generator().manual_seed(1)
    draw_dropout_from(encoder, generator)
    found = {module.generator for module in encoder.modules() if isinstance(module, Dropout)}
    assert found == {generator}
    steps, real = torch.ones(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)
    assert not torch.equal(encoder(steps, real), encoder(steps, real))


def test_undrawn_layers_have_shapes_alone_and_those_made_later_are_drawn() -> None:
    before = torch.get_rng_state()
    with undrawn():
        layers = nn.Sequential(nn.Embedding(3, 5, padding_idx=0), nn.Linear(5, 7), nn.LayerNorm(7))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.is_meta for parameter in layers.parameters())
    shapes = [tuple(parameter.shape) for parameter in layers.parameters()]
    assert shapes == [(3, 5), (7, 5), (7,), (7,), (7,)]
    assert len(set(nn.Linear(5, 7).weight.flatten().tolist())) == 35
    assert not torch.equal(torch.get_rng_state(), before)
