"""What every phase works on: the data that may be learned from, the networks, the settings.

Shapes: B users in a batch, T steps, D width.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.arrays import Places
from model.data.batches import alike, pad_slices
from model.data.newcomers import draw_untied
from model.data.training_data import TrainingData, TrainingDomain
from model.losses import Catalogue
from model.networks.autoencoder import DomainEmbedding
from model.networks.system import TrainingNetworks
from model.training.draws import Draws
from model.training.neighbours import likest_items
from model.training.parallel import Team
from model.training.settings import TrainSettings

_ENCODED_TOGETHER = 1024
_UNTIED = 2**32 - 1  # apart from the numbers of phases, which draws follow from too


@dataclass(frozen=True, slots=True)
class Share:
    """What this process does of a batch; the shares of all processes add up to the batch."""

    users: Places
    """Its users, (B,): at least one, so that all processes train the same weights, even where it
    then counts for nothing."""
    places: slice
    """Where they stand in the batch."""
    of_users: float
    """How much of the batch they are, between 0 and 1, counted in users."""
    of_positions: float
    """The same, counted in training rows."""

    def of_position_mean(self, mean: Tensor) -> Tensor:
        """Return what a mean over its positions adds to the mean over those of the batch."""
        if self.of_positions:
            return mean * self.of_positions
        return mean.nan_to_num() * 0.0  # of no position the mean is no number


@dataclass(frozen=True, slots=True)
class Context:
    """What the phases of one training share."""

    data: TrainingData
    """What is learned from; the untied users are two users each in it."""
    networks: TrainingNetworks
    settings: TrainSettings
    team: Team
    """Who else trains these networks."""
    untied: Places
    """Shared users that training does not know to be shared, their places in the first and second
    domain, (K, 2): alignment is judged on them."""

    @classmethod
    def of(
        cls,
        data: TrainingData,
        networks: TrainingNetworks,
        settings: TrainSettings,
        team: Team,
    ) -> Self:
        """Put together what the phases share; who is left untied follows from the seed."""
        untied = untied_places(len(data.shared), settings)
        learned = data.with_untied(untied)
        if settings.network.neighbours:
            _mix_neighbours(networks, learned, settings.network.neighbours)
        return cls(learned, networks.to(team.device), settings, team, data.shared[untied])

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.team.device

    def draws(self, phase: int) -> Draws:
        """Return the generators of a phase; with several processes dropout has its own."""
        apart = self.team.rank if self.team.size > 1 else None
        return Draws(self.settings.seed, phase, self.device, apart=apart)

    def share(self, domain: TrainingDomain, users: Places, *, longest: int | None = None) -> Share:
        """Return what this process does of a batch of users of a domain, (B,).

        Args:
            domain: The domain.
            users: The batch.
            longest: Most rows of a user that count; none means `max_history`.
        """
        start, end = self.team.part(len(users))
        places = slice(start, end) if end > start else slice(0, 1)
        most = self.settings.network.max_history if longest is None else longest
        lengths = np.minimum(domain.training.lengths[users], most)
        return Share(
            users[places],
            places,
            of_users=(end - start) / len(users),
            of_positions=float(lengths[start:end].sum() / max(lengths.sum(), 1)),
        )

    def draw_shared(self, count: int, generator: np.random.Generator) -> Places:
        """Draw shared users, none twice -> places in the first and second domain, (S, 2)."""
        shared = self.data.shared
        return shared[generator.choice(len(shared), min(count, len(shared)), replace=False)]

    def rows(
        self,
        domain: TrainingDomain,
        users: Places,
        *,
        counts: Places | None = None,
        longest: int | None = None,
    ) -> Tensor:
        """Return training rows of users as a padded batch on the device -> (B, T), int64.

        Args:
            domain: The domain.
            users: Whose rows, (B,).
            counts: How many of each user's rows come before the end that is meant, (B,); none
                means all.
            longest: Most rows to keep, counted from there; none means `max_history`.
        """
        return self.on_device(self._padded(domain, users, counts, longest))

    def rows_and_places(
        self,
        domain: TrainingDomain,
        users: Places,
        *,
        counts: Places | None = None,
        longest: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return training rows as `rows` does, (B, T), and the places of those that are real, (P,).

        They are for `at_places`, and found on the host: it would have to wait for how many a mask
        on a GPU lets through.
        """
        padded = self._padded(domain, users, counts, longest)
        return self.on_device(padded), self.on_device(np.flatnonzero(padded))

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

    def catalogue(self, embedding: DomainEmbedding) -> Catalogue:
        """Return the items of an embedding as losses look them up."""
        return Catalogue(embedding.items.num_embeddings - 1, embedding.item_vectors)

    def sharpened(self, states: Tensor) -> Tensor:
        """Return states (..., D) in whole precision, ready for a softmax over their scores."""
        cosine = self.settings.network.scoring == "cosine"
        states = _whole(states)
        return states / self.settings.temperature if cosine else states

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

    @torch.no_grad()
    def gurs_of_many(self, domain: TrainingDomain, users: Places) -> Tensor:
        """Encode all training rows of however many users, some at a time, to GURs (B, D).

        Nothing is learned from them: they have no gradients.
        """
        parts = [torch.zeros(0, self.settings.network.width, device=self.device)]
        parts += [
            self.gurs(domain, users[first : first + _ENCODED_TOGETHER])
            for first in range(0, len(users), _ENCODED_TOGETHER)
        ]
        return torch.cat(parts)

    def encode(self, domain: TrainingDomain, rows: Tensor) -> Tensor:
        """Encode rows (B, T) of a domain to GURs (B, D) in whole precision."""
        with self.mixed_precision():
            gurs: Tensor = self.networks.serving.gur_encoder(domain.name, rows)
        return _whole(gurs)

    def _padded(
        self, domain: TrainingDomain, users: Places, counts: Places | None, longest: int | None
    ) -> NDArray[np.int64]:
        most = self.settings.network.max_history if longest is None else longest
        return pad_slices(domain.training, users, longest=most, counts=counts).astype(np.int64)


def at_places(steps: Tensor, places: Tensor) -> Tensor:
    """Pick steps (B, T, ...) by their places in one line, (P,) -> (P, ...)."""
    return steps.flatten(0, 1).index_select(0, places)


def untied_places(shared: int, settings: TrainSettings) -> Places:
    """Say which of so many shared users a training takes for two users each -> places, (K,)."""
    return draw_untied(shared, share=settings.untied_share, path=(settings.seed, _UNTIED))


def _mix_neighbours(networks: TrainingNetworks, data: TrainingData, count: int) -> None:
    for domain in data.domains:
        neighbours, shares = likest_items(domain.training, domain.items, count)
        embedding = networks.serving.recommender(domain.name).embedding
        embedding.mix_neighbours(torch.from_numpy(neighbours), torch.from_numpy(shares))


def _whole(states: Tensor) -> Tensor:
    """Leave the halved precision of `mixed_precision` behind."""
    return states.float() if states.dtype is torch.bfloat16 else states
