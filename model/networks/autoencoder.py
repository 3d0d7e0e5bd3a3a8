"""The generalized user representation unit, GURU (sections 3.3 and 6.1.1).

Shapes: B users, T steps, D width, V items of a domain, N longest history.
Rows (B, T) are padded on the left with 0. A position is counted from the end, so that padding, a
batch mate or a larger N never moves it: [eos] has position 0, the last item 1, the one before 2.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.networks.blocks import Decoder, Dropout, Encoder, Stack
from model.networks.settings import NetworkSettings
from model.weight_names import module_key

SPREAD = 0.02
"""Standard deviation that embeddings and tokens start with."""


class DomainEmbedding(nn.Module):
    """Items and positions of one domain as vectors (the paper's I and P).

    An item may be scored by a mean of its own vector and those of its neighbours, after
    `mix_neighbours`; it is read by its own alone.
    """

    mixed: Tensor | None
    """Rows averaged where an item is scored, itself first, (V + 1, 1 + K), int64; 0 is nothing."""
    shares: Tensor | None
    """How much each of them counts, (V + 1, 1 + K)."""

    def __init__(self, items: int, settings: NetworkSettings) -> None:
        super().__init__()
        width = settings.width
        self.items = nn.Embedding(items + 1, width, padding_idx=0)
        self.positions = nn.Embedding(settings.max_history + 1, width)
        self.end = token(width)
        self.dropout = Dropout(settings.dropout)
        self.item_dropout = Dropout(settings.item_dropout)
        self.unit = settings.scoring == "cosine"
        self._scale = width**0.5 if settings.scaled_input else 1.0
        # What serves has the means in a table; only training must know of what they are made.
        self.register_buffer("mixed", None, persistent=False)
        self.register_buffer("shares", None, persistent=False)

    def mix_neighbours(self, neighbours: Tensor, shares: Tensor) -> None:
        """Score items by a mean with their neighbours from now on.

        Args:
            neighbours: Rows of the neighbours of each row, 0 where it has fewer, (V + 1, K), int64.
            shares: How much each counts in the mean, (V + 1, K); the item itself counts for the
                rest of 1.
        """
        own = torch.arange(len(neighbours), device=neighbours.device).unsqueeze(1)
        self.mixed = torch.cat([own, neighbours], dim=1)
        whole = torch.cat([1 - shares.sum(dim=1, keepdim=True), shares], dim=1)
        self.shares = whole.to(self.items.weight.dtype)

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Look items up as they are scored, rows of any shape -> (..., D); zeros for padding."""
        if self.mixed is None or self.shares is None:
            return self._in_length(self.items(rows))
        flat = rows.flatten()
        vectors = F.embedding_bag(
            self.mixed[flat],
            self.items.weight,
            mode="sum",
            sparse=self.items.sparse,
            per_sample_weights=self.shares[flat],
            padding_idx=0,
        )
        return self._in_length(vectors.view(*rows.shape, -1))

    @torch.no_grad()
    def item_table(self) -> Tensor:
        """Return all items as they are scored, (V + 1, D)."""
        rows = torch.arange(self.items.num_embeddings, device=self.items.weight.device)
        return self.item_vectors(rows)

    def read(self, rows: Tensor) -> Tensor:
        """Look items up as they are read, rows (B, T) -> (B, T, D); some are left out in training.

        Position and place in the sequence stay those of the item that is left out.
        """
        return self.item_dropout.whole(self._in_length(self.items(rows)))

    def with_end(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Embed rows (B, T), then [eos] -> vectors (B, T + 1, D), which are real (B, T + 1)."""
        end = (self.end + self.positions.weight[0]).expand(len(rows), 1, -1)
        vectors = torch.cat([self._placed(self.read(rows)), end], dim=1)
        real = F.pad(rows != 0, (0, 1), value=True)
        embedded: Tensor = self.dropout(vectors)
        return embedded, real

    def with_start(self, rows: Tensor, items: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Embed a start token (D,), then rows (B, T) that `read` has looked up -> as `with_end`.

        The start token stands right before the first real item, so it moves with the padding.
        """
        padded = F.pad(rows, (1, 0))
        real = F.pad(rows != 0, (0, 1), value=True)  # a step counts from one before its first item
        starts = real & (padded == 0)
        placed = self._placed(F.pad(items, (0, 0, 1, 0)))
        vectors = torch.where(starts.unsqueeze(-1), start, placed)
        embedded: Tensor = self.dropout(vectors)
        return embedded, real

    def _in_length(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.unit else vectors

    def _placed(self, items: Tensor) -> Tensor:
        positions = torch.arange(items.shape[1], 0, -1, device=items.device)
        positions = positions.clamp(max=self.positions.num_embeddings - 1)
        placed: Tensor = self._scale * items + self.positions(positions)
        return placed


class GurEncoder(nn.Module):
    """An embedding per domain and one encoder for all: a history becomes a GUR (equation 4)."""

    def __init__(self, items: Mapping[str, int], settings: NetworkSettings) -> None:
        super().__init__()
        settings = settings.of_encoder()
        self.embeddings = nn.ModuleDict(
            {
                module_key(domain): DomainEmbedding(count, settings)
                for domain, count in items.items()
            }
        )
        self.encoder = Encoder(stack_of(settings))

    def embedding(self, domain: str) -> DomainEmbedding:
        """Return the embedding of one domain."""
        embedding = self.embeddings[module_key(domain)]
        assert isinstance(embedding, DomainEmbedding)  # noqa: S101  # ModuleDict forgets the type
        return embedding

    def forward(self, domain: str, rows: Tensor) -> Tensor:
        """Encode histories of one domain, rows (B, T) oldest first -> GURs (B, D)."""
        vectors, real = self.embedding(domain).with_end(rows)
        gurs: Tensor = self.encoder(vectors, real)
        return gurs


class Reconstructor(nn.Module):
    """The decoder of one domain's autoencoder: rebuilds a sequence from its GUR (equation 5)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.start = token(settings.width)
        self.decoder = Decoder(stack_of(settings))

    def forward(self, embedding: DomainEmbedding, rows: Tensor, gurs: Tensor) -> Tensor:
        """Give the state that predicts each step from the steps before it and the GUR.

        Args:
            embedding: The embedding of the rows' domain.
            rows: The sequences, (B, T), padded on the left.
            gurs: Their representations, (B, D).

        Returns:
            States (B, T, D): state t is made from items before t; where rows is 0 it means nothing.
        """
        before = rows[:, :-1]
        vectors, real = embedding.with_start(before, embedding.read(before), self.start)
        shown = real.new_ones(len(rows), 1, 1)
        states: Tensor = self.decoder(vectors, real, gurs.unsqueeze(1), shown)
        return F.normalize(states, dim=-1) if embedding.unit else states


def token(width: int) -> nn.Parameter:
    """Make a learned token of its own, (D,); `model.networks.system.initialise` draws it."""
    return nn.Parameter(torch.zeros(width))


def stack_of(settings: NetworkSettings) -> Stack:
    """Give the size of the layer stacks that settings ask for."""
    return Stack(
        width=settings.width,
        heads=settings.heads,
        layers=settings.layers,
        feed_forward=settings.feed_forward,
        dropout=settings.dropout,
    )
