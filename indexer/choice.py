"""Which index a domain gets: the kind asked for, tuned, or the one that `auto` finds best.

Shapes: B queries, V items, D width.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.builders import build_index
from indexer.engine import open_engine
from indexer.faiss_api import FaissIndex
from indexer.ladder import ladder
from indexer.placement import Device
from indexer.recall import share_found, shares_found
from indexer.sample import Sample
from indexer.search import DomainIndex, Query
from indexer.spec import AnySpec, ApproximateKind, FlatSpec, IndexSettings, IndexSpec
from indexer.timing import least_seconds
from model.arrays import Floats, Rows
from model.bundle import DomainTables

S = TypeVar("S", bound=AnySpec)

log = logging.getLogger(__name__)

_TIMED = 64
"""Queries that are timed, at most."""
_ROUNDS = 3
"""Times each is asked."""
_SURE = 4
"""Standard errors by which tuning must exceed the recall wanted: the other half of the queries is
to reach it too, and the two halves differ by chance."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The index of a domain."""

    spec: IndexSpec
    index: FaissIndex


@dataclass(frozen=True, slots=True)
class Hardened(Generic[S]):
    """How an index is to be searched, and what that found."""

    spec: S
    found: float
    passed: bool
    """Whether it found enough."""


@dataclass(frozen=True, slots=True)
class _Tuned:
    """An approximate index, and how quick it is."""

    chosen: Chosen
    seconds: float
    """Mean time of a query."""
    passed: bool
    """Whether it found enough for the queries it was tuned with."""


def choose(tables: DomainTables, sample: Sample, settings: IndexSettings, device: Device) -> Chosen:
    """Build the index of a domain.

    Args:
        tables: The tables of the domain.
        sample: Queries of the domain.
        settings: The kind wanted, what it must find, and its parameters.
        device: Where exact search is timed.

    Returns:
        For `auto` the exact index where it is quick enough or nothing approximate is quicker; else
        what was asked for, whether or not it finds enough.
    """
    exact = Chosen(FlatSpec(), build_index(FlatSpec(), tables.item_table[1:]))
    if settings.kind == "flat":
        return exact
    if settings.kind == "milvus":
        raise ValueError("collections of Milvus are made by indexer.milvus_build")
    search = _domain_index(tables, exact, device)
    if settings.kind == "auto":
        return _quickest(tables, sample, settings, search) or exact
    truth = _best_rows(search, sample.tuning, settings.k)
    return _tune(settings.kind, tables, sample.tuning, truth, settings).chosen


def _quickest(
    tables: DomainTables, sample: Sample, settings: IndexSettings, exact: DomainIndex
) -> Chosen | None:
    """Find the quickest index that finds enough; None where exact search is to be kept."""
    taken = _times(exact, sample.tuning, settings.k)
    p99_ms = float(np.quantile(taken, 0.99)) * 1e3
    log.info("exact search domain=%s p99_ms=%.3f", tables.name, p99_ms)
    if p99_ms <= settings.latency_ms:
        return None
    truth = _best_rows(exact, sample.tuning, settings.k)
    tuned = [_tune(kind, tables, sample.tuning, truth, settings) for kind in settings.auto_kinds]
    judge = _best_rows(exact, sample.held_out, settings.k)
    for each in sorted(tuned, key=lambda one: one.seconds):
        search = _domain_index(tables, each.chosen, "cpu")
        if (
            each.passed
            and each.seconds < taken.mean()
            and share_found(search, sample.held_out, judge) >= settings.recall
        ):
            return each.chosen
    log.warning(
        "domain=%s stays with exact search: p99 %.1f ms is above the %.1f ms wanted, but no other "
        "kind tried is quicker and finds %.2f%%",
        tables.name,
        p99_ms,
        settings.latency_ms,
        100 * settings.recall,
    )
    return None


def _tune(
    kind: ApproximateKind,
    tables: DomainTables,
    vectors: Floats,
    truth: Rows,
    settings: IndexSettings,
) -> _Tuned:
    """Build an index of a kind and search harder until it finds enough of the truth (B, k)."""
    specs = ladder(kind, settings, len(tables.item_table) - 1)
    begun = time.perf_counter()
    built = build_index(specs[0], tables.item_table[1:])
    built_s = time.perf_counter() - begun
    hardened = harden(
        specs,
        lambda spec: _domain_index(tables, Chosen(spec, built), "cpu"),
        vectors,
        truth,
        wanted=settings.recall,
    )
    spec = hardened.spec
    search = _domain_index(tables, Chosen(spec, built), "cpu")
    seconds = float(_times(search, vectors, settings.k).mean())
    log.info(
        "tried domain=%s spec=%s recall=%.4f query_ms=%.3f build_s=%.1f",
        tables.name,
        spec.model_dump_json(),
        hardened.found,
        seconds * 1e3,
        built_s,
    )
    return _Tuned(Chosen(spec, built), seconds, hardened.passed)


def harden(
    specs: Sequence[S],
    opened: Callable[[S], DomainIndex],
    vectors: Floats,
    truth: Rows,
    *,
    wanted: float,
) -> Hardened[S]:
    """Search by one spec after the other until one finds enough of the truth.

    Args:
        specs: Of one index, from the cheapest search to the dearest; at least one.
        opened: Makes the index, searched by a spec.
        vectors: Queries, (B, D).
        truth: Their true best rows, (B, k).
        wanted: Share of them to be found.

    Returns:
        The first spec that finds enough, else the last.
    """
    for spec in specs:
        shares = shares_found(opened(spec), vectors, truth)
        found = float(shares.mean())
        passed = bool(found - _SURE * shares.std() / np.sqrt(len(shares)) >= wanted)
        if passed:
            break
    return Hardened(spec, found, passed)


def _times(index: DomainIndex, vectors: Floats, k: int) -> NDArray[np.float64]:
    return least_seconds(index, vectors[:_TIMED], k, rounds=_ROUNDS)


def _domain_index(tables: DomainTables, chosen: Chosen, device: Device) -> DomainIndex:
    engine = open_engine(device, chosen.spec, chosen.index, tables.item_table, threads=1)
    return DomainIndex(tables, chosen.spec.kind, engine, {})


def _best_rows(index: DomainIndex, vectors: Floats, k: int) -> Rows:
    """Search exactly for queries (B, D) -> (B, k), or (B, V) where there are fewer items."""
    return np.stack([found.rows for found in index.search([Query(each, k) for each in vectors])])
