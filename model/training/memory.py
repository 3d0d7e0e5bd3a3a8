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
from numpy.typing import NDArray

from model.data.batches import Places
from model.data.training_data import TrainingDomain


@dataclass(frozen=True, slots=True)
class Views:
    """What the users of a batch may be known by."""

    counts: Places
    """Rows before each user's cut, at least one where there is any, (B,)."""
    partners: Places
    """The user's place in the other domain, (B,); -1 for users that are not shared."""
    shown: NDArray[np.bool_]
    """Whether a step may read the own and the other GUR, (B, T, 2)."""

    def of(self, places: slice) -> Self:
        """Return the views of some users of the batch."""
        return type(self)(self.counts[places], self.partners[places], self.shown[places])


def draw_views(
    domain: TrainingDomain,
    users: Places,
    *,
    steps: int,
    hide_other: float,
    generator: np.random.Generator,
) -> Views:
    """Draw cuts, and whose other GUR is hidden.

    Args:
        domain: The domain that is learned.
        users: Whom, (B,).
        steps: T: the last step predicts the last training row.
        hide_other: Share of the shared users whose other GUR is hidden.
        generator: Where the draws come from.
    """
    lengths = domain.training.lengths[users]
    cuts = generator.integers(1, np.maximum(lengths, 2))  # (B,): rows before the cut
    partners = domain.other[users]
    hidden = generator.random(len(users)) < hide_other
    read = np.arange(steps) + (lengths - steps)[:, None]  # (B, T): rows a step has read
    other = np.broadcast_to(((partners >= 0) & ~hidden)[:, None], read.shape)
    shown = np.stack([read >= cuts[:, None], other], axis=2)
    return Views(np.minimum(cuts, lengths), partners, shown)
