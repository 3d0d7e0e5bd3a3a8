"""How the factorising baselines learn: pairwise ranking over vectors by row.

Bayesian personalised ranking (Rendle et al., UAI 2009): of an item i that user u has and an item j
that u does not have, the scores should differ, so -ln sigmoid(x_ui - x_uj) + decay / 2 * |theta|^2
is minimised over the vectors theta that the pair touches (their BPR-Opt). Pairs are drawn anew each
epoch, j uniformly. A step works on the rows of its batch alone, so its time does not grow with the
users and items there are; its step size is Adagrad's, kept by row, which suits rows seen rarely.

Shapes: U users, V items of a domain, D width, E examples, B examples of a step, N negatives of an
example, K candidates of one (1 + N, the item itself first); row 0 is padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from model.arrays import Places
from model.baselines.factor_system import DomainFactors
from model.data.dataset import Sequences
from model.settings import Settings
from model.training.selection import Selection

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Round = Callable[[int], None]
"""One thing to do in an epoch, given its number."""

_SPREAD = 0.01
_TINY = 1e-10


class RankingSettings(Settings):
    """How long and how fast pairwise ranking learns."""

    epochs: Annotated[int, Field(ge=0)] = 16
    """Most passes over the training rows."""

    batch_rows: Count = 2048
    """Training rows in a step."""

    negatives: Count = 8
    """Items drawn uniformly for each training row."""

    learning_rate: Rate = 0.05
    """Learning rate at the start; it falls to zero in a straight line over the epochs."""

    decay: Weight = 0.02
    """Weight of the squared vectors that a training row touches."""

    validation_epochs: Count = 4
    """Epochs between two looks at the validation rows."""

    patience: Count = 2
    """Looks without a better NDCG@10 after which learning ends; the best vectors are kept."""


class FactorSettings(RankingSettings):
    """Vectors of users and items, and how they are learned."""

    width: Annotated[int, Field(ge=1, le=1024)] = 128
    """Numbers in a vector."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Who has what, and among which rows the negatives lie."""

    users: Places
    """(E,)."""
    rows: Places
    """(E,)."""
    lowest: Places
    """The first row of those that negatives are drawn from, (E,)."""
    highest: Places
    """The last of them, (E,)."""
    known: Places
    """All that users have, as user * size + row, ascending."""
    size: int
    """More than the highest row."""

    @classmethod
    def of(cls, training: Sequences, items: int) -> "Examples":
        """Take every training row of a domain."""
        users = np.repeat(np.arange(len(training)), training.lengths)
        rows = np.asarray(training.rows, np.int64)
        return cls._of(users, rows, np.ones_like(rows), np.full_like(rows, items))

    @classmethod
    def joined(cls, parts: Sequence["Examples"]) -> "Examples":
        """Put examples of one space of users and rows together."""
        return cls._of(
            np.concatenate([part.users for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.lowest for part in parts]),
            np.concatenate([part.highest for part in parts]),
        )

    def moved(self, users: Places, rows: int) -> "Examples":
        """Rename the users, user u to `users[u]`, and count all rows from `rows` on."""
        return self._of(
            users[self.users], self.rows + rows, self.lowest + rows, self.highest + rows
        )

    @classmethod
    def _of(cls, users: Places, rows: Places, lowest: Places, highest: Places) -> "Examples":
        size = int(highest.max(initial=0)) + 1
        return cls(users, rows, lowest, highest, np.unique(users * size + rows), size)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, batch_rows: int, negatives: int, generator: np.random.Generator
    ) -> list[tuple[Tensor, Tensor]]:
        """Shuffle the examples and draw their negatives -> users (B,), candidates (B, K) a batch.

        A negative that the user has is drawn once more, and then kept whatever it is.
        """
        order = generator.permutation(len(self))
        users = self.users[order]
        shape = (len(self), negatives)
        lowest = np.broadcast_to(self.lowest[order, None], shape)
        highest = np.broadcast_to(self.highest[order, None], shape)
        drawn = generator.integers(lowest, highest, endpoint=True)
        again = self._has(users[:, None] * self.size + drawn)
        drawn[again] = generator.integers(lowest[again], highest[again], endpoint=True)
        candidates = np.concatenate([self.rows[order, None], drawn], axis=1)
        parts = (torch.split(torch.from_numpy(each), batch_rows) for each in (users, candidates))
        return list(zip(*parts, strict=True))

    def _has(self, keys: Places) -> NDArray[np.bool_]:
        places = np.searchsorted(self.known, keys)
        has: NDArray[np.bool_] = self.known[np.minimum(places, len(self.known) - 1)] == keys
        return has


class Table(nn.Module):
    """Vectors by row, of which a step touches those that it takes."""

    values: Tensor
    """(rows, D)."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self._squares = torch.zeros_like(values)
        self._taken: list[tuple[Tensor, Tensor]] = []

    def take(self, rows: Tensor) -> Tensor:
        """Return the vectors of rows, of any shape, to learn from -> (..., D)."""
        vectors, places = self._take(rows)
        return F.embedding(places, vectors)

    def take_with_squares(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of rows, (..., D), and the square of each one's length, (...).

        A row that stands there many times is squared once.
        """
        vectors, places = self._take(rows)
        return F.embedding(places, vectors), vectors.square().sum(dim=1)[places]

    def _take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        once, places = torch.unique(rows, return_inverse=True)
        vectors = self.values[once].requires_grad_()
        self._taken.append((once, vectors))
        return vectors, places

    def update(self, rate: float) -> None:
        """Step down the gradients that `backward` left at the rows taken since the last update."""
        for rows, vectors in self._taken:
            if vectors.grad is not None:
                squares = self._squares[rows].addcmul_(vectors.grad, vectors.grad)
                self._squares[rows] = squares
                scaled = vectors.grad.div_(squares.add_(_TINY).sqrt_())
                self.values.index_add_(0, rows, scaled, alpha=-rate)
        self._taken.clear()


class Ranker(Protocol):
    """What `Pass` teaches to rank."""

    def candidate_scores(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates (B, K) of users (B,) -> (B, K), and the squares to hold down, (B,)."""
        ...

    def update(self, rate: float) -> None:
        """Step down the gradients."""
        ...


class Factors(nn.Module):
    """A vector a user, a vector and a worth an item: x_ui = p_u . q_i + b_i."""

    def __init__(self, users: int, items: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.users = Table(_SPREAD * torch.randn(users, width, generator=generator))
        self.items = Table(_SPREAD * torch.randn(items + 1, width, generator=generator))
        self.bias = Table(torch.zeros(items + 1, 1))

    def candidate_scores(self, users: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Score candidates (B, K) of users (B,); see `Ranker`."""
        vectors = self.users.take(users)
        scores, squares = item_scores(vectors, candidates, self.items, self.bias)
        return scores, squares + vectors.square().sum(dim=1)

    def update(self, rate: float) -> None:
        """Step down the gradients of the rows taken."""
        for table in (self.users, self.items, self.bias):
            table.update(rate)

    def domain_factors(self) -> DomainFactors:
        """Return the vectors as they are now; they go on changing with the network."""
        return DomainFactors(
            self.users.values.numpy(), self.items.values.numpy(), self.bias.values[:, 0].numpy()
        )


def item_scores(
    vectors: Tensor, candidates: Tensor, items: Table, bias: Table
) -> tuple[Tensor, Tensor]:
    """Score candidates (B, K) for user vectors (B, D) -> (B, K), and the items' squares, (B,).

    The squares are those of an example's pairs on average: of the item itself, which is in each of
    them, and of one negative.
    """
    found, squares = items.take_with_squares(candidates)  # (B, K, D), (B, K)
    scores = torch.linalg.vecdot(found, vectors.unsqueeze(1)) + bias.take(candidates).squeeze(2)
    return scores, squares[:, 0] + squares[:, 1:].mean(dim=1)


class Pass:
    """One pass over all examples an epoch, with the pairwise loss."""

    def __init__(
        self, ranker: Ranker, examples: Examples, settings: RankingSettings, path: tuple[int, ...]
    ) -> None:
        """Say who learns what.

        Args:
            ranker: What learns.
            examples: From what.
            settings: How.
            path: What the draws follow from, beside the epoch.
        """
        self._ranker = ranker
        self._examples = examples
        self._settings = settings
        self._path = path

    def __call__(self, epoch: int) -> None:
        """Go over the examples in random order."""
        settings = self._settings
        generator = np.random.default_rng([*self._path, epoch])
        batches = self._examples.batches(settings.batch_rows, settings.negatives, generator)
        for step, (users, candidates) in enumerate(batches):
            scores, squares = self._ranker.candidate_scores(users, candidates)
            loss = pairwise_loss(scores) + settings.decay / 2 * squares.mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            done = (epoch + step / len(batches)) / settings.epochs
            self._ranker.update(settings.learning_rate * (1 - done))


def pairwise_loss(scores: Tensor) -> Tensor:
    """The pairwise loss of scores (B, K), of which the first should be the highest, a scalar."""
    return F.softplus(scores[:, 1:] - scores[:, :1]).mean()


def learn(
    rounds: Sequence[Round],
    network: nn.Module,
    validate: Callable[[], float] | None,
    settings: RankingSettings,
    *,
    start_counts: bool = False,
) -> None:
    """Take the rounds in turn, epoch after epoch, and keep the weights that validated best.

    Args:
        rounds: What is done in an epoch.
        network: All that learns.
        validate: Gives NDCG@10 on the validation rows; none where there are none, and the last
            weights are kept.
        settings: When to look and when to stop.
        start_counts: Whether the weights at the start may be the best there are.
    """
    selection = Selection(
        network, validate, interval=settings.validation_epochs, patience=settings.patience
    )
    if start_counts:
        selection.look()
    for epoch in range(settings.epochs):
        for each in rounds:
            each(epoch)
        if selection.is_due(epoch + 1) or epoch + 1 == settings.epochs:
            selection.look()
            if selection.is_over:
                break
    selection.finish()


def torch_generator(*path: int) -> torch.Generator:
    """Return a generator that follows from a path of numbers."""
    seed = int(np.random.default_rng(path).integers(2**63))
    return torch.Generator().manual_seed(seed)
