"""The questions every model is asked, and what it may know when it answers.

Leave-one-out per user and domain: the last row of a sequence is the test, the one before it the
validation, the rest is training (`model.data.dataset`). A question shows a user's history in the
target domain and, for a shared user, in the other one. No history ever holds a test row of any
domain; one of a validation question holds training rows alone.

Shapes: Q questions, U users of a domain, N negatives, V items of a domain; row 0 is padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from model.arrays import Flags, Floats, Places, Rows
from model.data.dataset import Dataset, DomainData, Sequences
from model.evaluation.negatives import draw_negatives, negative_weights

History = Mapping[str, Rows]
"""A user's known rows by domain name, oldest first; a domain without any may be left out."""

Users = Mapping[str, Places]
"""By domain name, where each of B users stands among the users of the dataset, (B,); -1 where the
user is not known there."""

Split = Literal["validation", "test"]

BATCH = 64
"""Questions answered together, in process and over the wire alike."""

NEGATIVES = 200
"""Sampled negatives of a question, as in the paper."""

SHORT = 3
"""Most training rows in the target domain of a user in the slice `short`."""


class Scorer(Protocol):
    """Anything that can rank the items of a domain for users with these histories."""

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each of B users -> (B, V + 1); column 0, padding, is ignored.

        Args:
            domain: The domain whose items are ranked.
            histories: What is known of each user.
            users: Who they are, for a system that has learned something of each user by name; one
                that knows users by their histories alone, or none at all, passes over it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Questions:
    """All questions of one domain and split, those with short histories first.

    Neighbours have histories of like length, so a batch of neighbours needs little padding.
    """

    domain: str
    other_domain: str
    split: Split
    seed: int
    """What the negatives were drawn with."""
    items: int
    """V, the items of the domain."""
    users: Places
    """Each question's user, as a place in the domain, (Q,)."""
    partners: Places
    """The same user's place in the other domain, -1 where the user is not shared, (Q,)."""
    targets: Rows
    """The row to be found, (Q,)."""
    negatives: Rows
    """Rows the user has nothing to do with, (Q, N); 0 at the end where a domain has too few."""
    short: Flags
    """Whether the user has at most `SHORT` training rows in the domain, (Q,)."""
    known: Sequences
    """What may be known of each user of the domain, U lists."""
    known_elsewhere: Sequences
    """What may be known of each user of the other domain."""
    cold: bool = False
    """Whether the histories in the target domain are hidden from who answers."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def shared(self) -> Flags:
        """Whether the user is known in both domains, (Q,)."""
        return self.partners >= 0

    def history(self, place: int) -> dict[str, Rows]:
        """Return what may be known when question `place` is answered."""
        history: dict[str, Rows] = {}
        if not self.cold:
            history[self.domain] = self.known[int(self.users[place])]
        partner = int(self.partners[place])
        if partner >= 0:
            history[self.other_domain] = self.known_elsewhere[partner]
        return history

    def users_at(self, places: range) -> Users:
        """Say who asks the questions at some places."""
        own, elsewhere = self.users[list(places)], self.partners[list(places)]
        return {
            self.domain: np.full_like(own, -1) if self.cold else own,
            self.other_domain: elsewhere,
        }

    def batches(self, size: int = BATCH) -> Iterator[range]:
        """Give the places of the questions in order, `size` at a time."""
        for first in range(0, len(self), size):
            yield range(first, min(first + size, len(self)))


def questions(
    dataset: Dataset, domain: str, *, split: Split = "test", seed: int = 0, cold: bool = False
) -> Questions:
    """Ask for the held-out row of every user of a domain who has one.

    The negatives depend on what the domain holds, on whether it is the dataset's first or second,
    which the digest need not tell, and on the seed alone: a user has the same in both splits and
    for every model.

    Args:
        dataset: Where the users come from.
        domain: The target domain.
        split: Which of the two held-out rows is asked for. Models are selected on `validation`.
        seed: What the negatives are drawn with.
        cold: Ask of shared users alone, and hide their history in the target domain: what is left
            is how well a user is served who is new to it. Ranked like any other question, the
            user's earlier items excluded.

    Raises:
        NotFoundError: If the dataset has no such domain.
    """
    own = dataset.domain(domain)
    first = own is dataset.domains[0]
    other = dataset.domains[1 if first else 0]
    users = np.flatnonzero(own.held_out())
    negatives = draw_negatives(
        negative_weights(own.training(), len(own.vocabulary)),
        own.sequences.take(users),
        NEGATIVES,
        np.random.default_rng([seed, 0 if first else 1]),
    )
    known = _known(own, split)
    partners = np.full(len(own.users), -1, np.int64)
    partners[dataset.shared[:, 0 if first else 1]] = dataset.shared[:, 1 if first else 0]
    order = np.argsort(known.lengths[users], kind="stable")
    if cold:
        order = order[partners[users[order]] >= 0]
    users = users[order]
    from_end = 1 if split == "test" else 2
    return Questions(
        domain=domain,
        other_domain=other.name,
        split=split,
        seed=seed,
        items=len(own.vocabulary),
        users=users,
        partners=partners[users],
        targets=np.asarray(own.sequences.rows[own.sequences.ends[users] - from_end], np.int32),
        negatives=negatives[order],
        short=own.training().lengths[users] <= SHORT,
        known=known,
        known_elsewhere=_known(other, split),
        cold=cold,
    )


def _known(domain: DomainData, split: Split) -> Sequences:
    held_out = domain.held_out()
    return domain.sequences.without_last(np.minimum(held_out, 1) if split == "test" else held_out)
