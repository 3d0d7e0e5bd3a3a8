"""What each kind of index costs and finds, as the number of items grows, beside other libraries.

    python -m benchmarks.index_kinds [--items 100000 1460000] [--plot FILE.png] [--json FILE]
    python -m benchmarks.index_kinds --bundle RUN/bundle

The item tables are those of `benchmarks.search`: synthetic, with structure. One thread searches,
all cores build. Each kind is searched harder until it finds 99 % of the 10 best items, and measured
there, with the same queries, which flatters its recall a little. Bytes are those of the index
alone, beside the item table that every kind scores again from.
`auto` is what `recguru indexer build` takes by itself: chosen with one half of the queries,
measured with the other. With the extra [bench], usearch and voyager are measured at the same
recall. They get what `hnsw` of this project gets: vectors with the columns that make them equally
long (see `indexer.builders`), and their answers scored again.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import Goal, report
from benchmarks.search import structured_queries, structured_table, tables_of
from indexer.builders import group_of, levelled
from indexer.choice import choose
from indexer.engine import Proposer, open_engine, padded
from indexer.faiss_api import ALL_THREADS
from indexer.recall import exact_top, share_found
from indexer.sample import Sample, sample_of
from indexer.search import DomainIndex
from indexer.spec import KINDS, HnswOptions, HnswSpec, IndexSettings
from indexer.sweep import Asked, file_bytes, sweep
from indexer.timing import latency
from model.arrays import Floats, Rows
from model.bundle import Bundle, DomainTables

K = 10
RECALL = 0.99
BATCH = 64
MOST_S = 3.0
QUICKER = 20
LARGE = 1_000_000
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
LINKS, BUILD_EFFORT = 32, 100
MADE_UP = "structured queries"
OTHERS = ("usearch", "voyager")


@dataclass(frozen=True, slots=True)
class Line:
    """One kind at the recall wanted, or at the most it reaches."""

    table: str
    items: int
    kind: str
    search: str
    build_s: float
    bytes_per_item: float
    recall: float
    single_per_s: float
    batched_per_s: float


def main() -> int:
    """Measure each table and print a line a kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_460_000])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--queries", type=int, default=400, help="of either half")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[*KINDS, "auto", *OTHERS],
        default=[*KINDS, "auto", *OTHERS],
        help="what to measure beside flat",
    )
    parser.add_argument("--bundle", type=Path, help="measure the item tables of a bundle instead")
    parser.add_argument("--plot", type=Path, help="draw time a query against the number of items")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    print(
        f"k = {K}, recall@{K} >= {RECALL}, one thread searches, {ALL_THREADS} build\n"
        f"{'table':12}{'items':>10}  {'kind':10}{'search':28}{'build s':>9}{'bytes/item':>11}"
        f"{'recall':>8}{'single/s':>10}{f'batch {BATCH}/s':>12}"
    )
    lines: list[Line] = []
    goals: list[Goal] = []
    for tables, sample in _tables(options):
        found = list(_measured(tables, sample, options.kinds))
        lines += found
        rates = {each.kind: each.single_per_s for each in found}
        for each in found:
            if each.kind == "auto" and each.items >= LARGE:
                gain = each.single_per_s / rates["flat"]
                name = f"auto at {each.items:,} items"
                goals += [
                    Goal(f"{name}, times as quick as exact", gain, QUICKER, "at least"),
                    Goal(f"{name}, recall", each.recall, RECALL, "at least"),
                ]
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    if options.plot:
        _plot(lines, options.plot)
    return report(goals, as_json=False) if goals else 0


def _tables(options: argparse.Namespace) -> Iterator[tuple[DomainTables, Sample]]:
    if options.bundle:
        for tables in Bundle.read(options.bundle).domains:
            sample = sample_of(tables, options.queries, seed=1)
            print(f"{tables.name}: {len(sample.held_out)} queries, {sample.are}")
            yield tables, sample
        return
    for items in options.items:
        generator = np.random.default_rng(1)
        table = structured_table(items, options.width, generator)
        queries = structured_queries(table, 2 * options.queries, generator)
        yield tables_of(table), Sample(queries[0::2], queries[1::2], MADE_UP)


def _measured(tables: DomainTables, sample: Sample, kinds: Sequence[str]) -> Iterator[Line]:
    truth = exact_top(tables.item_table, sample.held_out, K)
    asked = Asked(sample.held_out, truth, BATCH, (1,), MOST_S)
    settings = IndexSettings(device="cpu", hnsw=HnswOptions(build_threads=ALL_THREADS))
    for kind in (each for each in KINDS if each == "flat" or each in kinds):
        found = sweep(tables, kind, settings, asked, enough=RECALL)
        point = found["points"][-1]
        search = ", ".join(f"{key} {value:g}" for key, value in point["parameters"].items())
        yield _shown(
            Line(
                tables.name,
                len(tables.item_table) - 1,
                kind,
                search,
                found["build_s"],
                found["bytes_per_item"],
                point["recall"],
                point["single"]["queries_per_s"],
                point["batched"]["queries_per_s"],
            )
        )
    if "auto" in kinds:
        yield _shown(_auto(tables, sample, asked))
    for library in OTHERS:
        if library in kinds and find_spec(library):
            yield _shown(_other(tables, library, asked))


def _shown(line: Line) -> Line:
    print(
        f"{line.table:12}{line.items:10,}  {line.kind:10}{line.search:28}{line.build_s:9.1f}"
        f"{line.bytes_per_item:11.0f}{line.recall:8.4f}{line.single_per_s:10,.0f}"
        f"{line.batched_per_s:12,.0f}",
        flush=True,
    )
    return line


def _auto(tables: DomainTables, sample: Sample, asked: Asked) -> Line:
    begun = time.perf_counter()
    chosen = choose(tables, sample, IndexSettings(device="cpu"), "cpu")
    taken = time.perf_counter() - begun
    engine = open_engine("cpu", chosen.spec, chosen.index, tables.item_table, threads=1)
    search = DomainIndex(tables, chosen.spec.kind, engine, {})
    size = file_bytes(chosen.index, chosen.spec)
    return _line(tables, "auto", f"took {chosen.spec.kind}", search, asked, build=(taken, size))


class Other(Proposer):
    """An index of another library, asked as ours are."""

    rerank = 1.5

    def __init__(self, table: Floats, columns: int, ask: Callable[[Floats, int], Any]) -> None:
        """Take an item table and what finds positions, which were given so many columns."""
        self._table = table
        self._columns = columns
        self._ask = ask

    def propose(self, vectors: Floats, count: int, *, effort: int) -> Rows:
        """Ask for positions, with the columns more."""
        queries = padded(vectors, self._columns)
        return np.asarray(self._ask(queries, count)).astype(np.int32) + 1

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply."""
        part = self._table[1:] if rows is None else self._table[rows]
        products: Floats = part @ vector
        return products


Ask = Callable[[Floats, int], Any]


def _other(tables: DomainTables, library: str, asked: Asked) -> Line:
    make = {"usearch": _usearch, "voyager": _voyager}[library]
    table = tables.item_table[1:]
    vectors = levelled(table, group_of(HnswSpec(), table.shape[1]))
    begun = time.perf_counter()
    asking, size = make(vectors)
    taken = time.perf_counter() - begun
    for effort in EFFORTS:
        other = Other(tables.item_table, vectors.shape[1], asking(effort))
        search = DomainIndex(tables, library, other, {})
        if share_found(search, asked.vectors, asked.truth) >= RECALL:
            break
    return _line(tables, library, f"effort {effort}", search, asked, build=(taken, size))


def _line(
    tables: DomainTables,
    kind: str,
    how: str,
    search: DomainIndex,
    asked: Asked,
    *,
    build: tuple[float, int],
) -> Line:
    items = len(tables.item_table) - 1
    single, batched = (
        latency(search, asked.vectors, K, batch=size, most_s=MOST_S) for size in (1, BATCH)
    )
    found = share_found(search, asked.vectors, asked.truth)
    return Line(
        tables.name,
        items,
        kind,
        how,
        round(build[0], 2),
        round(build[1] / items, 1),
        found,
        single.queries_per_s,
        batched.queries_per_s,
    )


def _usearch(vectors: Floats) -> tuple[Callable[[int], Ask], int]:
    from usearch.index import Index  # noqa: PLC0415  # an extra

    index: Any = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=LINKS,
        expansion_add=BUILD_EFFORT,
    )
    index.add(np.arange(len(vectors)), vectors, threads=ALL_THREADS)

    def asking(effort: int) -> Ask:
        def ask(queries: Floats, count: int) -> Any:  # noqa: ANN401  # the library is untyped
            index.expansion_search = max(effort, count)
            found = index.search(queries, count, threads=1).keys
            return found.reshape(len(queries), -1)

        return ask

    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        return asking, Path(folder, "index").stat().st_size


def _voyager(vectors: Floats) -> tuple[Callable[[int], Ask], int]:
    from voyager import Index, Space  # noqa: PLC0415  # an extra

    # All vectors are equally long: the nearest have the largest products, and it adds no column.
    index = Index(
        Space.Cosine, num_dimensions=vectors.shape[1], M=LINKS, ef_construction=BUILD_EFFORT
    )
    index.add_items(vectors, num_threads=ALL_THREADS)

    def asking(effort: int) -> Ask:
        return lambda queries, count: index.query(
            queries, k=count, num_threads=1, query_ef=max(effort, count)
        )[0]

    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        return asking, Path(folder, "index").stat().st_size


def _plot(lines: Sequence[Line], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(line.kind for line in lines):
        own = sorted((line for line in lines if line.kind == kind), key=lambda line: line.items)
        axes.plot(
            [line.items for line in own],
            [1e3 / line.single_per_s for line in own],
            marker="o",
            label=kind,
            linestyle="--" if kind == "auto" else "-",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="items",
        ylabel=f"ms a query, one thread, recall@{K} >= {RECALL}",
    )
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
