"""Search in one domain: exact answers in one order, whatever engine finds them.

The score of an item is its inner product with the query, summed in float64 and rounded to float32
once; the order is score descending, then row (hence item id) ascending. An engine only proposes: it
answers in float32 and cuts equal scores as it likes. So more is asked for than is needed; whatever
could still belong to the answer, given how far float32 may be off, is scored again exactly; and
where the cut itself may have been wrong, more is asked for, in the end all items. A query without a
vector is ranked by the popularity table.

Shapes: B queries, N rows, V items, D width, R ranked rows; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.engine import Engine
from indexer.products import LARGEST, exact_products, longest, rounding_bound
from model.bundle import DomainTables, Floats
from model.data.vocabulary import PADDING, Rows
from model.errors import InvalidInputError
from model.scoring import exact_scores

DEPTHS = (64, 256, 1024)
"""How many rows an engine is asked for, one after the other; below FAISS's 2,048 on a GPU. What
needs more is answered from the products with all items, by then as quick."""

_BLOCK = 1 << 26  # scores held at once when the rank among all items is asked for: 256 MB


def _no_rows() -> Rows:
    return np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of one domain's index."""

    vector: Floats | None
    """(D,), finite; None ranks by popularity."""

    k: int
    """Rows wanted, from 1; fewer come back where fewer are allowed."""

    candidates: Rows | None = None
    """Rows, 1..V, that may be answered; None allows all."""

    excluded: Rows = field(default_factory=_no_rows)
    """Rows never to answer; 0 stands for an unknown item and excludes nothing."""

    ranked: Rows = field(default_factory=_no_rows)
    """Rows whose score and rank are wanted too, (R,); 0 stands for an unknown item."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one query found."""

    rows: Rows
    """At most k rows, the best first."""

    scores: Floats
    """Their scores."""

    ranked_scores: Floats
    """Score of each ranked row, (R,); 0 where its rank is 0."""

    ranks: Rows
    """1 + the other allowed rows that score at least as high, (R,); 0 where not allowed."""


def _none_of(rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Mark the rows (N,) that are not among others; for few rows much quicker than `np.isin`."""
    if not len(others):
        return np.ones(len(rows), bool)
    ordered = np.sort(others)
    unlike: NDArray[np.bool_] = ordered.take(ordered.searchsorted(rows), mode="clip") != rows
    return unlike


def _ascending(rows: Rows) -> Rows:
    """Sort rows and drop repeats, unless they are so already, as stored sets are."""
    return rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)


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
        self, tables: DomainTables, kind: str, engine: Engine, candidate_sets: Mapping[str, Rows]
    ) -> None:
        """Join the tables of a domain, an engine over its item table, and its candidate sets.

        Args:
            tables: Vocabulary, item table and popularity.
            kind: Kind of the index, as given to `indexer build`.
            engine: Finds and multiplies.
            candidate_sets: Rows, ascending and distinct, by the set's name.
        """
        self.name = tables.name
        self.kind = kind
        self.vocabulary = tables.vocabulary
        self.candidate_sets = candidate_sets
        self.item_table = tables.item_table
        self._popularity = tables.popularity
        order = np.argsort(-tables.popularity[1:], kind="stable") + 1
        self._by_popularity: Rows = order.astype(np.int32)
        self._longest = longest(tables.item_table)
        self._engine = engine

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
            self._check(query)
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
        lists |= self._from_engine(queries, waiting)
        ranks = self._ranks(queries, vectors)
        return [Found(*lists[place], *ranks[place]) for place in range(len(queries))]

    def _check(self, query: Query) -> None:
        if query.k < 1:
            raise InvalidInputError(f"k is {query.k}; it must be at least 1")
        if query.vector is not None:
            if query.vector.shape != (self.width,):
                raise InvalidInputError(
                    f"the query vector has shape {query.vector.shape}, not ({self.width},)"
                )
            if not np.isfinite(query.vector).all():
                raise InvalidInputError("the query vector holds a number that is not finite")
        if query.candidates is not None:
            self._check_rows("candidates", query.candidates, least=1)
        self._check_rows("excluded", query.excluded, least=PADDING)
        self._check_rows("ranked", query.ranked, least=PADDING)

    def _check_rows(self, name: str, rows: Rows, *, least: int) -> None:
        if len(rows) and not least <= rows.min() <= rows.max() <= len(self):
            raise InvalidInputError(
                f"{name} holds rows from {rows.min()} to {rows.max()}, outside {least}..{len(self)}"
            )

    def _measured(self, vector: Floats) -> _Vector:
        product = float(np.linalg.norm(vector.astype(np.float64))) * self._longest
        return _Vector(
            np.asarray(vector, np.float32),
            slack=2 * rounding_bound(self.width, product),
            overflows=product > LARGEST / 2,
        )

    def _allowed(self, query: Query) -> Rows:
        """List the rows that may be answered, ascending, each once."""
        if query.candidates is not None:
            rows = _ascending(query.candidates)
            return rows[_none_of(rows, query.excluded)]
        allowed = np.ones(len(self) + 1, bool)
        allowed[PADDING] = False
        allowed[query.excluded] = False
        return np.flatnonzero(allowed).astype(np.int32)

    def _most_popular(self, query: Query) -> _Best:
        if query.candidates is None:
            head = self._by_popularity[: query.k + len(query.excluded)]
            rows = head[_none_of(head, query.excluded)][: query.k]
        else:
            among = self._allowed(query)
            order = np.argsort(-self._popularity[among], kind="stable")
            rows = among[order[: query.k]]
        return rows, self._popularity[rows]

    def _among(self, query: Query, vector: _Vector) -> _Best:
        """Answer from the products with all allowed rows."""
        rows = self._allowed(query)
        if len(rows) <= query.k or vector.overflows:
            return self._best(vector, rows, query.k)
        if query.candidates is None:
            products = self._engine.products(vector.numbers, None)[rows - 1]
        else:
            products = self._engine.products(vector.numbers, rows)
        cut = np.partition(products, len(rows) - query.k)[len(rows) - query.k]
        return self._best(vector, rows[products >= cut - vector.slack], query.k)

    def _from_engine(
        self, queries: Sequence[Query], waiting: dict[int, _Vector]
    ) -> dict[int, _Best]:
        """Answer queries without candidates, by place, asking the engine for more where needed."""
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
            found = self._engine.top(vectors, count)
            for place, products, rows in zip(places, *found, strict=True):
                best = self._from_top(queries[place], waiting[place], products, rows)
                if best is not None:
                    answers[place] = best
        for place, vector in waiting.items():
            if place not in answers:
                answers[place] = self._among(queries[place], vector)
        return answers

    def _from_top(
        self, query: Query, vector: _Vector, products: Floats, rows: Rows
    ) -> _Best | None:
        """Answer from the best products an engine found, descending, and their rows: both (N,).

        Returns:
            The answer, or None if a row that the engine left out might belong in it.
        """
        kept = _none_of(rows, query.excluded)
        left, left_products = rows[kept], products[kept]
        if len(left) > query.k:
            lowest = left_products[query.k - 1] - vector.slack
            if len(rows) < len(self) and lowest <= products[-1]:
                return None
            left = left[left_products >= lowest]
        return self._best(vector, left, query.k)

    def _best(self, vector: _Vector, rows: Rows, k: int) -> _Best:
        """Put rows (N,) in their exact order and keep k."""
        scores = exact_products(self.item_table, vector.numbers, rows)
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]

    def _ranks(
        self, queries: Sequence[Query], vectors: Sequence[_Vector | None]
    ) -> list[tuple[Floats, Rows]]:
        """Score and rank the rows each query names -> scores (R,), ranks (R,) a query."""
        ranks = [(np.empty(0, np.float32), _no_rows())] * len(queries)
        together: dict[int, _Vector] = {}
        for place, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            if not len(query.ranked):
                continue
            if vector is None:
                rows = self._allowed(query)
                ranks[place] = _ranked(query.ranked, rows, self._popularity[rows])
            elif query.candidates is not None or vector.overflows:
                rows = self._allowed(query)
                exact = exact_products(self.item_table, vector.numbers, rows)
                ranks[place] = _ranked(query.ranked, rows, exact)
            else:
                together[place] = vector
        places = list(together)
        block = max(1, _BLOCK // len(self.item_table))
        for first in range(0, len(places), block):
            part = places[first : first + block]
            numbers = np.stack([together[place].numbers for place in part])
            for place, scores in zip(part, exact_scores(self.item_table, numbers), strict=True):
                query, rows = queries[place], self._allowed(queries[place])
                own, order = _ranked(query.ranked, rows, scores[rows])
                there = order > 0
                own[there] = exact_products(
                    self.item_table, together[place].numbers, query.ranked[there]
                )
                ranks[place] = own, order
        return ranks


def _ranked(wanted: Rows, rows: Rows, scores: Floats) -> tuple[Floats, Rows]:
    """Rank the rows wanted (R,) among rows (N,), ascending, by their scores -> scores, ranks."""
    own = np.zeros(len(wanted), np.float32)
    ranks = np.zeros(len(wanted), np.int32)
    if len(rows):
        places = rows.searchsorted(wanted)
        known = rows.take(places, mode="clip") == wanted
        own[known] = scores[places[known]]
        # A row scores as high as itself, which makes the 1 that ranks begin with.
        ranks[known] = [np.count_nonzero(scores >= score) for score in own[known]]
    return own, ranks
