"""The cross-domain sequential recommender, CDSRec (sections 3.4 and 6.1.2).

Shapes: B users, T steps, M memory tokens, D width.
"""

import torch
from torch import Tensor, nn

from model.networks.autoencoder import domain_embedding, stack_of, token
from model.networks.blocks import Decoder
from model.networks.settings import NetworkSettings


class Recommender(nn.Module):
    """Reads the recent items of one domain beside a user's GURs; gives the preference vector.

    The memory holds a learned token that is always shown, so that attention can turn away from the
    GURs, then the GURs. A user without a history in the domain is the start token alone.
    """

    def __init__(self, items: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.embedding = domain_embedding(items, settings)
        self.start = token(settings.width)
        self.nothing = token(settings.width)
        self.decoder = Decoder(stack_of(settings))

    def forward(self, rows: Tensor, gurs: Tensor, shown: Tensor) -> Tensor:
        """Give the preference vector after each step (equation 10).

        Args:
            rows: Recent items oldest first, padded on the left, (B, T).
            gurs: The GURs a user may be known by, (B, M, D).
            shown: Which of them each of the T + 1 steps may read, (B, T + 1, M), bool.

        Returns:
            Preference vectors (B, T + 1, D): the one at t follows from the first t columns of
            `rows`; where the next column is padding too it means nothing.
        """
        vectors, real = self.embedding.with_start(rows, self.start)
        nothing = self.nothing.expand(len(rows), 1, -1)
        memory = torch.cat([nothing, gurs], dim=1)  # (B, 1 + M, D)
        shown = nn.functional.pad(shown, (1, 0), value=True)
        preferences: Tensor = self.decoder(vectors, real, memory, shown)
        return preferences
