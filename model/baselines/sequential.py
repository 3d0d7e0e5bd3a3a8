"""What the single-domain sequence models share: a network per domain, how it learns and answers.

Shapes: B users, T steps, D width, V items of a domain, P positions.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from model.arrays import Floats, Rows
from model.baselines.stored_networks import take_back, tensors_of
from model.baselines.system import Tensors
from model.baselines.tensors import of_domain
from model.data.batches import pad_lists
from model.data.training_data import TrainingData
from model.evaluation.protocol import History, Users
from model.networks.blocks import Dropout, EncoderLayer, Stack, undrawn
from model.settings import Settings

_NOTHING: Rows = np.empty(0, np.int32)
Count = Annotated[int, Field(ge=1)]


class SequenceSettings(Settings):
    """The size of the networks of both domains and how long they learn."""

    width: Annotated[int, Field(ge=2, le=1024)] = 64
    """Numbers in an item embedding and a state."""

    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Attention heads of every layer; divides `width`."""

    layers: Annotated[int, Field(ge=1, le=24)] = 2
    """Transformer layers."""

    feed_forward: Annotated[int, Field(ge=1, le=8192)] = 256
    """Hidden numbers of every feed-forward layer."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Share of the numbers dropped while training."""

    max_history: Annotated[int, Field(ge=1, le=4096)] = 50
    """Items of a history that are read, counted from the end."""

    item_start: Literal["neighbours", "random"] = "neighbours"
    """Where item embeddings start: by what stands near them in training rows, or at random."""

    scaled_input: bool = True
    """Whether embeddings are read sqrt(D) times as long as they are scored: what a step read then
    outweighs its position, and passes the layers."""

    negatives: Count = 1000
    """Items a step draws for a sampled softmax; with no more items in the domain it is exact."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Learning rate at the start."""

    decay: bool = True
    """Whether the learning rate falls to zero in a straight line, or stays."""

    epochs: Annotated[int, Field(ge=0)] = 12
    """Most passes over the users of a domain."""

    least_steps: Annotated[int, Field(ge=0)] = 0
    """Steps that small data is passed over more often for, unless `epochs` is 0."""

    batch_users: Count = 128
    """Users in a step."""

    patience: Count = 3
    """Looks without a better NDCG@10 on the validation rows after which training ends."""

    validation_steps: Count = 1
    """Least steps between two looks at the validation rows; at most one an epoch."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class SequenceNetwork(nn.Module):
    """Reads items in their order; a state per step is compared with the items' embeddings."""

    popularity: Tensor
    """Share of the training rows each item has, (V + 1,)."""

    def __init__(self, items: int, settings: SequenceSettings, *, causal: bool) -> None:
        """Leave the weights undrawn.

        Args:
            items: V.
            settings: The size.
            causal: Whether a step reads earlier steps alone, or later ones too.
        """
        super().__init__()
        self.mask = items + 1
        """The row that stands for an item that is hidden."""
        self.causal = causal
        self.items = nn.Embedding(items + 2, settings.width, padding_idx=0)
        self.positions = nn.Embedding(settings.max_history + 1, settings.width)
        self._scale = settings.width**0.5 if settings.scaled_input else 1.0
        self.dropout = Dropout(settings.dropout)
        size = Stack(
            width=settings.width,
            heads=settings.heads,
            layers=settings.layers,
            feed_forward=settings.feed_forward,
            dropout=settings.dropout,
        )
        self.layers = nn.ModuleList(EncoderLayer(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.register_buffer("popularity", torch.zeros(items + 1))

    @property
    def table(self) -> Tensor:
        """The items' embeddings, (V + 1, D); row 0 is padding."""
        table: Tensor = self.items.weight[: self.mask]
        return table

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (B, T), padded on the left, to states (B, T, D)."""
        real = rows != 0
        from_end = torch.arange(rows.shape[1] - 1, -1, -1, device=rows.device)
        steps = self.dropout(self._scale * self.items(rows) + self.positions(from_end))
        visible = real.unsqueeze(1)
        if self.causal:
            visible = visible & real.new_ones(rows.shape[1], rows.shape[1]).tril()
        # A padded step reads itself: a step that reads nothing would turn to NaN.
        visible = visible | torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
        for layer in self.layers:
            steps = layer(steps, visible)
        states: Tensor = self.norm(steps)
        return states

    def preferences(self, rows: Tensor) -> Tensor:
        """Say what comes after rows (B, T) -> (B, D).

        A network that reads both ways is asked by a mask after the last item.
        """
        if not self.causal:
            rows = nn.functional.pad(rows, (0, 1), value=self.mask)
        states: Tensor = self(rows)[:, -1]
        return states


class SequenceSystem:
    """The networks of both domains at work; each one knows users by their history in its domain."""

    def __init__(self, networks: Mapping[str, SequenceNetwork], *, max_history: int) -> None:
        self._networks = dict(networks)
        self._max_history = max_history

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1); by popularity where no history is known.

        Raises:
            NotFoundError: If the data it was fitted to have no such domain.
        """
        network = of_domain(self._networks, domain)
        own = [history.get(domain, _NOTHING) for history in histories]
        rows = torch.from_numpy(pad_lists(own, longest=self._max_history).astype(np.int64))
        with torch.inference_mode():
            scores = network.preferences(rows) @ network.table.T
            cold = (rows == 0).all(dim=1)
            scores[cold] = network.popularity
        answer: Floats = scores.numpy()
        return answer

    def tensors(self) -> Tensors:
        """Return the weights of both networks, by domain and name."""
        return tensors_of(self._networks)


def blank_network(items: int, settings: SequenceSettings, *, causal: bool) -> SequenceNetwork:
    """Make a network whose weights hold anything: torch would draw them from its global generator.

    Args:
        items: V.
        settings: The size.
        causal: As in `SequenceNetwork`.
    """
    with undrawn():
        network = SequenceNetwork(items, settings, causal=causal)
    return network.to_empty(device="cpu")


def restore_system(
    data: TrainingData, settings: SequenceSettings, tensors: Tensors, *, causal: bool
) -> SequenceSystem:
    """Make a system of the weights that `SequenceSystem.tensors` returned.

    Raises:
        BadArtifactError: If the weights do not fit the data and the settings.
    """
    networks = {}
    for domain in data.domains:
        network = blank_network(domain.items, settings, causal=causal)
        take_back(network, domain.name, tensors)
        networks[domain.name] = network.eval()
    return SequenceSystem(networks, max_history=settings.max_history)
