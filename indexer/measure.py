"""How good and how quick a release's indexes are: recall against exact search, latency, size.

Shapes: B queries, V items, D width; row 0 of a table is padding.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from indexer.recall import exact_top, recall
from indexer.release import INDEX, Release
from indexer.sample import sample_of
from indexer.spec import GpuUse, IndexSettings, Kind
from indexer.sweep import Asked, sweep
from indexer.timing import latency
from model.console import Advance
from model.settings import DeviceChoice, Settings

_MOST_S = 3
"""Seconds that a sweep takes for one measurement of speed, about."""


class MeasureSettings(Settings):
    """The settings of `recguru indexer measure`."""

    queries: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Queries a domain, at most: held-out users of the bundle where it has some."""

    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (10, 100)
    """Rows asked for: one recall for each; latency is measured at the first."""

    batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Queries in one batched search."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of FAISS; a server uses 1 for each of its processes."""

    device: DeviceChoice = "auto"
    """Where the indexes are searched; `auto` takes a GPU where one is."""

    gpus: GpuUse = "first"
    """Which of several GPUs hold them; of no effect on a CPU or with one GPU."""

    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the queries, where they are made from items."""


def measure(release: Release, settings: MeasureSettings, *, advance: Advance) -> dict[str, Any]:
    """Measure each domain of a release -> plain values, by domain.

    Args:
        release: The release, loaded with the settings' device and threads.
        settings: What to measure with.
        advance: Called once for each domain.
    """
    figures = {}
    for tables in release.bundle.domains:
        name = tables.name
        index = release.indexes[name]
        sample = sample_of(tables, settings.queries, seed=settings.seed)
        vectors = sample.held_out
        file = release.folder / INDEX / f"{name}.faiss"
        size = file.stat().st_size if file.exists() else None  # None: Milvus keeps it
        k = settings.k[0]
        single, batched = (
            latency(index, vectors, k, batch=batch, most_s=np.inf) for batch in (1, settings.batch)
        )
        figures[name] = {
            "kind": index.kind,
            "items": len(index),
            "width": index.width,
            "queries": len(vectors),
            "queries_are": sample.are,
            "bytes_per_item": None if size is None else round(size / len(index), 1),
            "recall": {f"@{k}": recall(index, vectors, k=k) for k in settings.k},
            "single": asdict(single),
            "batched": asdict(batched),
        }
        advance(note=name)
    return figures


def sweeps(
    release: Release,
    settings: MeasureSettings,
    kinds: Sequence[Kind],
    options: IndexSettings,
    *,
    advance: Advance,
) -> dict[str, list[dict[str, Any]]]:
    """Measure what other kinds of index would do for each domain; see `indexer.sweep`.

    Args:
        release: The release whose item tables are indexed anew.
        settings: What to measure with; the first k counts.
        kinds: The kinds to try.
        options: Parameters of the kinds.
        advance: Called once for each domain and kind.

    Returns:
        For each domain an entry a kind.
    """
    cores = sorted({1, os.cpu_count() or 1})
    found: dict[str, list[dict[str, Any]]] = {}
    for tables in release.bundle.domains:
        vectors = sample_of(tables, settings.queries, seed=settings.seed).held_out
        truth = exact_top(tables.item_table, vectors, settings.k[0])
        asked = Asked(vectors, truth, settings.batch, tuple(cores), _MOST_S)
        found[tables.name] = []
        for kind in kinds:
            found[tables.name].append(sweep(tables, kind, options, asked))
            advance(note=f"{tables.name} {kind}")
    return found
