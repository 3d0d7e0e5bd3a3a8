"""The smallest network: one hidden layer.

Shapes: B vectors.
"""

import torch
from torch import Tensor, nn

from model.networks.blocks import undrawn_linear


class Perceptron(nn.Module):
    """Two fully connected layers, tanh between them; the second starts at zero."""

    def __init__(
        self, sizes: tuple[int, int, int], generator: torch.Generator | None = None
    ) -> None:
        """Make the layers, all zeros unless a generator draws the first.

        Args:
            sizes: Numbers that are read, those of the hidden layer, and those that are given.
            generator: As `draw` takes it.
        """
        super().__init__()
        read, hidden, give = sizes
        self.hidden = undrawn_linear(read, hidden)
        self.out = undrawn_linear(hidden, give)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
        if generator is not None:
            self.draw(generator)

    @torch.no_grad()
    def draw(self, generator: torch.Generator, *, out_spread: float = 0.0) -> None:
        """Draw the weights anew on the generator's device, those of the second layer if spread."""
        self.hidden.weight.normal_(0, self.hidden.in_features**-0.5, generator=generator)
        if out_spread:
            self.out.weight.normal_(0, out_spread, generator=generator)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (B, read) -> (B, give)."""
        mapped: Tensor = self.out(torch.tanh(self.hidden(vectors)))
        return mapped
