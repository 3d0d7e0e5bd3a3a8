"""The GUR encoder and the reconstructors: what they read, and what they must not.

Rows (B, T) are padded on the left; D is the width.
"""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.networks.autoencoder import DomainEmbedding
from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks

ROWS = torch.tensor([[0, 0, 3, 1, 5], [2, 7, 7, 4, 1], [0, 0, 0, 0, 6]])
LENGTHS = [3, 5, 1]
FELT = 1e-3  # a change larger than this is no rounding


def padded(rows: Tensor, more: int) -> Tensor:
    return torch.nn.functional.pad(rows, (more, 0))


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def differs(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > FELT)


@pytest.fixture
def gurs() -> Tensor:
    """Give a GUR for each user, (B, D)."""
    return torch.randn(3, 12, generator=torch.Generator().manual_seed(5))


def states_of(networks: TrainingNetworks, rows: Tensor, gurs: Tensor) -> Tensor:
    embedding = networks.serving.gur_encoder.embedding("books")
    states: Tensor = networks.reconstructor("books")(embedding, rows, gurs)
    return states


def test_a_gur_is_the_same_alone_trimmed_or_padded_wider(networks: TrainingNetworks) -> None:
    encode = networks.serving.gur_encoder
    together = encode("books", ROWS)
    assert together.shape == (3, 12)
    assert_same(encode("books", padded(ROWS, 4)), together)
    for user, length in enumerate(LENGTHS):
        alone = encode("books", ROWS[user : user + 1, -length:])
        assert_same(alone[0], together[user])


def test_a_gur_is_the_same_in_a_network_with_room_for_more(
    networks: TrainingNetworks, roomier: TrainingNetworks
) -> None:
    expected = networks.serving.gur_encoder("books", ROWS)
    assert_same(roomier.serving.gur_encoder("books", ROWS), expected)
    assert_same(roomier.serving.gur_encoder("books", padded(ROWS, 9)), expected)


@pytest.mark.parametrize("place", [0, 1, 4])
def test_every_item_of_a_history_moves_the_gur_of_its_user_alone(
    place: int, networks: TrainingNetworks
) -> None:
    changed = ROWS.clone()
    changed[1, place] = 5
    before = networks.serving.gur_encoder("books", ROWS)
    after = networks.serving.gur_encoder("books", changed)
    assert differs(after[1], before[1])
    assert_same(after[[0, 2]], before[[0, 2]])


def test_the_order_of_a_history_moves_its_gur(networks: TrainingNetworks) -> None:
    encode = networks.serving.gur_encoder
    assert differs(
        encode("books", torch.tensor([[1, 2, 3]])), encode("books", torch.tensor([[2, 1, 3]]))
    )


def test_domains_share_the_encoder_and_nothing_else(networks: TrainingNetworks) -> None:
    encode = networks.serving.gur_encoder
    assert differs(encode("books", ROWS), encode("films", ROWS))
    books, films = (set(encode.embedding(name).parameters()) for name in ("books", "films"))
    assert not books & films
    assert set(encode.encoder.parameters()) | books | films == set(encode.parameters())


def test_an_empty_history_is_the_end_token_alone(networks: TrainingNetworks) -> None:
    encode = networks.serving.gur_encoder
    empty = encode("books", torch.zeros(2, 1, dtype=torch.int64))
    assert empty.isfinite().all()
    assert_same(encode("books", torch.zeros(2, 6, dtype=torch.int64)), empty)
    with torch.no_grad():
        encode.embedding("books").end[0] += 1  # not all alike: a norm would take it away again
    assert differs(encode("books", torch.zeros(2, 1, dtype=torch.int64)), empty)


def _size(width: int) -> NetworkSettings:
    return NetworkSettings(width=width, max_history=4, recent=4, dropout=0.0)


def test_positions_are_counted_from_the_end() -> None:
    embedding = DomainEmbedding(9, _size(2))
    with torch.no_grad():
        embedding.items.weight.copy_(torch.arange(10.0).unsqueeze(1).expand(-1, 2))
        embedding.positions.weight.copy_(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4]).unsqueeze(1))
        embedding.end.fill_(50)
    vectors, real = embedding.with_end(torch.tensor([[0, 8, 3], [5, 6, 7]]))
    assert_close(vectors[..., 0], torch.tensor([[0.3, 8.2, 3.1, 50.0], [5.3, 6.2, 7.1, 50.0]]))
    assert torch.equal(vectors[..., 0], vectors[..., 1])
    assert real.tolist() == [[False, True, True, True], [True] * 4]


def test_items_may_be_read_longer_than_they_are_scored() -> None:
    size = NetworkSettings(width=4, max_history=4, recent=4, dropout=0.0, scaled_input=True)
    embedding = DomainEmbedding(9, size)
    with torch.no_grad():
        embedding.items.weight.fill_(3.0)
        embedding.positions.weight.fill_(0.25)
    vectors, _ = embedding.with_end(torch.tensor([[8, 3]]))
    assert_close(vectors[0, :2], torch.full((2, 4), 2 * 3.0 + 0.25))
    assert_close(embedding.item_table(), torch.full((10, 4), 3.0))


@pytest.mark.parametrize("scoring", ["inner", "cosine"])
def test_an_item_is_scored_with_its_neighbours_and_read_alone(scoring: str) -> None:
    size = _size(2).model_copy(update={"scoring": scoring})
    embedding = DomainEmbedding(3, size)
    table = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 5.0], [7.0, 11.0]])
    with torch.no_grad():
        embedding.items.weight.copy_(table)
        embedding.positions.weight.zero_()
    before, _ = embedding.with_end(torch.tensor([[1, 2, 3]]))
    neighbours = torch.tensor([[0, 0], [2, 3], [1, 0], [0, 0]])
    embedding.mix_neighbours(
        neighbours, torch.tensor([[0.0, 0.0], [0.25, 0.125], [0.5, 0.0], [0.0, 0.0]])
    )
    by_hand = torch.stack(
        [
            table[0],
            0.625 * table[1] + 0.25 * table[2] + 0.125 * table[3],
            0.5 * table[2] + 0.5 * table[1],
            table[3],
        ]
    )
    if scoring == "cosine":
        by_hand = torch.nn.functional.normalize(by_hand, dim=-1)
    assert_close(embedding.item_table(), by_hand)
    rows = torch.tensor([[3, 0], [1, 2]])
    assert_close(embedding.item_vectors(rows), by_hand[rows])
    assert_close(embedding.with_end(torch.tensor([[1, 2, 3]]))[0], before)
    assert "mixed" not in embedding.state_dict()


def test_the_start_token_stands_right_before_the_first_item() -> None:
    embedding = DomainEmbedding(9, _size(2))
    with torch.no_grad():
        embedding.items.weight.copy_(torch.arange(10.0).unsqueeze(1).expand(-1, 2))
        embedding.positions.weight.zero_()
    rows = torch.tensor([[0, 8, 3], [5, 6, 7], [0, 0, 0]])
    vectors, real = embedding.with_start(rows, embedding.read(rows), torch.tensor([70.0, 0.0]))
    assert vectors[..., 0].tolist() == [[0, 70, 8, 3], [70, 5, 6, 7], [0, 0, 0, 70]]
    assert real.tolist() == [[False, True, True, True], [True] * 4, [False, False, False, True]]


def test_states_are_the_same_alone_trimmed_or_padded_wider(
    networks: TrainingNetworks, gurs: Tensor
) -> None:
    together = states_of(networks, ROWS, gurs)
    assert together.shape == (3, 5, 12)
    wider = states_of(networks, padded(ROWS, 3), gurs)
    for user, length in enumerate(LENGTHS):
        alone = states_of(networks, ROWS[user : user + 1, -length:], gurs[user : user + 1])
        assert_same(alone[0], together[user, -length:])
        assert_same(wider[user, -length:], together[user, -length:])


def test_states_are_the_same_in_a_network_with_room_for_more(
    networks: TrainingNetworks, roomier: TrainingNetworks, gurs: Tensor
) -> None:
    real = ROWS != 0
    assert_same(states_of(roomier, ROWS, gurs)[real], states_of(networks, ROWS, gurs)[real])


@pytest.mark.parametrize("place", range(5))
def test_a_state_comes_from_items_before_its_own(
    place: int, networks: TrainingNetworks, gurs: Tensor
) -> None:
    changed = ROWS.clone()
    changed[1, place] = 3
    before, after = states_of(networks, ROWS, gurs)[1], states_of(networks, changed, gurs)[1]
    assert_same(after[: place + 1], before[: place + 1])
    assert all(differs(after[step], before[step]) for step in range(place + 1, 5))


def test_every_state_reads_the_gur_of_its_own_user_alone(
    networks: TrainingNetworks, gurs: Tensor
) -> None:
    changed = gurs.clone()
    changed[0, 3] += 1
    before, after = states_of(networks, ROWS, gurs), states_of(networks, ROWS, changed)
    assert all(differs(after[0, step], before[0, step]) for step in range(2, 5))
    assert_same(after[1:], before[1:])


def test_a_reconstruction_can_be_learned_through_the_gur(networks: TrainingNetworks) -> None:
    gurs = networks.serving.gur_encoder("books", ROWS)
    states = states_of(networks, ROWS, gurs)[ROWS != 0]
    states[:, 0].sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    slopes = [parameter.grad for parameter in networks.serving.gur_encoder.encoder.parameters()]
    assert all(slope is not None and slope.isfinite().all() for slope in slopes)
    weight = networks.serving.gur_encoder.embedding("books").items.weight
    assert weight.grad is not None
    assert (weight.grad[0] == 0).all()  # padding never learns
