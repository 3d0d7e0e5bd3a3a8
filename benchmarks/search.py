"""Queries a second of search in one domain, single and batched, with and without candidates.

    python -m benchmarks.search [--items 12000 100000 1460000] [--width 64] [--threads 1]

The item tables are synthetic, with structure: items lie on a curved surface of few dimensions,
denser in some places than in others, plus noise. Queries are means of items that lie near each
other, as preferences are. 12,000 items is a domain of the Amazon data, 1,460,000 the paper's
Tencent Video. Each figure is queries a second over all queries of its kind; `floor` is what reading
the table once a query from memory would allow, at the bandwidth measured just before, and `of
sgemm` how much of the rate of a large matrix product, measured before and after, searches of 256
queries reach with the products that they need. Candidates are 200 and 20,000 of the items, or all
where there are fewer.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from indexer import blas
from indexer.builders import build_index
from indexer.engine import open_engine
from indexer.placement import index_device
from indexer.recall import recall
from indexer.search import DomainIndex, Query
from indexer.spec import FlatSpec
from model.arrays import Floats, Rows
from model.bundle import DomainTables
from model.data.vocabulary import StringTable, Vocabulary

K = 20
LATENT = 4
FREQUENCIES = 24
CANDIDATES = (200, 20_000)  # the paper's sizes
EXCLUSIONS = 100
CHECKED = 32
MANY = 256
SIDE = 2048  # of the matrices multiplied

MakeQuery = Callable[[Floats], Query]


def main() -> None:
    """Measure each size and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[12_000, 100_000, 1_460_000])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--queries", type=int, default=256, help="of each kind; fewer if slow")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[4, 64], help="queries in one batched search"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of FAISS")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    device = index_device(options.device)
    bandwidth = memory_bandwidth()
    print(
        f"k = {K}, {options.threads} threads on {device}, memory {bandwidth / 1e9:.1f} GB/s, "
        f"matrix product {sgemm_rate(options.threads) / 1e9:.1f} GFLOP/s"
    )
    at_once = "".join(f"{batch:>4} at once" for batch in options.batches)
    print(
        f"{'items':>12} {'build s':>8}{'single':>10}{at_once}{'floor':>10}"
        f"{'100 excl':>10}{'200 cand':>10}{'20k cand':>10}"
        f"{f'{MANY} at once':>13}{'of sgemm':>10}  recall; all but four queries/s"
    )
    for items in options.items:
        generator = np.random.default_rng(options.seed)
        table = structured_table(items, options.width, generator)
        begun = time.perf_counter()
        index = build_index(FlatSpec(), table[1:])
        build_s = time.perf_counter() - begun
        engine = open_engine(device, FlatSpec(), index, table, threads=options.threads)
        domain = DomainIndex(tables_of(table), "flat", engine, {})
        queries = structured_queries(table, options.queries, generator)
        batched = [rate(domain, queries, plain, batch) for batch in (1, *options.batches)]
        rates = [
            bandwidth / table.nbytes,
            rate(domain, queries, excluding(items, generator), 1),
            *(
                rate(domain, queries, among(items, min(count, items), generator), 1)
                for count in CANDIDATES
            ),
        ]
        most = sgemm_rate(options.threads)
        many = rate(domain, np.resize(queries, (4 * MANY, options.width)), plain, MANY)
        share = many * 2 * items * options.width / ((most + sgemm_rate(options.threads)) / 2)
        shown = f"{batched[0]:10,.0f}" + "".join(f"{each:12,.0f}" for each in batched[1:])
        shown += "".join(f"{each:10,.0f}" for each in rates) + f"{many:13,.0f}{share:10.0%}"
        print(f"{items:12,} {build_s:8.2f}{shown}  {recall(domain, queries[:CHECKED], k=K):.4f}")


def structured_table(items: int, width: int, generator: np.random.Generator) -> Floats:
    """Draw an item table (V + 1, D) on a curved surface of few dimensions."""
    table = np.zeros((items + 1, width), np.float32)
    bend = generator.standard_normal((LATENT, FREQUENCIES))
    turn = generator.standard_normal((2 * FREQUENCIES, width)) / np.sqrt(2 * FREQUENCIES)
    for first in range(1, items + 1, 100_000):
        part = table[first : first + 100_000]
        place = generator.beta(0.7, 2.0, (len(part), LATENT)) @ bend
        part[:] = np.hstack([np.sin(place), np.cos(2 * place)]) @ turn
        part += 0.05 * generator.standard_normal(part.shape)
    return table


def structured_queries(table: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Draw queries (B, D): means of the items nearest to a random one, in a random part of all."""
    part = table[generator.integers(1, len(table), 2_000)]
    centres = part[generator.integers(0, len(part), count)]
    near = np.argsort(-(centres @ part.T), axis=1)[:, :5]
    queries: Floats = part[near].mean(axis=1)
    return queries


def tables_of(table: Floats) -> DomainTables:
    """Wrap an item table in what a bundle holds of a domain."""
    items = len(table) - 1
    vocabulary = Vocabulary(StringTable.of(f"{item:09d}" for item in range(items)))
    popularity = np.zeros(items + 1, np.float32)
    popularity[1:] = 1 / np.arange(1, items + 1)
    return DomainTables("synthetic", vocabulary, table, popularity / popularity.sum())


def plain(vector: Floats) -> Query:
    """Ask for the best of all items."""
    return Query(vector, K)


def excluding(items: int, generator: np.random.Generator) -> MakeQuery:
    """Ask for all but the rows of a history."""
    rows = some_rows(items, EXCLUSIONS, generator)
    return lambda vector: Query(vector, K, excluded=rows)


def among(items: int, count: int, generator: np.random.Generator) -> MakeQuery:
    """Ask among candidates."""
    rows = some_rows(items, count, generator)
    return lambda vector: Query(vector, K, candidates=rows)


def some_rows(items: int, count: int, generator: np.random.Generator) -> Rows:
    """Draw different rows, ascending."""
    return np.sort(generator.choice(items, count, replace=False) + 1).astype(np.int32)


def rate(domain: DomainIndex, vectors: Floats, make: MakeQuery, batch: int) -> float:
    """Search for at most some three seconds -> queries a second."""
    queries = [make(vector) for vector in vectors]
    batches: Sequence[Sequence[Query]] = [
        queries[first : first + batch] for first in range(0, len(queries), batch)
    ]
    domain.search(batches[0])
    done, begun = 0, time.perf_counter()
    for part in batches:
        domain.search(part)
        done += len(part)
        if time.perf_counter() - begun > 3:  # noqa: PLR2004  # seconds
            break
    return done / (time.perf_counter() - begun)


def memory_bandwidth() -> float:
    """Measure how many bytes a second one thread reads from memory."""
    block = np.ones(1 << 26, np.float32)  # 256 MB, beyond every cache
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        taken.append(time.perf_counter() - begun)
    return block.nbytes / min(taken)


def sgemm_rate(threads: int) -> float:
    """Measure the operations a second of a large product of float32 matrices, two a multiply."""
    left, right = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out, taken = np.empty_like(left), []
    with blas.threads(threads):
        for _ in range(5):
            begun = time.perf_counter()
            np.matmul(left, right, out=out)
            taken.append(time.perf_counter() - begun)
    return 2 * SIDE**3 / min(taken)


if __name__ == "__main__":
    main()
