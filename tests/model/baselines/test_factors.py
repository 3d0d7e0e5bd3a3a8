"""Vectors by row: examples, steps, the fitted system, each against a slow and obvious version."""

import dataclasses

import numpy as np
import pytest
import torch

from model.arrays import Floats
from model.baselines.bprmf import Bprmf, BprmfSettings
from model.baselines.factor_system import DomainFactors, FactorSystem
from model.baselines.factors import (
    Examples,
    Factors,
    FactorSettings,
    Pass,
    Table,
    learn,
    pairwise_loss,
)
from model.data.dataset import Sequences
from model.data.popularity import popularity_shares
from model.data.training_data import TrainingData
from model.errors import BadArtifactError
from tests.model.dataset_making import random_dataset

DATASET = random_dataset(np.random.default_rng(8), users=40, items=30)
DATA = TrainingData.of(DATASET)
SEQUENCES = Sequences.of([[1, 2, 3], [], [4, 4], [1, 5]])


def _system(generator: np.random.Generator) -> tuple[FactorSystem, dict[str, DomainFactors]]:
    factors = {}
    for domain in DATA.domains:
        shapes = {
            "users": (len(domain.training), 5),
            "items": (domain.items + 1, 5),
            "bias": (domain.items + 1,),
            "newcomers": (len(DATA.other_than(domain).training), 5),
        }
        drawn = {key: generator.random(shape, np.float32) for key, shape in shapes.items()}
        factors[domain.name] = DomainFactors(**drawn)
    return FactorSystem(DATA, factors), factors


def test_an_epoch_shows_every_training_row_once_with_items_its_user_does_not_have() -> None:
    examples = Examples.of(SEQUENCES, 40)

    batches = examples.batches(3, 200, np.random.default_rng(1))

    assert [len(users) for users, _ in batches] == [3, 3, 1]
    pairs = [
        (int(user), int(rows[0]))
        for users, candidates in batches
        for user, rows in zip(users, candidates, strict=True)
    ]
    assert sorted(pairs) == [(0, 1), (0, 2), (0, 3), (2, 4), (2, 4), (3, 1), (3, 5)]
    negatives = torch.cat([candidates[:, 1:] for _, candidates in batches])
    assert (int(negatives.min()), int(negatives.max())) == (1, 40)
    mistaken = np.mean(
        [
            row in SEQUENCES[int(user)]
            for users, candidates in batches
            for user, rows in zip(users, candidates, strict=True)
            for row in rows[1:].tolist()
        ]
    )
    assert mistaken < 0.01  # a second draw hits again with (3 / 40) ** 2 at most


def test_joined_examples_keep_the_negatives_of_each_part_to_its_own_rows() -> None:
    first = Examples.of(SEQUENCES, 5)
    second = Examples.of(Sequences.of([[2], [1, 3]]), 7).moved(np.array([9, 2]), 5)
    joined = Examples.joined([first, second])

    batches = joined.batches(100, 50, np.random.default_rng(2))

    ((users, candidates),) = batches
    assert len(joined) == 7 + 3
    for user, rows in zip(users.tolist(), candidates, strict=True):
        low, high = (1, 5) if rows[0] <= 5 else (6, 12)
        assert low <= int(rows.min()) <= int(rows.max()) <= high
        assert (user, int(rows[0])) in {
            *((0, 1), (0, 2), (0, 3), (2, 4), (3, 1), (3, 5)),
            *((9, 7), (2, 6), (2, 8)),
        }


def test_a_table_steps_as_adagrad_over_all_of_it_does() -> None:
    start = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    table = Table(start.clone())
    whole = torch.nn.Parameter(start.clone())
    reference = torch.optim.Adagrad([whole], lr=0.1)

    for rows in (torch.tensor([[1, 2], [2, 5]]), torch.tensor([[2, 2], [0, 1]])):
        (table.take(rows).sin().sum() * 2).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        table.update(0.1)
        reference.zero_grad()
        (whole[rows].sin().sum() * 2).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        reference.step()

    torch.testing.assert_close(table.values, whole.detach())
    assert (table.values[[3, 4]] == start[[3, 4]]).all()


def test_the_pairwise_loss_is_that_of_plain_loops() -> None:
    scores = torch.tensor([[1.0, 0.5, 2.0], [0.0, -1.0, 3.0]])

    expected = np.mean(
        [
            -np.log(1 / (1 + np.exp(-(row[0] - other))))
            for row in scores.tolist()
            for other in row[1:]
        ]
    )
    assert float(pairwise_loss(scores)) == pytest.approx(expected, rel=1e-6)


def test_candidates_score_and_are_held_down_as_their_pairs_one_by_one() -> None:
    factors = Factors(4, 9, 3, torch.Generator().manual_seed(1))
    factors.bias.values += torch.arange(10.0).unsqueeze(1)
    users, candidates = torch.tensor([2, 0]), torch.tensor([[1, 4, 9], [3, 2, 2]])

    scores, squares = (each.detach() for each in factors.candidate_scores(users, candidates))

    p, q = factors.users.values, factors.items.values
    for place, (user, rows) in enumerate(zip(users, candidates, strict=True)):
        expected = [float(p[user] @ q[row]) + float(row) for row in rows]
        assert scores[place].tolist() == pytest.approx(expected)
        pairs = [
            float(p[user] @ p[user] + q[rows[0]] @ q[rows[0]] + q[other] @ q[other])
            for other in rows[1:]
        ]
        assert float(squares[place]) == pytest.approx(np.mean(pairs), rel=1e-4)


class Recorded:
    """One number for all to learn; keeps the steps and what would change it."""

    def __init__(self) -> None:
        self.number = torch.tensor(3.0, requires_grad=True)
        self.rates: list[float] = []
        self.gradients: list[float] = []

    def candidate_scores(
        self, users: torch.Tensor, candidates: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score all alike, so that nothing but the square is to be lowered."""
        alike = torch.zeros(candidates.shape)
        return alike, self.number.square().expand(len(users))

    def update(self, rate: float) -> None:
        """Note the step instead of taking it."""
        assert self.number.grad is not None
        self.rates.append(rate)
        self.gradients.append(float(self.number.grad))
        self.number.grad = None


def test_the_rate_falls_to_zero_step_by_step_and_half_the_decay_holds_squares_down() -> None:
    settings = FactorSettings(epochs=2, batch_rows=4, learning_rate=0.8, decay=0.1)
    ranker = Recorded()
    one_pass = Pass(ranker, Examples.of(SEQUENCES, 40), settings, (3,))  # 7 rows, two batches

    for epoch in range(2):
        one_pass(epoch)

    assert ranker.rates == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert ranker.gradients == pytest.approx([0.1 * 3.0] * 4)


def test_the_best_vectors_are_kept_and_learning_ends_when_nothing_better_comes() -> None:
    factors = Factors(4, 40, 3, torch.Generator().manual_seed(1))
    settings = FactorSettings(epochs=50, batch_rows=4, validation_epochs=2, patience=3)
    seen: list[torch.Tensor] = []

    def validate() -> float:
        seen.append(factors.users.values.clone())
        return [0.1, 0.4, 0.3, 0.4, 0.2, 0.9][len(seen) - 1]

    learn([Pass(factors, Examples.of(SEQUENCES, 40), settings, (3,))], factors, validate, settings)

    assert len(seen) == 5
    assert (factors.users.values == seen[1]).all()
    assert (factors.users.values != seen[4]).any()


@pytest.mark.parametrize("start_counts", [True, False])
def test_the_start_is_kept_where_it_counts_and_nothing_better_comes(*, start_counts: bool) -> None:
    factors = Factors(4, 40, 3, torch.Generator().manual_seed(1))
    settings = FactorSettings(epochs=6, batch_rows=4, validation_epochs=2, patience=3)
    seen: list[torch.Tensor] = []

    def validate() -> float:
        seen.append(factors.users.values.clone())
        return 1 / len(seen)

    start = factors.users.values.clone()
    rounds = [Pass(factors, Examples.of(SEQUENCES, 40), settings, (3,))]
    learn(rounds, factors, validate, settings, start_counts=start_counts)

    assert bool((factors.users.values == start).all()) == start_counts
    assert (factors.users.values == seen[0]).all()
    assert len(seen) == 3 + start_counts


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_last_epoch_may_be_the_best_whatever_lies_between_two_looks(epochs: int) -> None:
    factors = Factors(4, 40, 3, torch.Generator().manual_seed(1))
    settings = FactorSettings(epochs=epochs, batch_rows=4, validation_epochs=2, patience=3)
    done: list[int] = []
    looks: list[int] = []

    def validate() -> float:
        looks.append(len(done))
        return float(len(done))

    learn([done.append], factors, validate, settings, start_counts=True)

    assert looks == {1: [0, 1], 2: [0, 2], 3: [0, 2, 3]}[epochs]


def test_scores_are_inner_products_and_popularity_for_nobody() -> None:
    system, factors = _system(np.random.default_rng(3))
    users = {"books": np.array([3, -1, -1, 0]), "films": np.array([2, 7, -1, -1])}

    scores = system.scores("books", [{}] * 4, users)

    books = factors["books"]
    assert books.newcomers is not None
    for place, vector in ((0, books.users[3]), (1, books.newcomers[7]), (3, books.users[0])):
        expected = (books.items * vector).sum(axis=1) + books.bias
        np.testing.assert_allclose(scores[place], expected, rtol=1e-5)
    assert (scores[2] == popularity_shares(DATASET.domains[0])).all()
    assert (system.scores("books", [{}])[0] == scores[2]).all()


def test_who_is_new_to_a_domain_is_answered_without_the_vectors_of_its_users() -> None:
    system, _ = _system(np.random.default_rng(3))
    tensors = dict(system.tensors())
    tensors["books.users"] = np.random.default_rng(4).random(tensors["books.users"].shape)
    other = FactorSystem.restore(DATA, 5, tensors)
    cold = {"books": np.full(9, -1), "films": np.arange(9)}
    known = {"books": np.arange(9), "films": np.arange(9)}

    answers = [each.scores("books", [{}] * 9, cold) for each in (system, other)]

    assert (answers[0] == answers[1]).all()
    assert (answers[0] != system.scores("books", [{}] * 9, known)).any()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            "films.items",
            np.zeros((61, 4), np.float32),
            (
                r"^tensor 'films.items' of the stored system has shape \(61, 4\), not \(61, 5\); "
                "it was fitted to other data or with other settings$"
            ),
        ),
        ("films.items", None, r"^the stored system has no tensor 'films.items'$"),
        (
            "books.bias",
            np.full(31, np.nan, np.float32),
            r"^tensor 'books.bias' of the stored system is not finite$",
        ),
    ],
)
def test_a_stored_system_that_does_not_fit_is_refused(
    name: str, tensor: Floats | None, message: str
) -> None:
    system, _ = _system(np.random.default_rng(3))
    tensors = dict(system.tensors())
    del tensors[name]
    if tensor is not None:
        tensors[name] = tensor

    with pytest.raises(BadArtifactError, match=message):
        FactorSystem.restore(DATA, 5, tensors)


def test_no_epoch_leaves_the_vectors_as_they_were_drawn() -> None:
    fitted = Bprmf.fit(DATA, BprmfSettings(width=4, epochs=0), seed=2).tensors()

    assert (fitted["books.bias"] == 0).all()
    assert 0.005 < fitted["books.users"].std() < 0.02


def test_where_nobody_can_be_asked_bprmf_learns_to_its_end() -> None:
    first, second = DATASET.domains
    rows = [first.sequences[user][:2] for user in range(len(first.sequences))]
    short = dataclasses.replace(first, sequences=Sequences.of(rows))
    data = TrainingData.of(dataclasses.replace(DATASET, domains=(short, second)))

    learned = [
        Bprmf.fit(data, BprmfSettings(epochs=16, validation_epochs=looks), seed=1).tensors()
        for looks in (1, 16)  # the last look alone is at the end
    ]

    of_short = [name for name in learned[0] if name.startswith(first.name)]
    assert of_short
    assert all(np.array_equal(learned[0][name], learned[1][name]) for name in of_short)
