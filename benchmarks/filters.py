"""Milliseconds of a search among some of the items: their vectors gathered, or FAISS told of them.

    OMP_NUM_THREADS=1 python -m benchmarks.filters [--items 100000] [--kinds flat hnsw ivf]

Sets of 0.01 to 100 % of the items are either strewn over the catalogue or lie side by side in the
space, as an attribute does that the vectors know of: then most queries find nothing of a narrow
set near them. Each query is answered both ways, in turns; the figures are medians. From a fifth of
the items on, gathering is replaced by the products with all of them. `recall` is the share of the
true best that the index found. Where it finds too little, vectors are gathered after all, which is
in its time. From which share on an index is asked, `indexer.engine.BROAD` says, and of some
kinds `BROAD_ROWS` from which number of rows on.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from benchmarks.search import structured_queries, structured_table, tables_of
from indexer.bitmaps import Bitmap
from indexer.builders import build_index
from indexer.engine import Engine, Proposer, Selective, open_engine
from indexer.search import DomainIndex, Query
from indexer.spec import (
    KINDS,
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
)
from model.arrays import Floats, Rows

K = 20
SHARES = (0.0001, 0.001, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.9, 1.0)
WAYS: Mapping[str, float] = {"gathered": math.inf, "selected": 0.0}
"""What is told of the share from which on an index is asked."""


class Told:
    """An engine that says otherwise from which share on it is to be asked."""

    def __init__(self, engine: Engine | Proposer, broad: float) -> None:
        """Take the engine of an index on the CPU, and what it is to say."""
        if isinstance(engine, Selective):
            self.select = engine.select
        self.broad = broad
        self.products = engine.products
        if isinstance(engine, Proposer):
            self.rerank, self.propose = engine.rerank, engine.propose
        else:
            self.top = engine.top


def main() -> None:
    """Measure each kind on each number of items, and print a line for each share."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--queries", type=int, default=25, help="of each share and way")
    parser.add_argument("--threads", type=int, default=1, help="threads of FAISS")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"k = {K}, width {options.width}, {options.threads} threads, medians of milliseconds")
    for items in options.items:
        generator = np.random.default_rng(options.seed)
        table = structured_table(items, options.width, generator)
        tables = tables_of(table)
        queries = structured_queries(table, options.queries, generator)
        for kind in options.kinds:
            spec = spec_of(kind, items)
            index = build_index(spec, table[1:])
            engine = open_engine("cpu", spec, index, table, threads=options.threads)
            ways = {
                name: DomainIndex(tables, kind, cast("Engine", Told(engine, broad)), {})
                for name, broad in WAYS.items()
            }
            print(f"{items:,} items, {kind}: {spec.model_dump()}")
            for name, share, rows in sets(table, generator):
                print(line(ways, queries, Bitmap.of(rows, items), name, share), flush=True)


def spec_of(kind: str, items: int) -> IndexSpec:
    """Make a spec that finds nearly all where every item may be answered."""
    lists = round(4 * math.sqrt(items))
    specs: tuple[IndexSpec, ...] = (
        FlatSpec(),
        HalfSpec(),
        ByteSpec(),
        HnswSpec(effort=96),
        IvfSpec(lists=lists, probes=32),
        IvfByteSpec(lists=lists, probes=32),
        IvfPqSpec(lists=lists, probes=32),
    )
    return next(spec for spec in specs if spec.kind == kind)


def sets(table: Floats, generator: np.random.Generator) -> Iterator[tuple[str, float, Rows]]:
    """Draw sets of each share, strewn and side by side."""
    items = len(table) - 1
    strewn = generator.permutation(items)
    along = np.argsort(table[1:] @ table[generator.integers(1, items + 1)])
    for share in SHARES:
        size = max(1, round(share * items))
        for name, order in (("strewn", strewn), ("side by side", along)):
            yield name, share, np.sort(order[:size] + 1).astype(np.int32)


def line(
    ways: Mapping[str, DomainIndex], queries: Floats, among: Bitmap, name: str, share: float
) -> str:
    """Ask every query every way, in turns -> the figures of a set."""
    took_ms: dict[str, list[float]] = {way: [] for way in ways}
    same = wanted = 0
    for vector in queries:
        found = {}
        for way, index in ways.items():
            begun = time.perf_counter()
            (found[way],) = index.search([Query(vector, K, candidates=among)])
            took_ms[way].append(1e3 * (time.perf_counter() - begun))
        same += len(np.intersect1d(found["gathered"].rows, found["selected"].rows))
        wanted += len(found["gathered"].rows)
    shown = "".join(f"  {way} {statistics.median(each):8.3f}" for way, each in took_ms.items())
    return f"  {100 * share:6.2f} % {name:12}{shown}  recall {same / wanted:.4f}"


if __name__ == "__main__":
    main()
