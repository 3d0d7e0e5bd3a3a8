"""The recommender: what its preferences follow from, and what leaves them alone.

Rows (B, T) are padded on the left; there are M = 2 GURs a user and T + 1 steps.
"""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.networks.recommender import recent_mean
from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks, initialise

ROWS = torch.tensor([[0, 0, 3, 1, 5], [2, 7, 7, 4, 1], [0, 0, 0, 0, 0]])
LENGTHS = [3, 5, 0]
FELT = 1e-3  # a change larger than this is no rounding


@pytest.fixture
def gurs() -> Tensor:
    """Give two GURs a user, (B, M, D)."""
    return torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def shown() -> Tensor:
    """Show some GURs to some steps, (B, T + 1, M): unlike in users, steps and GURs."""
    shown = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(3)) < 0.5
    assert len({tuple(row.flatten().tolist()) for row in shown}) == 3
    return shown


def preferences(networks: TrainingNetworks, rows: Tensor, gurs: Tensor, shown: Tensor) -> Tensor:
    found: Tensor = networks.serving.recommender("books")(rows, gurs, shown)
    return found


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def differs(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > FELT)


def test_preferences_are_the_same_alone_trimmed_or_padded_wider(
    networks: TrainingNetworks, gurs: Tensor, shown: Tensor
) -> None:
    together = preferences(networks, ROWS, gurs, shown)
    assert together.shape == (3, 6, 12)
    wider_shown = torch.cat([~shown[:, :3], shown], dim=1)
    wider = preferences(networks, torch.nn.functional.pad(ROWS, (3, 0)), gurs, wider_shown)
    for user, length in enumerate(LENGTHS):
        steps = slice(-length - 1, None)
        rows = ROWS[user : user + 1, ROWS.shape[1] - length :]
        alone = preferences(networks, rows, gurs[user : user + 1], shown[user : user + 1, steps])
        assert_same(alone[0], together[user, steps])
        assert_same(wider[user, steps], together[user, steps])


def test_preferences_are_the_same_in_a_network_with_room_for_more(
    networks: TrainingNetworks, roomier: TrainingNetworks, gurs: Tensor, shown: Tensor
) -> None:
    expected = preferences(networks, ROWS, gurs, shown)
    found = preferences(roomier, ROWS, gurs, shown)
    for user, length in enumerate(LENGTHS):
        assert_same(found[user, -length - 1 :], expected[user, -length - 1 :])


@pytest.mark.parametrize(
    "changes", [{}, {"scoring": "cosine", "recent_decay": 0.6}, {"memory": "none"}]
)
def test_the_last_preferences_are_the_same_when_the_others_are_left_out(
    changes: dict[str, object], gurs: Tensor, shown: Tensor
) -> None:
    networks = _drawn(**changes)
    everything = preferences(networks, ROWS, gurs, shown)
    recommender = networks.serving.recommender("books")
    for last in (1, 2):
        found = recommender(ROWS, gurs, shown, last=last)
        assert found.shape == (3, last, 12)
        assert_same(found, everything[:, -last:])


@pytest.mark.parametrize("place", range(5))
def test_a_preference_follows_from_the_items_up_to_it(
    place: int, networks: TrainingNetworks, gurs: Tensor, shown: Tensor
) -> None:
    changed = ROWS.clone()
    changed[1, place] = 3
    before = preferences(networks, ROWS, gurs, shown)[1]
    after = preferences(networks, changed, gurs, shown)[1]
    assert_same(after[: place + 1], before[: place + 1])
    assert all(differs(after[step], before[step]) for step in range(place + 1, 6))


@pytest.mark.parametrize("gur", [0, 1])
def test_a_gur_that_no_step_is_shown_changes_nothing(
    gur: int, networks: TrainingNetworks, gurs: Tensor, shown: Tensor
) -> None:
    shown[:, :, gur] = False
    changed = gurs.clone()
    changed[:, gur] *= -3
    before = preferences(networks, ROWS, gurs, shown)
    assert torch.equal(preferences(networks, ROWS, changed, shown), before)


@pytest.mark.parametrize("gur", [0, 1])
@pytest.mark.parametrize("step", [0, 3, 5])
def test_a_gur_reaches_the_step_it_is_shown_to_and_none_before(
    gur: int, step: int, networks: TrainingNetworks, gurs: Tensor
) -> None:
    shown = torch.zeros(3, 6, 2, dtype=torch.bool)
    shown[1, step, gur] = True
    hidden = preferences(networks, ROWS, gurs, torch.zeros_like(shown))
    found = preferences(networks, ROWS, gurs, shown)
    assert differs(found[1, step], hidden[1, step])
    assert_same(found[1, :step], hidden[1, :step])
    assert_same(found[[0, 2]], hidden[[0, 2]])


def test_two_gurs_are_told_apart_by_what_they_say_and_not_by_their_place(
    networks: TrainingNetworks, gurs: Tensor, shown: Tensor
) -> None:
    before = preferences(networks, ROWS, gurs, shown)
    assert_same(preferences(networks, ROWS, gurs.flip(1), shown.flip(2)), before)


def test_a_user_without_items_is_the_start_token_and_the_gurs(
    networks: TrainingNetworks, gurs: Tensor
) -> None:
    shown = torch.ones(1, 1, 2, dtype=torch.bool)
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    empty = preferences(networks, nothing, gurs[2:], shown)
    assert empty.shape == (1, 1, 12)
    padded = preferences(networks, ROWS[2:], gurs[2:], shown.expand(1, 6, 2))
    assert_same(padded[0, -1], empty[0, 0])
    assert differs(preferences(networks, nothing, gurs[:1], shown), empty)


def test_a_user_of_whom_nothing_is_known_still_has_a_finite_preference(
    networks: TrainingNetworks, gurs: Tensor
) -> None:
    nothing = torch.zeros(3, 6, 2, dtype=torch.bool)
    found = preferences(networks, torch.zeros_like(ROWS), gurs, nothing)
    assert found.isfinite().all()
    assert_same(found[0, -1], found[2, -1])


def test_each_domain_has_a_recommender_of_its_own(networks: TrainingNetworks) -> None:
    books, films = (
        set(networks.serving.recommender(name).parameters()) for name in ("books", "films")
    )
    assert not books & films
    assert len(networks.serving.recommender("films").embedding.items.weight) == 12


def test_the_mean_of_the_recent_items_by_hand() -> None:
    items = torch.tensor([[[9.0], [2.0], [6.0]]])  # the first is padding
    rows = torch.tensor([[0, 4, 7]])
    means = recent_mean(rows, items, 0.5)
    assert means[0, :, 0].tolist() == pytest.approx([0, 0, 2, (6 + 0.5 * 2) / 1.5])


def test_with_cosine_scoring_preferences_and_items_have_length_one() -> None:
    networks = _drawn(scoring="cosine", recent_decay=0.6)
    rows = torch.tensor([[0, 0, 3, 1, 5]])
    shown = torch.zeros(1, 6, 2, dtype=torch.bool)
    found = preferences(networks, rows, torch.ones(1, 2, 12), shown)[0, 2:]
    assert_close(found.norm(dim=-1), torch.ones(4))
    table = networks.serving.recommender("books").embedding.item_table()
    assert_close(table.norm(dim=1), torch.tensor([0.0] + [1.0] * 7))


@pytest.mark.parametrize(
    ("memory", "felt"),
    [
        ("none", [False, False]),
        ("own", [True, False]),
        ("other", [False, True]),
        ("both", [True, True]),
    ],
)
def test_a_recommender_reads_the_gurs_that_its_memory_holds(memory: str, felt: list[bool]) -> None:
    networks = _drawn(memory=memory)
    shown = torch.ones(3, 6, 2, dtype=torch.bool)
    gurs = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(5))
    plain = preferences(networks, ROWS, gurs, shown)
    found = []
    for place in (0, 1):
        other = gurs.clone()
        other[:, place] += 1
        found.append(differs(preferences(networks, ROWS, other, shown), plain))
    assert found == felt


def test_a_cold_memory_holds_the_other_gur_for_users_without_a_history() -> None:
    networks = _drawn(memory="cold")
    gurs = torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(5))
    rows, shown = torch.tensor([[0, 3, 1], [0, 0, 0]]), torch.ones(2, 4, 2, dtype=torch.bool)
    plain = preferences(networks, rows, gurs, shown)
    for place, felt in ((0, False), (1, True)):
        changed = gurs.clone()
        changed[:, place] += 1
        known, new = preferences(networks, rows, changed, shown)
        assert_same(known[1:], plain[0, 1:])
        assert differs(new[-1], plain[1, -1]) is felt


def _drawn(**changes: object) -> TrainingNetworks:
    size = {"width": 12, "heads": 3, "layers": 2, "feed_forward": 20, "dropout": 0.0}
    settings = NetworkSettings.model_validate({**size, "max_history": 9, "recent": 8, **changes})
    networks = TrainingNetworks({"books": 7, "films": 11}, settings)
    initialise(networks, torch.Generator().manual_seed(1))
    return networks.eval()
