"""How long `recguru indexer update` takes where it appends, and where it builds an index anew.

    python -m benchmarks.updates [--items 100000] [--kinds hnsw ivf] [--changed 1000]

A release of one domain of `benchmarks.search`'s tables gets as many new items as it loses: once
appended, once rebuilt, as the setting `rebuild_share` says. Seconds are those of the whole update,
which also writes the bundle, checks every digest and tries the release; recall@10 is that of the
other half of the queries, as exact search by numpy finds it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.search import structured_queries, structured_table, tables_of
from indexer.build import build
from indexer.faiss_api import ALL_THREADS
from indexer.recall import recall
from indexer.release import Release
from indexer.sample import sample_of
from indexer.spec import IndexSettings
from indexer.store import Store
from indexer.update import update
from model.arrays import Floats
from model.bundle import Bundle, write_bundle
from model.console import progress
from model.files import publishing

if TYPE_CHECKING:
    from indexer.change_files import Role

K = 10
DOMAIN = "synthetic"
OPTIONS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "hnsw": {"effort": 256, "build_threads": ALL_THREADS},
        "ivf": {"probes": 32},
        "ivf_int8": {"probes": 32, "rerank": 4},
        "ivf_pq": {"probes": 32, "rerank": 32},
    }
)
"""Settings in place of tuning, which is not what is measured."""


def main() -> int:
    """Measure each kind and print a line an update."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--changed", type=int, default=1_000, help="items removed, and added")
    parser.add_argument("--queries", type=int, default=400)
    kinds = [key.replace("_", "-") for key in OPTIONS]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--work", type=Path, help="folder for what is built; default a new one")
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    table = structured_table(options.items, options.width, generator)
    queries = structured_queries(table, options.queries, generator)
    print(
        f"{'items':>10}  {'kind':10}{'index':10}{'seconds':>9}{'recall':>8}  {ALL_THREADS} threads"
    )
    with tempfile.TemporaryDirectory(dir=options.work) as place:
        folder = Path(place)
        with publishing(folder / "bundle") as empty:
            tables = replace(tables_of(table), queries=queries)
            write_bundle(empty, [tables], {}, network={}, dataset="da" * 32, training={})
        files = _changes(folder, table, options.changed)
        for kind in options.kinds:
            _measure(folder, kind, files)
    return 0


def _changes(folder: Path, table: Floats, count: int) -> "dict[str, dict[Role, Path]]":
    """Write what is to go and to come: items between two others."""
    generator = np.random.default_rng(2)
    rows = generator.permutation(len(table) - 1)[: 3 * count] + 1
    gone, first, second = np.split(rows, 3)
    remove, add = folder / "remove", folder / "add"
    remove.write_text("".join(f"{row - 1:09d}\n" for row in gone.tolist()))
    vectors = ((table[first] + table[second]) / 2).tolist()
    lines = (
        json.dumps({"item_id": f"{row - 1:09d}-new", "vector": vector})
        for row, vector in zip(first.tolist(), vectors, strict=True)
    )
    add.write_text("\n".join(lines))
    return {DOMAIN: {"add": add, "remove": remove}}


def _measure(folder: Path, kind: str, files: "dict[str, dict[Role, Path]]") -> None:
    root, key = folder / f"releases-{kind}", kind.replace("-", "_")
    given = {"device": "cpu", "kind": kind, "recall": 0.5, key: OPTIONS[key]}
    settings = IndexSettings.model_validate(given)
    with progress(f"build {kind}", 2) as advance:
        bundle = Bundle.read(folder / "bundle")
        build(bundle, Store(root), settings=settings, advance=advance)
    base = next(path for path in root.iterdir() if path.is_dir())
    _show(base, kind, "built", 0)
    for share in (1, 0):
        with progress(f"update {kind}", 2) as advance:
            made = update(
                Release.read(base),
                Store(root),
                files,
                settings=settings.model_copy(update={"rebuild_share": share}),
                advance=advance,
                replaces=None,
            )
        _show(made.folder, kind, made.domains[DOMAIN].index, made.seconds)


def _show(folder: Path, kind: str, how: str, seconds: float) -> None:
    release = Release.read(folder, verify=False)
    vectors = sample_of(release.bundle.domain(DOMAIN), 500, seed=0).held_out
    index = release.indexes[DOMAIN]
    found, took = recall(index, vectors, k=K), f"{seconds:.1f}" if seconds else "-"
    print(f"{len(index):10,}  {kind:10}{how:10}{took:>9}{found:8.4f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
