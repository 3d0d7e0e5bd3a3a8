"""What every phase works on: the data that may be learned from, the networks, the settings.

Shapes: U users of a domain, S shared users, B users in a batch, T steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.batches import Places, alike, pad_slices
from model.data.dataset import Dataset, Sequences
from model.errors import BadDataError
from model.networks.system import TrainingNetworks
from model.training.settings import TrainSettings


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

    def other_than(self, domain: TrainingDomain) -> TrainingDomain:
        """Return the other of the two domains."""
        first, second = self.domains
        return second if domain.name == first.name else first


@dataclass(frozen=True, slots=True)
class Context:
    """What the phases of one training share."""

    data: TrainingData
    networks: TrainingNetworks
    settings: TrainSettings
    device: torch.device

    def rows(
        self, domain: TrainingDomain, users: Places, *, counts: Places | None = None
    ) -> Tensor:
        """Return training rows of users as a padded batch on the device -> (B, T), int64."""
        longest = self.settings.network.max_history
        padded = pad_slices(domain.training, users, longest=longest, counts=counts)
        return self.on_device(padded.astype(np.int64))

    def on_device(self, values: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        """Move an array to the device; from pinned memory and without waiting where it is a GPU."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def mixed_precision(self) -> torch.autocast:
        """Compute in bfloat16 where it pays: on a GPU."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"
        )

    def gurs(
        self, domain: TrainingDomain, users: Places, *, counts: Places | None = None
    ) -> Tensor:
        """Encode users' training rows, or the first `counts` (B,) of each, to GURs (B, D).

        Users of like length are encoded together, so that a long one does not pad all the others.
        """
        counts = domain.training.lengths[users] if counts is None else counts
        groups = alike(np.minimum(counts, self.settings.network.max_history))
        parts = [
            self.encode(domain, self.rows(domain, users[group], counts=counts[group]))
            for group in groups
        ]
        return torch.cat(parts)[self.on_device(np.argsort(np.concatenate(groups)))]

    def encode(self, domain: TrainingDomain, rows: Tensor) -> Tensor:
        """Encode rows (B, T) of a domain to GURs (B, D) in float32."""
        with self.mixed_precision():
            gurs: Tensor = self.networks.serving.gur_encoder(domain.name, rows)
        return gurs.float()
