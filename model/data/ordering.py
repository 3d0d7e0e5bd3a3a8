"""The order of interactions, and one rule for those of a user at the same time.

Where the file states an order inside a user (sequences, collected), it decides among equal times.
Elsewhere a seeded hash of user, item and time does: the lines of a file may come in any order, and
no pair of items stands in the same order for all users by accident of their ids.
Shapes: n interactions, t of them tied: at the same time as another one of the same user.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.arrays import Flags
from model.data.log import Codes, Log, Times

Hashes = NDArray[np.uint64]
"""Also keys to sort by."""

_KEY_BITS = 64
_HALF = np.uint64(32)
# The odd constants of SplitMix64; any odd numbers without structure serve.
_STEP, _FIRST, _SECOND = (
    np.uint64(constant) for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def sort(log: Log, *, seed: int, stated: bool) -> None:
    """Sort a log by user, then time, then the rule for ties.

    Args:
        log: Is changed in place.
        seed: Decides among ties where the file does not.
        stated: Whether the file states the order inside a user.
    """
    log.select(_order(log))
    if not stated and log.time is not None:
        tied, runs = _ties(log.user, log.time)
        if len(tied):
            runs |= _tie_keys(log, log.time[tied], tied, seed) >> _HALF
            order = np.arange(len(log))
            order[tied] = tied[np.lexsort((log.item[tied], runs))]
            log.select(order)


def repeated_events(log: Log) -> Flags:
    """Tell which interactions of a sorted log repeat an earlier user, item and time, (n,)."""
    repeated = np.zeros(len(log), np.bool_)
    if log.time is not None:
        tied, runs = _ties(log.user, log.time)
        runs |= log.item[tied]
        order = np.argsort(runs, kind="stable")
        again = runs[order[1:]] == runs[order[:-1]]
        repeated[tied[order[1:][again]]] = True
    return repeated


def repeated_items(log: Log) -> Flags:
    """Tell which interactions of a sorted log have the item of the user's one before, (n,)."""
    repeated = np.zeros(len(log), np.bool_)
    repeated[1:] = (log.item[1:] == log.item[:-1]) & (log.user[1:] == log.user[:-1])
    return repeated


def hashes(ids: Iterable[str], seed: int) -> Hashes:
    """Hash each id with the seed, the same on every machine and in every version."""
    key = seed.to_bytes(8, "little")
    whole = (hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in ids)
    return np.frombuffer(b"".join(whole), "<u8").astype(np.uint64)


def _order(log: Log) -> NDArray[np.intp]:
    """Return the order by user, then time, that leaves ties as they stand, (n,)."""
    if log.time is None or not len(log):
        return np.argsort(log.user, kind="stable")
    first = int(log.time.min())
    time_bits = (int(log.time.max()) - first).bit_length()
    if time_bits + len(log.user_ids).bit_length() > _KEY_BITS:
        return np.lexsort((log.time, log.user))
    key = log.user.astype(np.uint64)
    key <<= np.uint64(time_bits)
    key |= (log.time - first).view(np.uint64)
    return np.argsort(key, kind="stable")


def _ties(user: Codes, time: Times) -> tuple[NDArray[np.intp], Hashes]:
    """Find the ties among sorted users and times, (n,), and the runs of equal ones they are in.

    Returns:
        Their places, (t,), and the number of each one's run in the upper half of 64 bits, (t,).
    """
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = np.zeros(len(user), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    starts = tied.copy()
    starts[1:] &= ~same
    places = np.flatnonzero(tied)
    return places, np.cumsum(starts[places], dtype=np.uint64) << _HALF


def _tie_keys(log: Log, times: Times, tied: NDArray[np.intp], seed: int) -> Hashes:
    """Hash user, item and time, (t,), of the tied interactions, (t,)."""
    key = _hashes_at(log.user_ids, log.user[tied], seed)
    key = _mixed(key ^ _hashes_at(log.item_ids, log.item[tied], seed) * _STEP)
    return _mixed(key ^ times.view(np.uint64))


def _hashes_at(ids: pl.Series, places: Codes, seed: int) -> Hashes:
    used = np.zeros(len(ids), np.bool_)
    used[places] = True
    of_ids = np.zeros(len(ids), np.uint64)
    of_ids[used] = hashes(ids.filter(used), seed)
    return of_ids[places]


def _mixed(key: Hashes) -> Hashes:
    """Spread every bit over all bits: the finalizer of SplitMix64."""
    key = (key ^ (key >> np.uint64(30))) * _FIRST
    key = (key ^ (key >> np.uint64(27))) * _SECOND
    return key ^ (key >> np.uint64(31))
