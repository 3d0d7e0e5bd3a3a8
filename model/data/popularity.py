"""How often items were taken; what is answered where nothing is known of who asks.

Shapes: V items of a domain.
"""

import numpy as np

from model.arrays import Floats
from model.data.dataset import DomainData, Sequences


def popularity_shares(domain: DomainData) -> Floats:
    """Return the share of the training interactions each item has -> (V + 1,), 0 for padding."""
    return item_shares(domain.training(), len(domain.vocabulary))


def item_shares(training: Sequences, items: int) -> Floats:
    """Return the share of the rows each of V items has -> (V + 1,), 0 for padding."""
    counts = np.bincount(training.rows, minlength=items + 1)
    return (counts / max(int(counts.sum()), 1)).astype(np.float32)
