"""The cross-domain sequential recommender, CDSRec (sections 3.4 and 6.1.2).

Shapes: B users, T steps, M memory tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.networks.autoencoder import DomainEmbedding, stack_of, token
from model.networks.blocks import Decoder
from model.networks.settings import NetworkSettings

_READABLE = {
    "none": slice(0),
    "own": slice(1),
    "other": slice(1, None),
    "cold": slice(1, None),
    "both": slice(None),
}
"""By `memory`: which of the GURs, the target domain's first, are read."""


class Recommender(nn.Module):
    """Reads the recent items of one domain beside a user's GURs; gives the preference vector.

    The memory holds a learned token that is always shown, so that attention can turn away from the
    GURs, then the GURs. A user without a history in the domain is the start token alone.

    With cosine scoring a preference has length one. What the layers give may be added to a mean of
    the items read, the later the heavier: items that go with the last ones then rank high before
    anything is learned, and the layers learn what differs from that.
    """

    def __init__(self, items: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.embedding = DomainEmbedding(items, settings)
        self.start = token(settings.width)
        self.nothing = token(settings.width)
        self.decoder = Decoder(stack_of(settings))
        self._recent_decay = settings.recent_decay
        self._readable = _READABLE[settings.memory]
        self._only_cold = settings.memory == "cold"

    def forward(self, rows: Tensor, gurs: Tensor, shown: Tensor, *, last: int = 0) -> Tensor:
        """Give the preference vector after each step (equation 10).

        Args:
            rows: Recent items oldest first, padded on the left, (B, T).
            gurs: The GURs a user may be known by, the target domain's first, (B, M, D).
            shown: Which of them each of the T + 1 steps may read, (B, T + 1, M), bool.
            last: How many of the steps, from the end, are wanted; 0 for all.

        Returns:
            Preference vectors (B, T + 1, D), or (B, last, D): the one at t follows from the first
            t columns of `rows`; where the next column is padding too it means nothing.
        """
        items = self.embedding.read(rows)
        vectors, real = self.embedding.with_start(rows, items, self.start)
        nothing = self.nothing.expand(len(rows), 1, -1)
        gurs, shown = gurs[:, self._readable], shown[:, :, self._readable]
        if self._only_cold:  # of all steps of a user: later ones read what the start token has read
            shown = shown & (rows == 0).all(dim=1)[:, None, None]
        memory = torch.cat([nothing, gurs], dim=1)  # (B, 1 + M, D)
        shown = F.pad(shown, (1, 0), value=True)
        preferences: Tensor = self.decoder(vectors, real, memory, shown, last=last)
        if not self.embedding.unit:
            return preferences
        preferences = preferences / preferences.shape[-1] ** 0.5
        if self._recent_decay:
            means = recent_mean(rows, items, self._recent_decay)
            preferences = preferences + means[:, -last:]
        return F.normalize(preferences, dim=-1)


def recent_mean(rows: Tensor, items: Tensor, decay: float) -> Tensor:
    """Average what each step has read, an item weighing `decay` times as much as the next.

    Args:
        rows: Padded on the left, (B, T).
        items: Their vectors, (B, T, D).
        decay: Above 0 and below 1.

    Returns:
        (B, T + 1, D); zeros where nothing is read yet.
    """
    columns = torch.arange(rows.shape[1], device=rows.device)
    age = torch.arange(rows.shape[1] + 1, device=rows.device).unsqueeze(1) - 1 - columns
    weights = torch.where(age >= 0, decay ** age.clamp(min=0), 0.0)  # (T + 1, T)
    weights = weights * (rows != 0).unsqueeze(1)  # (B, T + 1, T)
    total = weights.sum(dim=2, keepdim=True)
    return weights @ items / total.clamp(min=torch.finfo(weights.dtype).tiny)
