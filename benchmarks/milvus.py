"""Search through Milvus beside exact search in this process: queries a second and latency.

    milvus-lite server --data-dir /tmp/milvus --host 127.0.0.1 --port 19530 &
    OMP_NUM_THREADS=1 python -m benchmarks.milvus --uri http://127.0.0.1:19530 [--items 12000]

`milvus-lite` is one Python process that stands for a cluster in tests: what it takes says nothing
of how quick a cluster is. Items and queries are those of `benchmarks.search`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.search import structured_queries, structured_table, tables_of
from indexer.builders import build_index
from indexer.engine import open_engine
from indexer.milvus_api import Milvus, MilvusSettings
from indexer.milvus_build import NewCollections
from indexer.milvus_engine import MilvusEngine
from indexer.recall import recall
from indexer.search import DomainIndex
from indexer.spec import FlatSpec, MilvusSpec, MilvusStructure
from indexer.timing import latency
from model.bundle import DomainTables

K = 20
BATCHES = (1, 64)
MOST_S = 15
STRUCTURES: tuple[MilvusStructure, ...] = ("flat", "hnsw")


def main() -> None:
    """Measure and print a line for each index and size of a batch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--uri", required=True)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1024)
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    tables = tables_of(structured_table(options.items, options.width, generator))
    vectors = structured_queries(tables.item_table, options.queries, generator)
    print(f"{options.items:,} items x {options.width}, k = {K}, one thread")
    print(f"{'index':12} {'queries':>7} {'p50 ms':>8} {'p99 ms':>8} {'queries/s':>10}  recall")
    settings = MilvusSettings(uri=options.uri, timeout_s=60)
    with tempfile.TemporaryDirectory() as folder:
        for name, index in indexes(tables, settings, Path(folder)):
            found = recall(index, vectors[:256], k=K)
            for batch in BATCHES:
                took = latency(index, vectors, K, batch=batch, most_s=MOST_S)
                print(
                    f"{name:12} {batch:7} {took.p50_ms:8.2f} {took.p99_ms:8.2f} "
                    f"{took.queries_per_s:10,.0f}  {found:.4f}"
                )


def indexes(
    tables: DomainTables, settings: MilvusSettings, folder: Path
) -> Iterator[tuple[str, DomainIndex]]:
    """Make one index after the other; collections are dropped at the end."""
    table = tables.item_table
    flat = open_engine("cpu", FlatSpec(), build_index(FlatSpec(), table[1:]), table, threads=1)
    yield "flat", DomainIndex(tables, "flat", flat, {})
    made = NewCollections(settings)
    try:
        for structure in STRUCTURES:
            spec = MilvusSpec(collection="_", alias="_", items=1, structure=structure, effort=128)
            named = made.add_to_spec(folder, tables, "0" * 64, spec)
            engine = MilvusEngine(Milvus(settings), named, table, threads=1)
            yield f"milvus {structure}", DomainIndex(tables, named.kind, engine, {})
    finally:
        made.drop(folder)


if __name__ == "__main__":
    main()
