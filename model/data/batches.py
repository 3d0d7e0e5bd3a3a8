"""Sequences as padded batches; nothing here loops over users in Python once a batch is drawn.

Shapes: B users, T steps. Padding is 0 and stands on the left.
"""

from collections.abc import Sequence

import numpy as np

from model.arrays import Places, Rows
from model.data.dataset import Sequences

_BATCHES_SORTED_TOGETHER = 16
_SHORT = 8  # steps below which telling users apart saves nothing


def pad_lists(lists: Sequence[Rows], *, longest: int) -> Rows:
    """Stack the last `longest` rows of each list -> (B, T), T the longest that remains (≥ 1)."""
    return pad_slices(Sequences.of(lists), np.arange(len(lists)), longest=longest)


def pad_slices(
    sequences: Sequences, users: Places, *, longest: int, counts: Places | None = None
) -> Rows:
    """Stack the sequences of users -> (B, T), padded on the left and trimmed to the longest in it.

    Args:
        sequences: Where the rows are.
        users: Which of them, (B,).
        longest: Most steps to keep, counted from the end.
        counts: How many rows of each user come before the end that is meant, (B,); none means all.
    """
    starts = np.where(users > 0, sequences.ends[users - 1], 0)  # of these users, not of all
    counts = sequences.ends[users] - starts if counts is None else counts
    ends = starts + counts
    kept = np.minimum(counts, longest)
    steps = max(int(kept.max(initial=0)), 1)
    place = ends[:, None] + np.arange(-steps, 0)  # (B, T)
    real = place >= (ends - kept)[:, None]
    if not len(sequences.rows):
        return np.zeros((len(users), steps), np.int32)
    padded: Rows = np.where(real, sequences.rows[np.where(real, place, 0)], 0).astype(np.int32)
    return padded


def shuffled_batches(
    lengths: Places, batch_size: int, generator: np.random.Generator
) -> list[Places]:
    """Split all users into batches of about equal length, in random order.

    Users are shuffled, sorted by length within groups of several batches, and the batches shuffled
    again: little padding, and no order that stays.

    Args:
        lengths: Steps each user has, (U,).
        batch_size: Users in a batch; the last of a group may be smaller.
        generator: Where the order comes from.
    """
    order = generator.permutation(len(lengths))
    group = batch_size * _BATCHES_SORTED_TOGETHER
    batches: list[Places] = []
    for first in range(0, len(order), group):
        members = order[first : first + group]
        members = members[np.argsort(lengths[members], kind="stable")]
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    return [batches[place] for place in generator.permutation(len(batches))]


def alike(lengths: Places, *, pass_steps: int = 0) -> list[Places]:
    """Group users so that padding to the longest of a group at most doubles the steps.

    Args:
        lengths: Steps of each user, (B,).
        pass_steps: What a pass through a network costs by itself, in steps computed: a group joins
            the next longer one where that adds no more padding. 0 keeps all groups apart.

    Returns:
        Places in `lengths`, each in one group; short users first.
    """
    octave = np.ceil(np.log2(np.maximum(lengths, _SHORT))).astype(np.int64)
    groups: list[Places] = []
    for each in np.unique(octave):
        group = np.flatnonzero(octave == each)
        if groups:
            shorter = groups[-1]
            padding = len(shorter) * (lengths[group].max() - lengths[shorter].max())
            if padding <= pass_steps:
                group = np.concatenate([groups.pop(), group])
        groups.append(group)
    return groups
