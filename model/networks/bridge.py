"""From what a user prefers in one domain to what the user may prefer in the other.

Shapes: B users, D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from model.networks.blocks import Dropout
from model.networks.perceptron import Perceptron
from model.networks.settings import NetworkSettings


class PreferenceBridge(nn.Module):
    """Answers for users who are new to a domain by their preference vectors in the other one.

    Shared users' GURs can be learned by heart, since losses tie them to what these users have in
    the target domain. A preference vector is made without GURs, of the history in its own domain:
    what is learned from it on shared users holds for users nobody has tied. A bridge is zeros, and
    says nothing, until it has learned.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.dropout = Dropout(settings.dropout)
        self.perceptron = Perceptron((settings.width, settings.bridge_hidden, settings.width))
        self._share = settings.bridge_share
        self._unit = settings.scoring == "cosine"

    def forward(self, elsewhere: Tensor) -> Tensor:
        """Map preference vectors (B, D) of the other domain to the target domain -> (B, D)."""
        mapped: Tensor = self.perceptron(self.dropout(elsewhere))
        return F.normalize(mapped, dim=-1) if self._unit else mapped

    def blended(self, preferences: Tensor, elsewhere: Tensor) -> Tensor:
        """Blend the target domain's answer from the GUR with the mapped preference -> (B, D).

        Args:
            preferences: What the target domain's recommender makes of the other domain's GUR
                alone, (B, D).
            elsewhere: The users' preference vectors in the other domain, (B, D).
        """
        blend = (1 - self._share) * preferences + self._share * self(elsewhere)
        return F.normalize(blend, dim=-1) if self._unit else blend
