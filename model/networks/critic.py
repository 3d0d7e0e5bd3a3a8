"""The domain discriminator of section 3.3, a WGAN critic (sections 4.2 and 6.1.1).

Shapes: B users, D width.
"""

from itertools import pairwise

from torch import Tensor, nn


class Critic(nn.Module):
    """Fully connected layers that score from which domain a GUR comes; higher for the first one."""

    def __init__(self, *, width: int, layers: int, hidden: int) -> None:
        sizes = [width, *[hidden] * (layers - 1)]
        stack: list[nn.Module] = []
        for before, after in pairwise(sizes):
            stack += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        super().__init__()
        self.layers = nn.Sequential(*stack, nn.Linear(sizes[-1], 1))

    def forward(self, gurs: Tensor) -> Tensor:
        """Score GURs (B, D) -> (B,), unbounded."""
        scores: Tensor = self.layers(gurs).squeeze(-1)
        return scores
