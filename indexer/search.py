"""Search in one domain: exact scores in one order, whatever engine finds the items.

The score of an item is its inner product with the query, summed in float64 and rounded to float32
once; the order is score descending, then row (hence item id) ascending. An engine only proposes. An
exact one answers in float32 and cuts equal scores as it likes: more is asked for than is needed;
whatever could still belong to the answer, given how far float32 may be off, is scored again
exactly; and where the cut itself may have been wrong, more is asked for, in the end all items. An
approximate one is asked for a multiple of what is needed, and everything it finds is scored again;
where that is too little for the answer, it is asked to try harder, in the end all items are
scored. Where few rows are allowed, their vectors are gathered and multiplied; where many are, an
engine that can looks at them alone. A query without a vector is ranked by the popularity table.

Shapes: B queries, N rows, V items, D width, R ranked rows; row 0 is padding.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from indexer.attributes import Attribute
from indexer.bitmaps import Bitmap, RowSet
from indexer.engine import Engine, Proposer, Selective
from indexer.products import (
    LARGEST,
    exact_products,
    longest,
    paired_products,
    rounding_bound,
)
from indexer.query import Found, Query, no_rows, none_of
from indexer.ranks import ranked, ranked_by_products
from model.arrays import Floats, Rows
from model.bundle import DomainTables
from model.data.vocabulary import PADDING
from model.scoring import exact_scores

__all__ = ["DEPTHS", "DomainIndex", "Found", "Query"]

DEPTHS = (64, 256, 1024)
"""How many rows an engine is asked for, one after the other; below FAISS's 2,048 on a GPU. What
needs more is answered from the products with all items, by then as quick."""

EFFORTS = (1, 4)
"""What an approximate engine spends, as multiples of what its spec says, one after the other."""

_SMALL_SHARE = 4
"""An approximate engine is asked for at most one row in so many; all products are as quick then."""

_BROAD_SHARE = 4
"""To gather one row in so many takes a CPU as long as all products (`benchmarks.filters`)."""

_BLOCK = 1 << 26  # scores held at once when the rank among all items is asked for: 256 MB


_Best = tuple[Rows, Floats]


@dataclass(frozen=True, slots=True)
class _Vector:
    """A query vector and what rounding may do to its products."""

    numbers: Floats
    slack: float
    """How far apart two float32 products may be whose true order is the other way round."""
    overflows: bool
    """Whether a float32 product with an item may leave the range of float32."""


class DomainIndex:
    """The items of one domain, ready to be searched."""

    def __init__(
        self,
        tables: DomainTables,
        kind: str,
        engine: Engine | Proposer,
        candidate_sets: Mapping[str, RowSet],
        attributes: Mapping[str, Attribute] = MappingProxyType({}),
    ) -> None:
        """Join the tables of a domain, an engine over its item table, and what calls name.

        Args:
            tables: Vocabulary, item table and popularity.
            kind: Kind of the index, as given to `indexer build`.
            engine: Finds, or proposes, and multiplies.
            candidate_sets: Rows by the set's name.
            attributes: What filters go by, by the attribute's name.
        """
        self.name = tables.name
        self.kind = kind
        self.vocabulary = tables.vocabulary
        self.candidate_sets = candidate_sets
        self.attributes = attributes
        self.item_table = tables.item_table
        self._popularity = tables.popularity
        order = np.argsort(-tables.popularity[1:], kind="stable") + 1
        self._by_popularity: Rows = order.astype(np.int32)
        self._longest = longest(tables.item_table)
        self._engine = engine
        # Once: to see whether an object has a protocol's methods takes longer than a search.
        self._proposer = engine if isinstance(engine, Proposer) else None
        self._exact = None if isinstance(engine, Proposer) else engine
        self._selective = engine if isinstance(engine, Selective) else None

    def __len__(self) -> int:
        """Count the items, padding not included."""
        return len(self.item_table) - 1

    @property
    def width(self) -> int:
        """Numbers in a query vector."""
        return int(self.item_table.shape[1])

    def search(self, queries: Sequence[Query]) -> list[Found]:
        """Answer each query as if it were alone; one call for many is quicker.

        Raises:
            InvalidInputError: If k is below 1, a vector is of another width or not finite, or a row
                lies outside the domain.
        """
        for query in queries:
            query.check(len(self), self.width)
        lists: dict[int, _Best] = {}
        waiting: dict[int, _Vector] = {}
        vectors = [None if q.vector is None else self._measured(q.vector) for q in queries]
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            if vector is None:
                lists[place] = self._most_popular(query)
            elif query.candidates is not None or vector.overflows:
                lists[place] = self._among(query, vector)
            else:
                waiting[place] = vector
        if waiting:
            lists |= self._found(queries, waiting)
        ranks = self._ranks(queries, vectors)
        return [Found(*lists[place], *ranks[place]) for place in range(len(queries))]

    def _measured(self, vector: Floats) -> _Vector:
        product = float(np.linalg.norm(vector.astype(np.float64))) * self._longest
        return _Vector(
            np.asarray(vector, np.float32),
            slack=2 * rounding_bound(self.width, product),
            overflows=product > LARGEST / 2,
        )

    def _most_popular(self, query: Query) -> _Best:
        if query.candidates is None:
            head = self._by_popularity[: query.k + len(query.excluded)]
            rows = head[none_of(head, query.excluded)][: query.k]
        elif isinstance(query.candidates, Bitmap):
            allowed = query.candidates.without(query.excluded)
            rows = allowed.first_of(self._by_popularity, query.k)
        else:
            among = query.allowed(len(self))
            order = np.argsort(-self._popularity[among], kind="stable")
            rows = among[order[: query.k]]
        return rows, self._popularity[rows]

    def _among(self, query: Query, vector: _Vector) -> _Best:
        """Answer from what the engine finds in a broad set, or else from all allowed rows."""
        broad = self._broad(query)
        if broad is not None and not vector.overflows:
            found = self._selected(broad, query, vector)
            if found is not None:
                return found
        rows = query.allowed(len(self))
        if len(rows) <= query.k or vector.overflows:
            return self._best(vector, rows, query.k)
        many = self._selective is not None and len(rows) * _BROAD_SHARE >= len(self)
        if query.candidates is None or many:
            products = self._engine.products(vector.numbers, None)[rows - 1]
        else:
            products = self._engine.products(vector.numbers, rows)
        cut = np.partition(products, len(rows) - query.k)[len(rows) - query.k]
        return self._best(vector, rows[products >= cut - vector.slack], query.k)

    def _broad(self, query: Query) -> Bitmap | None:
        """Give the allowed rows where they are too many to be gathered; see `Selective.broad`."""
        if self._selective is None or not isinstance(query.candidates, Bitmap):
            return None
        allowed = query.candidates.without(query.excluded)
        return allowed if len(allowed) >= self._selective.broad * len(self) else None

    def _selected(self, among: Bitmap, query: Query, vector: _Vector) -> _Best | None:
        """Let the engine look at the rows of a set alone; None where it finds too little."""
        engine, size = self._selective, len(among)
        if engine is None or not size:
            return None
        if self._proposer is not None:
            # More than are wanted: where so many lie near the query, the best of the set do, too.
            depth = max(DEPTHS[0], _depth(query.k, self._proposer.rerank))
            if depth * _SMALL_SHARE > size:
                return None
            # What is looked at lies in the set by this share: the same is found with more effort.
            effort = min(EFFORTS[-1], -(-len(self) // size))
            _, rows = engine.select(vector.numbers, depth, among, effort=effort)
            return self._best(vector, rows, query.k) if rows.all() else None
        for depth in DEPTHS:
            count = min(depth, size)
            if query.k < count or count == size:
                products, rows = engine.select(vector.numbers, count, among, effort=1)
                left = self._contenders(query, vector, products, rows, size)
                if left is not None:
                    return self._best(vector, left, query.k)
        return None

    def _found(self, queries: Sequence[Query], waiting: Mapping[int, _Vector]) -> dict[int, _Best]:
        """Answer queries without candidates, by place."""
        answers: dict[int, _Best] = {}
        if self._proposer is not None:
            answers = self._from_proposals(self._proposer, queries, waiting)
        elif self._exact is not None:
            answers = self._from_tops(self._exact, queries, waiting)
        for place, vector in waiting.items():
            if place not in answers:
                answers[place] = self._among(queries[place], vector)
        return answers

    def _from_tops(
        self, engine: Engine, queries: Sequence[Query], waiting: Mapping[int, _Vector]
    ) -> dict[int, _Best]:
        """Ask an exact engine for the best rows, and for more where needed."""
        answers: dict[int, _Best] = {}
        for depth in DEPTHS:
            count = min(depth, len(self))
            places = [
                place
                for place in waiting
                if place not in answers
                and (count == len(self) or queries[place].k + len(queries[place].excluded) < count)
            ]
            if not places:
                continue
            vectors = np.stack([waiting[place].numbers for place in places])
            tops = zip(places, *engine.top(vectors, count), strict=True)
            left = {
                place: self._contenders(queries[place], waiting[place], products, rows, len(self))
                for place, products, rows in tops
            }
            sure = {place: rows for place, rows in left.items() if rows is not None}
            answers |= self._best_of_each(queries, waiting, sure)
        return answers

    def _contenders(
        self, query: Query, vector: _Vector, products: Floats, rows: Rows, items: int
    ) -> Rows | None:
        """Pick from the best products an exact engine found, descending, and their rows: both (N,).

        Args:
            query: What is asked.
            vector: Its vector.
            products: (N,).
            rows: (N,).
            items: How many rows the engine had to choose from.

        Returns:
            The rows that may belong in the answer, or None if one that was left out might.
        """
        if len(query.excluded):
            kept = none_of(rows, query.excluded)
            left, left_products = rows[kept], products[kept]
        else:
            left, left_products = rows, products
        if len(left) > query.k:
            lowest = left_products[query.k - 1] - vector.slack
            if len(rows) < items and lowest <= products[-1]:
                return None
            left = left[left_products >= lowest]
        return left

    def _from_proposals(
        self, engine: Proposer, queries: Sequence[Query], waiting: Mapping[int, _Vector]
    ) -> dict[int, _Best]:
        """Ask an approximate engine, and once more with more effort where it found too few."""
        answers: dict[int, _Best] = {}
        for effort in EFFORTS:
            # Queries of one depth together: what is found must not depend on others in the batch.
            groups: dict[int, list[int]] = {}
            for place in waiting.keys() - answers.keys():
                query = queries[place]
                depth = _depth(query.k + len(query.excluded), engine.rerank)
                if depth * _SMALL_SHARE <= len(self):
                    groups.setdefault(depth, []).append(place)
            for depth, places in groups.items():
                vectors = np.stack([waiting[place].numbers for place in places])
                enough: dict[int, Rows] = {}
                found = engine.propose(vectors, depth, effort=effort)
                for place, rows in zip(places, found, strict=True):
                    query = queries[place]
                    left = rows[rows != PADDING]
                    left = left[none_of(left, query.excluded)]
                    if len(left) >= query.k or len(left) >= len(query.allowed(len(self))):
                        enough[place] = left
                answers |= self._best_of_each(queries, waiting, enough)
        return answers

    def _best_of_each(
        self,
        queries: Sequence[Query],
        waiting: Mapping[int, _Vector],
        proposed: Mapping[int, Rows],
    ) -> dict[int, _Best]:
        """Put the rows proposed for each query, by place, in their exact order and keep k."""
        if len(proposed) <= 1:  # a batch's way of doing it costs a single query a fifth of its time
            return {
                place: self._best(waiting[place], rows, queries[place].k)
                for place, rows in proposed.items()
            }
        rows = np.concatenate(list(proposed.values()))
        ends = np.cumsum([len(each) for each in proposed.values()])
        owners = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
        vectors = np.stack([waiting[place].numbers for place in proposed])
        scores = paired_products(self.item_table, vectors, owners, rows)
        order = np.lexsort((rows, -scores, owners))
        rows, scores = rows[order], scores[order]
        starts = np.append(0, ends[:-1])
        answers = {}
        for place, start, end in zip(proposed, starts.tolist(), ends.tolist(), strict=True):
            last = min(end, start + queries[place].k)
            answers[place] = rows[start:last], scores[start:last]
        return answers

    def _best(self, vector: _Vector, rows: Rows, k: int) -> _Best:
        """Put rows (N,) in their exact order and keep k."""
        scores = exact_products(self.item_table, vector.numbers, rows)
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]

    def _ranks(
        self, queries: Sequence[Query], vectors: Sequence[_Vector | None]
    ) -> list[tuple[Floats, Rows]]:
        """Score and rank the rows each query names -> scores (R,), ranks (R,) a query."""
        ranks = [(np.empty(0, np.float32), no_rows())] * len(queries)
        together: dict[int, _Vector] = {}
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            if not len(query.ranked):
                continue
            if vector is not None and query.candidates is None and not vector.overflows:
                together[place] = vector
                continue
            rows = query.allowed(len(self))
            if vector is None:
                ranks[place] = ranked(query.ranked, rows, self._popularity[rows])
            elif vector.overflows or self._broad(query) is None:
                exact = exact_products(self.item_table, vector.numbers, rows)
                ranks[place] = ranked(query.ranked, rows, exact)
            else:
                products = self._engine.products(vector.numbers, None)[rows - 1]
                ranks[place] = ranked_by_products(
                    self.item_table,
                    vector.numbers,
                    query.ranked,
                    rows,
                    products,
                    slack=vector.slack,
                )
        places = list(together)
        block = max(1, _BLOCK // len(self.item_table))
        for first in range(0, len(places), block):
            part = places[first : first + block]
            numbers = np.stack([together[place].numbers for place in part])
            for place, scores in zip(part, exact_scores(self.item_table, numbers), strict=True):
                query, rows = queries[place], queries[place].allowed(len(self))
                ranks[place] = ranked_by_products(
                    self.item_table,
                    together[place].numbers,
                    query.ranked,
                    rows,
                    scores[rows],
                    slack=together[place].slack,
                )
        return ranks


def _depth(count: int, rerank: float) -> int:
    """Say how many rows an approximate engine is asked for: few numbers, so that queries share."""
    wanted = math.ceil(count * rerank)
    power: int = 1 << max(4, (wanted - 1).bit_length())
    return power * 3 // 4 if wanted <= power * 3 // 4 else power
