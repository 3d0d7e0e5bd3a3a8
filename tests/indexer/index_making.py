"""What the tests of the indexer are made of: small bundles with structure, releases, slow answers.

Shapes: V items, D width; row 0 is padding.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.bitmaps import Bitmap, RowSet
from indexer.build import Built, Extras, build
from indexer.builders import build_index
from indexer.engine import Engine, open_engine
from indexer.placement import Device
from indexer.products import rounding_bound
from indexer.search import DomainIndex, Query
from indexer.spec import FlatSpec, IndexSettings, IndexSpec
from indexer.store import Store
from model.arrays import Floats, Rows
from model.bundle import Bundle, DomainTables, write_bundle
from model.data.vocabulary import StringTable, Vocabulary
from model.files import publishing

SIZES = {"books": 70, "films": 1500}
"""Items by domain: one close to the first depth of a search, one beyond the last."""
WIDTH = 8


def tables_of(
    name: str,
    item_table: Floats,
    popularity: Floats | None = None,
    queries: Floats | None = None,
) -> DomainTables:
    """Make the tables of a domain from its item table (V + 1, D)."""
    items = len(item_table) - 1
    vocabulary = Vocabulary(StringTable.of(f"{name}-{item:05d}" for item in range(1, items + 1)))
    if popularity is None:
        popularity = np.zeros(items + 1, np.float32)
        popularity[1:] = 1 / items
    return DomainTables(name, vocabulary, item_table, popularity, queries)


def clustered(items: int, width: int, generator: np.random.Generator) -> Floats:
    """Draw an item table (V + 1, D): clusters of unequal size around unequal centres."""
    centres = generator.standard_normal((6, width)) * np.arange(1, width + 1)
    share = 1 / np.arange(1, 7)
    chosen = generator.choice(6, items, p=share / share.sum())
    table = np.zeros((items + 1, width), np.float32)
    table[1:] = centres[chosen] + 0.3 * generator.standard_normal((items, width))
    return table


def curved(items: int, width: int, generator: np.random.Generator) -> Floats:
    """Draw an item table (V + 1, D) on a bent surface of three dimensions, a little off it."""
    place = generator.beta(0.7, 2.0, (items, 3)) @ (2 * generator.standard_normal((3, width)))
    table = np.zeros((items + 1, width), np.float32)
    table[1:] = np.where(np.arange(width) % 2, np.sin(place), np.cos(2 * place))
    table[1:] *= np.linspace(1, 2, width)
    table[1:] += 0.02 * generator.standard_normal((items, width))
    return table


def skewed_popularity(items: int, generator: np.random.Generator) -> Floats:
    """Draw a popularity table (V + 1,) with many ties."""
    counts = np.zeros(items + 1)
    counts[1:] = generator.zipf(1.7, items).clip(max=50)
    shares: Floats = (counts / counts.sum()).astype(np.float32)
    return shares


def write_small_bundle(place: Path, seed: int = 1) -> Path:
    """Write a bundle of two domains, different for each seed."""
    generator = np.random.default_rng(seed)
    domains = [
        tables_of(name, clustered(items, WIDTH, generator), skewed_popularity(items, generator))
        for name, items in SIZES.items()
    ]
    weights = {"dummy.weight": generator.standard_normal((2, 3)).astype(np.float32)}
    with publishing(place) as folder:
        write_bundle(
            folder, domains, weights, network={"width": WIDTH}, dataset="da" * 32, training={}
        )
    return place


def silent(steps: int = 1, *, note: str = "") -> None:
    """Show no progress."""
    del steps, note


def built_in(root: Path, bundle: Bundle, **candidates: Path) -> Built:
    """Build a release on the CPU."""
    settings = IndexSettings(device="cpu")
    return build(
        bundle, Store(root), settings=settings, extras=Extras(candidates=candidates), advance=silent
    )


def built_as(bundle: Bundle, root: Path, **settings: object) -> Built:
    """Build a release on the CPU with settings."""
    chosen = IndexSettings.model_validate({"device": "cpu", **settings})
    return build(bundle, Store(root), settings=chosen, advance=silent)


def index_of(tables: DomainTables, engine: Engine | None = None) -> DomainIndex:
    """Make a domain's index in memory, searched by the engine given or by FAISS on the CPU."""
    return DomainIndex(tables, "flat", engine or faiss_engine(tables), {})


def index_of_kind(tables: DomainTables, spec: IndexSpec) -> DomainIndex:
    """Build a domain's index to a spec, searched by one thread."""
    index = build_index(spec, tables.item_table[1:])
    engine = open_engine("cpu", spec, index, tables.item_table, threads=1)
    return DomainIndex(tables, spec.kind, engine, {})


def faiss_engine(tables: DomainTables, device: Device = "cpu") -> Engine:
    """Make an exact FAISS index of a domain."""
    index = build_index(FlatSpec(), tables.item_table[1:])
    engine = open_engine(device, FlatSpec(), index, tables.item_table)
    assert isinstance(engine, Engine)
    return engine


class ContraryEngine:
    """Keeps an engine's promise as badly as it may: off by all that is allowed, ties last first."""

    def __init__(self, table: Floats) -> None:
        """Take an item table (V + 1, D)."""
        self._table = table.astype(np.float64)
        self._generator = np.random.default_rng(len(table))

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Sort everything; the last of equals first."""
        scores = np.stack([self.products(vector, None) for vector in vectors])
        rows = np.stack([np.lexsort((np.arange(len(row)), row))[::-1][:count] for row in scores])
        return np.take_along_axis(scores, rows, axis=1), (rows + 1).astype(np.int32)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply, then be off."""
        wide = vector.astype(np.float64)
        lengths = np.linalg.norm(wide) * np.linalg.norm(self._table, axis=1).max()
        bound = rounding_bound(len(vector), float(lengths))
        products = self._table[1:] @ wide
        products = products + bound * self._generator.uniform(-0.99, 0.99, len(products))
        off: Floats = products.astype(np.float32)
        return off if rows is None else off[rows - 1]


def slow_scores(tables: DomainTables, query: Query) -> list[float]:
    """Score every row in double precision, summed number by number, rounded to float32 once."""
    if query.vector is None:
        return [float(share) for share in tables.popularity]
    sums = np.zeros(len(tables.item_table))
    for column, number in zip(tables.item_table.T, query.vector.tolist(), strict=True):
        sums += column.astype(np.float64) * number
    scores: list[float] = sums.astype(np.float32).tolist()
    return scores


def slow_answer(tables: DomainTables, query: Query) -> tuple[list[int], list[float]]:
    """Answer a query by sorting all of Python's scores."""
    scores = slow_scores(tables, query)
    allowed = slow_allowed(tables, query)
    rows = sorted(allowed, key=lambda row: (-scores[row], row))[: query.k]
    return rows, [scores[row] for row in rows]


def slow_ranks(tables: DomainTables, query: Query) -> list[int]:
    """Count, for each ranked row, itself and the other allowed rows that score at least as high."""
    scores = slow_scores(tables, query)
    allowed = slow_allowed(tables, query)
    return [
        sum(scores[other] >= scores[row] for other in allowed) if row in allowed else 0
        for row in query.ranked.tolist()
    ]


def slow_allowed(tables: DomainTables, query: Query) -> set[int]:
    """List the rows a query allows."""
    every = set(range(1, len(tables.item_table)))
    listed = [] if query.candidates is None else listed_rows(query.candidates).tolist()
    among = every if query.candidates is None else set(listed)
    return among - set(query.excluded.tolist())


def listed_rows(rows: RowSet) -> Rows:
    """List the rows of a set, whichever way it is kept."""
    return rows.rows() if isinstance(rows, Bitmap) else rows


def rows_of(*rows: int) -> Rows:
    """Make an array of rows."""
    return np.array(rows, np.int32)


def floats_of(*numbers: float) -> NDArray[np.float32]:
    """Make a vector."""
    return np.array(numbers, np.float32)
