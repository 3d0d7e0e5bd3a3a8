"""Transformer layers for sequences padded on the left.

Shapes: B users, T steps, M memory tokens, D width, H heads, F feed-forward.
Padded steps may hold anything: no real step ever reads them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_BYTE = 256


class Dropout(nn.Module):
    """Dropout whose draws come from a generator that is given, never from the global one.

    The rate is rounded to a multiple of 1/256, and is at most 255/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._dropped = min(round(rate * _BYTE), _BYTE - 1)
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Zero a share of the values and scale up the rest; nothing outside training."""
        if not self.training or not self._dropped:
            return values
        return values * self._kept(values.shape, values.device) * (_BYTE / (_BYTE - self._dropped))

    def whole(self, vectors: Tensor) -> Tensor:
        """Zero a share of the vectors (..., D), each whole, and leave the rest as they are."""
        if not self.training or not self._dropped:
            return vectors
        return vectors * self._kept(vectors.shape[:-1], vectors.device).unsqueeze(-1)

    def _kept(self, shape: torch.Size, device: torch.device) -> Tensor:
        if self.generator is None:
            raise ValueError("dropout in training needs a generator; call draw_dropout_from first")
        # One draw of 64 bits decides on eight values: drawing was a quarter of a training step.
        count = shape.numel()
        words = torch.empty(count // 8 + 1, dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[:count].view(shape) >= self._dropped


def draw_dropout_from(network: nn.Module, generator: torch.Generator) -> None:
    """Let every dropout inside a network draw from one generator, on the network's device."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator


class _WithoutDraws(TorchFunctionMode):
    """Leaves weights as they are where a layer would draw them."""

    _DRAWING = frozenset({nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_})

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Collection[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function, unless it would draw the tensor it is given."""
        named = kwargs or {}
        if func in self._DRAWING:
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


@contextmanager
def undrawn() -> Iterator[None]:
    """Let layers that are made in the block have weights of their shape that hold nothing.

    On the meta device alone torch would go through the draws all the same, and import its compiler
    to do so.
    """
    with torch.device("meta"), _WithoutDraws():
        yield


def undrawn_linear(read: int, give: int) -> nn.Linear:
    """Make a layer whose weights hold anything, for a caller who sets them all.

    By itself torch draws them from its global generator, which then is not where it was.
    """
    with undrawn():
        layer = nn.Linear(read, give)
    return layer.to_empty(device="cpu")


class Attention(nn.Module):
    """Multi-head attention of one sequence over another, or over itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, steps: Tensor, source: Tensor, visible: Tensor) -> Tensor:
        """Let each step read the source.

        Args:
            steps: Who reads, (B, T, D).
            source: What is read, (B, S, D).
            visible: Whether a step may read a source token, (B, T, S) or (B, 1, S), bool; at least
                one token for every step.

        Returns:
            What was read, (B, T, D).
        """
        query = self._split(self.query(steps))
        key, value = (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=visible.unsqueeze(1))
        merged: Tensor = self.output(read.transpose(1, 2).flatten(2))  # (B, H, T, D/H) -> (B, T, D)
        return merged

    def read_lone(self, token: Tensor) -> Tensor:
        """Read a single token (B, 1, D) -> (B, 1, D), which is the same for every step.

        The softmax over one token is 1. Query and key would get the rounding of that for a
        gradient, and Adam would make full steps of it.
        """
        read: Tensor = self.output(self.key_value(token).chunk(2, dim=-1)[1])
        return read

    def _split(self, values: Tensor) -> Tensor:
        users, steps, width = values.shape
        split = values.view(users, steps, self.heads, width // self.heads)
        return split.transpose(1, 2)  # (B, T, D) -> (B, H, T, D/H)


class FeedForward(nn.Sequential):
    """The position-wise layer: widen to F, bend, narrow back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The size of a stack of layers."""

    width: int
    heads: int
    layers: int
    feed_forward: int
    dropout: float


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to what goes in after normalising it."""

    def __init__(self, size: Stack) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm_feed_forward = nn.LayerNorm(size.width)
        self.feed_forward = FeedForward(size.width, size.feed_forward)
        self.dropout = Dropout(size.dropout)

    def forward(self, steps: Tensor, visible: Tensor, *, last: int = 0) -> Tensor:
        """Map steps (B, T, D) to (B, T, D), or to the `last` of them alone, (B, last, D).

        Args:
            steps: The states, (B, T, D).
            visible: Who may read whom, (B, T, T), bool.
            last: How many steps, from the end, anyone will read; 0 for all.
        """
        normed = self.norm_attention(steps)
        read = self.attention(normed[:, -last:], normed, visible[:, -last:])
        steps = steps[:, -last:] + self.dropout(read)
        fed: Tensor = self.dropout(self.feed_forward(self.norm_feed_forward(steps)))
        return steps + fed


class DecoderLayer(nn.Module):
    """An encoder layer with attention to a memory between its two parts (section 3.3)."""

    def __init__(self, size: Stack) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm_memory = nn.LayerNorm(size.width)
        self.memory_attention = Attention(size.width, size.heads)
        self.norm_feed_forward = nn.LayerNorm(size.width)
        self.feed_forward = FeedForward(size.width, size.feed_forward)
        self.dropout = Dropout(size.dropout)

    def forward(
        self, steps: Tensor, visible: Tensor, memory: Tensor, shown: Tensor, *, last: int = 0
    ) -> Tensor:
        """Map steps (B, T, D) to (B, T, D), or to the `last` of them alone, (B, last, D).

        Args:
            steps: The states, (B, T, D).
            visible: Who may read whom, (B, T, T), bool.
            memory: Memory tokens, (B, M, D).
            shown: Which memory tokens a step may read, (B, T, M) or (B, 1, M), bool.
            last: How many steps, from the end, anyone will read; 0 for all.
        """
        normed = self.norm_attention(steps)
        read = self.attention(normed[:, -last:], normed, visible[:, -last:])
        steps, shown = steps[:, -last:] + self.dropout(read), shown[:, -last:]
        if memory.shape[1] == 1:
            read = self.memory_attention.read_lone(memory).expand_as(steps)
        else:
            read = self.memory_attention(self.norm_memory(steps), memory, shown)
        steps = steps + self.dropout(read)
        fed: Tensor = self.dropout(self.feed_forward(self.norm_feed_forward(steps)))
        return steps + fed


class Encoder(nn.Module):
    """A stack of bidirectional layers of which the last step is read, normalised at the end."""

    def __init__(self, size: Stack) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, steps: Tensor, real: Tensor) -> Tensor:
        """Map embedded steps (B, T, D) to the state of the last one, (B, D).

        The last layer computes that step alone.

        Args:
            steps: Embedded steps, (B, T, D).
            real: Which are no padding, (B, T), bool.
        """
        visible = real.unsqueeze(1) | _diagonal(real)
        for place, layer in enumerate(self.layers):
            steps = layer(steps, visible, last=1 if place == len(self.layers) - 1 else 0)
        state: Tensor = self.norm(steps[:, -1])
        return state


class Decoder(nn.Module):
    """A stack of causal layers with attention to a memory, normalised at the end."""

    def __init__(self, size: Stack) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(
        self, steps: Tensor, real: Tensor, memory: Tensor, shown: Tensor, *, last: int = 0
    ) -> Tensor:
        """Map embedded steps to states that depend on earlier steps and the memory alone.

        The last layer computes no more steps than are asked for.

        Args:
            steps: Embedded steps, (B, T, D).
            real: Which steps are no padding, (B, T), bool.
            memory: Memory tokens, (B, M, D).
            shown: Which memory tokens a step may read, (B, T, M) or (B, 1, M), bool; at least one.
            last: How many states, from the end, are wanted; 0 for all.

        Returns:
            States (B, T, D), or (B, last, D).
        """
        visible = (real.unsqueeze(1) & _earlier(real)) | _diagonal(real)
        for place, layer in enumerate(self.layers):
            final = place == len(self.layers) - 1
            steps = layer(steps, visible, memory, shown, last=last if final else 0)
        states: Tensor = self.norm(steps)
        return states


def _diagonal(real: Tensor) -> Tensor:
    # A padded step reads itself: a step that reads nothing would turn to NaN.
    return torch.eye(real.shape[1], dtype=torch.bool, device=real.device)


def _earlier(real: Tensor) -> Tensor:
    steps = real.shape[1]
    return torch.ones(steps, steps, dtype=torch.bool, device=real.device).tril()
