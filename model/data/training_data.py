"""What may be learned from: a dataset without its test rows.

Shapes: U users of a domain, S shared users.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.arrays import Places, Rows
from model.data.dataset import Dataset, Sequences
from model.errors import BadDataError


@dataclass(frozen=True, slots=True)
class TrainingDomain:
    """One domain without its test rows."""

    name: str
    items: int
    training: Sequences
    """What is learned from; may be empty for no user."""
    validation: NDArray[np.int32]
    """The row after the training rows, (U,); 0 where none is kept for validation."""
    other: Places
    """The same user's place in the other domain, (U,); -1 for users that are not shared."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A dataset as training may see it: no test row can be reached from here."""

    domains: tuple[TrainingDomain, TrainingDomain]
    shared: Places
    """A shared user's place in the first and in the second domain, (S, 2)."""

    @classmethod
    def of(cls, dataset: Dataset) -> "TrainingData":
        """Leave the test rows out of a dataset.

        Raises:
            BadDataError: If a domain has no user or no item.
        """
        shared = dataset.shared.astype(np.int64)
        domains = []
        for place, domain in enumerate(dataset.domains):
            if not len(domain.sequences) or not len(domain.vocabulary):
                raise BadDataError(f"domain {domain.name} of the dataset is empty")
            training = domain.training()
            held_out = domain.held_out() > 0
            validation = np.zeros(len(training), np.int32)
            after = domain.sequences.starts[held_out] + training.lengths[held_out]
            validation[held_out] = domain.sequences.rows[after]
            other = np.full(len(training), -1, np.int64)
            other[shared[:, place]] = shared[:, 1 - place]
            domains.append(
                TrainingDomain(domain.name, len(domain.vocabulary), training, validation, other)
            )
        return cls((domains[0], domains[1]), shared)

    def with_untied(self, places: Places) -> "TrainingData":
        """Return the same data in which some shared users, by place in `shared`, are two users."""
        domains = []
        for place, domain in enumerate(self.domains):
            other = np.array(domain.other)
            other[self.shared[places, place]] = -1
            domains.append(replace(domain, other=other))
        return TrainingData((domains[0], domains[1]), np.delete(self.shared, places, axis=0))

    def history(self, domain: TrainingDomain, user: int) -> dict[str, Rows]:
        """Return the training rows of a user of a domain by name of domain, a shared user's two."""
        history = {domain.name: domain.training[user]}
        elsewhere = int(domain.other[user])
        if elsewhere >= 0:
            other = self.other_than(domain)
            history[other.name] = other.training[elsewhere]
        return history

    def other_than(self, domain: TrainingDomain) -> TrainingDomain:
        """Return the other of the two domains."""
        first, second = self.domains
        return second if domain.name == first.name else first
