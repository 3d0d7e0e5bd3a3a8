"""Queries a second on GPUs by kind and batch, and the whole pass from histories to items.

    python -m benchmarks.gpu [--items 1460000 10000000] [--gpus shards] [--json FILE]

The item tables are those of `benchmarks.search`. `found` is what FAISS does on the device, for 64
rows a query; `answered` is a whole search, whose k best are scored again exactly on the CPU. The
floor is what must be read and computed at least, at the rates that torch reaches in the same run;
`times` is how much longer FAISS takes. Kinds with lists look through as few as find 99% of the k
best. Without a GPU it ends with a line that says why; `--device cpu --smoke` runs the code on small
tables, and its figures mean nothing.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.gpu_floor import Rates, floor_s, measured_rates, median_s, work_of
from benchmarks.gpu_pass import Passed, WholePass
from benchmarks.search import structured_queries, structured_table, tables_of
from indexer.builders import build_index
from indexer.choice import harden
from indexer.engine import Engine, Proposer, open_engine
from indexer.faiss_api import FaissIndex
from indexer.ladder import ladder
from indexer.placement import Device, Gpus, index_device
from indexer.recall import exact_top, recall
from indexer.search import DEPTHS, DomainIndex, Query
from indexer.spec import FlatSpec, IndexSettings, IndexSpec
from model.arrays import Floats
from model.bundle import DomainTables
from model.errors import UnavailableDeviceError

K = 10
RECALL = 0.99
GpuKind = Literal["flat", "flat-f16", "ivf", "ivf-int8"]
KINDS: tuple[GpuKind, ...] = ("flat", "flat-f16", "ivf", "ivf-int8")
WIDTH = 64
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    items: Sequence[int]
    batches: Sequence[int]
    pass_batches: Sequence[int]
    queries: int
    """Of which recall is measured, and lists are counted."""
    rounds: int
    copied_mb: int
    side: int
    """Of the matrices that are multiplied."""


FULL = Scale(
    (1_460_000, 10_000_000), (1, 8, 64, 256, 1024), (1, 64, 256, 1024), 1024, 31, 1024, 8192
)
SMOKE = Scale((3000,), (1, 8), (1, 8), 64, 2, 1, 64)


@dataclass(frozen=True, slots=True)
class Line:
    """How quick a kind is with batches of one size."""

    items: int
    kind: str
    search: str
    recall: float
    memory_mb: float
    """Of the first GPU, that its index and its part of the table take, scratch memory included."""
    batch: int
    found_per_s: float
    answered_per_s: float
    found_ms: float
    floor_ms: float


def main() -> int:
    """Measure and print -> the exit code: 1 where there is no device."""
    options = _options()
    scale = SMOKE if options.smoke else FULL
    try:
        device = index_device(options.device, options.gpus)
    except UnavailableDeviceError as error:
        print(f"nothing is measured: {error}", file=sys.stderr)
        return 1
    place = torch.device("cpu" if device == "cpu" else "cuda")
    chip = platform.processor() or "a CPU"
    if device != "cpu":
        chip = ", ".join(torch.cuda.get_device_name(number) for number in device.numbers)
    rates = measured_rates(place, megabytes=scale.copied_mb, side=scale.side)
    print(
        f"{chip}, {device}; memory {rates.bytes_per_s / 1e9:,.0f} GB/s, 10^12 operations/s: "
        f"float32 {rates.operations_per_s / 1e12:,.2f}, "
        f"float16 {rates.half_operations_per_s / 1e12:,.2f}; k = {K}"
    )
    print(
        f"{'items':>12}  {'kind':10}{'search':22}{'recall':>8}{'MB':>8}{'batch':>7}"
        f"{'found/s':>12}{'answered/s':>12}{'ms':>9}{'floor ms':>10}{'times':>7}"
    )
    lines: list[Line] = []
    tables = [tables_for(items) for items in options.items or scale.items]
    for each in tables:
        for kind in options.kinds:
            lines += measured(each, kind, device, scale, rates)
    passes = list(_passes(tables, place, scale))
    if options.json:
        found: dict[str, object] = {"chip": chip, "device": str(device), "rates": asdict(rates)}
        found |= {"search": [asdict(line) for line in lines]}
        found |= {"pass": [asdict(each) for each in passes]}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", help="default 1,460,000 and 10,000,000")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--gpus", choices=["first", "replicas", "shards"], default="first")
    parser.add_argument("--smoke", action="store_true", help="small tables, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    return parser.parse_args()


def tables_for(items: int) -> DomainTables:
    """Make a domain of so many items."""
    return tables_of(structured_table(items, WIDTH, np.random.default_rng(1)))


def measured(
    tables: DomainTables, kind: GpuKind, device: Device, scale: Scale, rates: Rates
) -> Iterator[Line]:
    """Build an index of a kind, search it as hard as it needs, and time each batch size."""
    table, place = tables.item_table, torch.device("cpu" if device == "cpu" else "cuda")
    vectors = structured_queries(table, scale.queries, np.random.default_rng(2))
    before = _free_mb(place)
    spec, index, engine = searched(tables, kind, device, vectors)
    memory = before - _free_mb(place)
    domain = DomainIndex(tables, kind, engine, {})
    found = recall(domain, vectors[: SMOKE.queries], k=K)
    gpus = Gpus() if device == "cpu" else device
    for batch in scale.batches:
        part = np.resize(vectors, (batch, vectors.shape[1]))
        queries = [Query(vector, K) for vector in part]
        found_s = median_s(place, partial(ask, engine, part), rounds=scale.rounds)
        answered_s = median_s(place, partial(domain.search, queries), rounds=scale.rounds)
        least_s = floor_s(work_of(spec, index, part), rates, gpus)
        line = Line(
            len(domain),
            kind,
            _shown(spec),
            found,
            memory,
            batch,
            batch / found_s,
            batch / answered_s,
            1e3 * found_s,
            1e3 * least_s,
        )
        print(
            f"{line.items:12,}  {kind:10}{line.search:22}{found:8.4f}{memory:8,.0f}{batch:7}"
            f"{line.found_per_s:12,.0f}{line.answered_per_s:12,.0f}{line.found_ms:9.3f}"
            f"{line.floor_ms:10.3f}{line.found_ms / line.floor_ms:7.1f}",
            flush=True,
        )
        yield line


def searched(
    tables: DomainTables, kind: GpuKind, device: Device, vectors: Floats
) -> tuple[IndexSpec, FaissIndex, Engine | Proposer]:
    """Build an index, and open it as the first spec of its ladder that finds enough says."""
    table = tables.item_table
    if kind == "flat":
        index = build_index(FlatSpec(), table[1:])
        return FlatSpec(), index, open_engine(device, FlatSpec(), index, table, threads=1)
    settings = IndexSettings(kind=kind)
    specs = ladder(kind, settings, len(table) - 1)
    index = build_index(specs[0], table[1:])
    asked = vectors[: SMOKE.queries]

    def opened(spec: IndexSpec) -> DomainIndex:
        engine = open_engine(device, spec, index, table, threads=1)
        return DomainIndex(tables, kind, engine, {})

    spec = harden(specs, opened, asked, exact_top(table, asked, K), wanted=RECALL).spec
    return spec, index, open_engine(device, spec, index, table, threads=1)


def ask(engine: Engine | Proposer, vectors: Floats) -> object:
    """Let FAISS find 64 rows for each query (B, D)."""
    if isinstance(engine, Proposer):
        return engine.propose(vectors, DEPTHS[0], effort=1)
    return engine.top(vectors, DEPTHS[0])


def _shown(spec: IndexSpec) -> str:
    named = spec.model_dump(include={"lists", "probes", "rerank"})
    return " ".join(f"{key[0]}{value:g}" for key, value in named.items())


def _free_mb(place: torch.device) -> float:
    if place.type != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(place)[0] / _MB


def _passes(tables: Sequence[DomainTables], place: torch.device, scale: Scale) -> Iterator[Passed]:
    print("whole pass, ms: networks alone, preferences left on the device, through the host")
    for each in tables:
        whole = WholePass(each.item_table, place, DEPTHS[0])
        for batch in scale.pass_batches:
            found = whole.measured(batch, rounds=scale.rounds)
            print(
                f"{found.items:12,} batch {batch:5}{found.networks_ms:10.3f}"
                f"{found.on_device_ms:10.3f}{found.through_host_ms:10.3f}"
                f"{'' if found.same else '   DIFFERENT ITEMS'}",
                flush=True,
            )
            yield found


if __name__ == "__main__":
    sys.exit(main())
