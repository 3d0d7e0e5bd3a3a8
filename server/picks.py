"""What a call chooses from, in rows: candidates, filters and exclusions, found in the release."""

from dataclasses import dataclass

import numpy as np

from indexer.bitmaps import Bitmap, RowSet, smaller_of_both
from indexer.search import DomainIndex
from model.arrays import Rows
from model.data.vocabulary import PADDING
from model.errors import NotFoundError
from server.messages import Choice, Filter, listed, shown


@dataclass(frozen=True, slots=True)
class Pick:
    """A `Choice` in rows."""

    candidates: RowSet | None
    """What may be answered, exclusions aside; None allows all."""
    excluded: Rows
    unknown_candidates: int


def pick(index: DomainIndex, choice: Choice, more_excluded: Rows) -> Pick:
    """Find what a choice names in a domain.

    Args:
        index: The domain.
        choice: What a call says.
        more_excluded: Rows to be excluded besides.

    Raises:
        NotFoundError: If it names a candidate set or an attribute that the domain does not have.
    """
    candidates: RowSet | None = None
    unknown = 0
    if choice.candidate_items is not None:
        rows = index.vocabulary.rows(choice.candidate_items)
        unknown = int((rows == PADDING).sum())
        candidates = smaller_of_both(_distinct(rows), len(index))
    elif choice.candidate_set is not None:
        candidates = index.candidate_sets.get(choice.candidate_set)
        if candidates is None:
            raise NotFoundError(
                f"candidate_set: {shown(choice.candidate_set)} is unknown; "
                f"domain {shown(index.name)} has {listed(sorted(index.candidate_sets))}"
            )
    for place, each in enumerate(choice.filters):
        passing = _passing(index, each, place)
        match candidates:
            case None:
                candidates = passing
            case Bitmap():
                candidates &= passing
            case rows:
                candidates = rows[passing.holds(rows)]
    excluded = np.concatenate([index.vocabulary.rows(choice.exclude_item_ids), more_excluded])
    return Pick(candidates, _distinct(excluded), unknown)


def _passing(index: DomainIndex, by: Filter, place: int) -> Bitmap:
    """Give the items that pass the filter at some place in a call."""
    attribute = index.attributes.get(by.attribute)
    if attribute is None:
        raise NotFoundError(
            f"filters[{place}].attribute: {shown(by.attribute)} is unknown; "
            f"domain {shown(index.name)} has {listed(sorted(index.attributes))}"
        )
    having = attribute.having(by.values)
    return ~having if by.negate else having


def _distinct(rows: Rows) -> Rows:
    """Return the known rows among those given, ascending, each once."""
    distinct = np.unique(rows)
    return distinct[distinct > PADDING]
