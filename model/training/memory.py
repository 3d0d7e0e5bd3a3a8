"""Which GURs a recommender may read while it learns, and from which step on.

A user's own GUR is made from a prefix that ends before every item it helps to predict: a cut is
drawn, the rows before it become the GUR, and only the steps from the cut on may read it. Serving is
the case where the cut lies after the last row. The GUR of the other domain may be read by every
step, unless it is hidden so that users without one are learned too.

Shapes: B users, T steps.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from model.arrays import Flags, Places
from model.data.training_data import TrainingDomain
from model.networks.settings import Memory, NetworkSettings


@dataclass(frozen=True, slots=True)
class Views:
    """What the users of a batch may be known by, and which of their rows are learned from."""

    ends: Places
    """Rows up to the last one that is predicted, (B,); `recent` at most before it are read."""
    counts: Places
    """Rows before each user's cut, at least one where there is any, (B,)."""
    partners: Places
    """The user's place in the other domain, (B,); -1 for users that are not shared."""
    other: Flags
    """Whether the other GUR may be read, (B,)."""

    def of(self, places: slice) -> Self:
        """Return the views of some users of the batch."""
        return type(self)(
            self.ends[places], self.counts[places], self.partners[places], self.other[places]
        )

    def read_other(self, memory: Memory) -> Flags:
        """Say whose other GUR is read at all -> (B,).

        Args:
            memory: What the recommender reads; with `cold` those read it of whom it reads no row.
        """
        if memory == "cold":
            return self.other & (self.ends <= 1)
        return self.other & (memory in {"other", "both"})

    def shown(self, steps: int) -> Flags:
        """Say whether a step may read the own and the other GUR -> (B, T, 2).

        Args:
            steps: T: the last step predicts the row before the end.
        """
        read = np.arange(steps) + (self.ends - steps)[:, None]  # (B, T): rows a step has read
        other = np.broadcast_to(self.other[:, None], read.shape)
        return np.stack([read >= self.counts[:, None], other], axis=2)


def draw_views(
    domain: TrainingDomain,
    users: Places,
    *,
    size: NetworkSettings,
    hide_other: float,
    generator: np.random.Generator,
) -> Views:
    """Draw ends, cuts, and whose other GUR is hidden.

    A recommender that reads fewer rows than the encoder learns, of a longer history, from a stretch
    drawn anew: what came before it is known by the GUR alone, as it will be when it serves.

    Args:
        domain: The domain that is learned.
        users: Whom, (B,).
        size: The networks' size.
        hide_other: Share of the shared users whose other GUR is hidden.
        generator: Where the draws come from.
    """
    lengths = domain.training.lengths[users]
    unread = np.maximum(np.minimum(lengths, size.max_history) - size.stretch, 0)
    ends = lengths - generator.integers(0, unread, endpoint=True)
    cuts = generator.integers(1, np.maximum(ends, 2))  # (B,): rows before the cut
    partners = domain.other[users]
    hidden = generator.random(len(users)) < hide_other
    return Views(ends, np.minimum(cuts, ends), partners, (partners >= 0) & ~hidden)
