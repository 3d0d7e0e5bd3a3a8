"""What is asked of the index of one domain, and what it answers.

Shapes: N rows, D width, R ranked rows; row 0 is padding.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.bitmaps import Bitmap, RowSet
from model.arrays import Floats, Rows
from model.data.vocabulary import PADDING
from model.errors import InvalidInputError


def no_rows() -> Rows:
    """Make an empty list of rows."""
    return np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of one domain's index."""

    vector: Floats | None
    """(D,), finite; None ranks by popularity."""

    k: int
    """Rows wanted, from 1; fewer come back where fewer are allowed."""

    candidates: RowSet | None = None
    """Rows, 1..V, that may be answered; None allows all. A list may be in any order."""

    excluded: Rows = field(default_factory=no_rows)
    """Rows never to answer; 0 stands for an unknown item and excludes nothing."""

    ranked: Rows = field(default_factory=no_rows)
    """Rows whose score and rank are wanted too, (R,); 0 stands for an unknown item."""

    def check(self, items: int, width: int) -> None:
        """Check that a domain of V items of D numbers can be asked this.

        Raises:
            InvalidInputError: If k is below 1, the vector is of another width or not finite, or a
                row lies outside the domain.
        """
        if self.k < 1:
            raise InvalidInputError(f"k is {self.k}; it must be at least 1")
        if self.vector is not None:
            if self.vector.shape != (width,):
                raise InvalidInputError(
                    f"the query vector has shape {self.vector.shape}, not ({width},)"
                )
            if not np.isfinite(self.vector).all():
                raise InvalidInputError("the query vector holds a number that is not finite")
        if self.candidates is not None and not isinstance(self.candidates, Bitmap):
            _check_rows("candidates", self.candidates, 1, items)
        _check_rows("excluded", self.excluded, PADDING, items)
        _check_rows("ranked", self.ranked, PADDING, items)

    def allowed(self, items: int) -> Rows:
        """List the rows that may be answered of V, ascending, each once."""
        if isinstance(self.candidates, Bitmap):
            return self.candidates.without(self.excluded).rows()
        if self.candidates is not None:
            rows = ascending(self.candidates)
            return rows[none_of(rows, self.excluded)]
        marks = np.ones(items + 1, bool)
        marks[PADDING] = False
        marks[self.excluded] = False
        return np.flatnonzero(marks).astype(np.int32)


def _check_rows(name: str, rows: Rows, least: int, most: int) -> None:
    if len(rows) and not least <= rows.min() <= rows.max() <= most:
        raise InvalidInputError(
            f"{name} holds rows from {rows.min()} to {rows.max()}, outside {least}..{most}"
        )


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


def none_of(rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Mark the rows (N,) that are not among others; for few rows much quicker than `np.isin`."""
    if not len(others):
        return np.ones(len(rows), bool)
    ordered = np.sort(others)
    unlike: NDArray[np.bool_] = ordered.take(ordered.searchsorted(rows), mode="clip") != rows
    return unlike


def ascending(rows: Rows) -> Rows:
    """Sort rows and drop repeats, unless they are so already, as stored sets are."""
    return rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)
