"""The questions that every place of search must answer alike, and the slow answers to them.

Shapes: V items, D width.
"""

from collections.abc import Sequence

import numpy as np

from indexer.bitmaps import Bitmap, RowSet
from indexer.search import DomainIndex, Query
from model.arrays import Rows
from model.bundle import DomainTables
from tests.indexer.index_making import (
    clustered,
    index_of,
    skewed_popularity,
    slow_answer,
    slow_ranks,
    tables_of,
)

ITEMS = 5000
WIDTH = 16
EVERY = 5
"""One question in so many is enough for a quick look: they are of all sorts."""


def tables_with_ties(ties: int) -> DomainTables:
    """Make a domain in which row 17 has so many equals, and a hundred other rows have two each."""
    generator = np.random.default_rng(8)
    table = clustered(ITEMS, WIDTH, generator)
    order = generator.permutation(ITEMS) + 1
    table[order[:100]], table[order[100:200]] = table[order[200:300]], table[order[200:300]]
    table[order[300 : 300 + ties]] = table[17]
    return tables_of("films", table, skewed_popularity(ITEMS, generator))


def all_questions(tables: DomainTables) -> list[Query]:
    """Ask for all combinations of candidates, exclusions, and k below and above FAISS's limit."""
    generator = np.random.default_rng(9)

    def some(count: int) -> Rows:
        return (generator.permutation(ITEMS)[:count] + 1).astype(np.int32)

    def candidates() -> list[RowSet | None]:
        few, broad = Bitmap.of(some(300), ITEMS), Bitmap.of(some(4500), ITEMS)
        return [None, some(200), some(4000), some(0), few, broad]

    return [
        Query(vector, k=k, candidates=among, excluded=some(excluded), ranked=some(3))
        for vector in (
            tables.item_table[17],
            generator.standard_normal(WIDTH).astype(np.float32),
            None,
        )
        for k in (1, 40, 2048, 3000)
        for among in candidates()
        for excluded in (0, 30, 2500)
    ]


def assert_exact(index: DomainIndex, tables: DomainTables, queries: Sequence[Query]) -> None:
    """Compare an index's answers with those of the exact one on the CPU and with slow ones."""
    theirs = index.search(queries)
    ours = index_of(tables).search(queries)
    for found, expected in zip(theirs, ours, strict=True):
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
        assert found.ranks.tolist() == expected.ranks.tolist()
    for query, found in list(zip(queries, theirs, strict=True))[::7]:
        assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)
        if query.candidates is not None or query.vector is None:
            assert found.ranks.tolist() == slow_ranks(tables, query)
