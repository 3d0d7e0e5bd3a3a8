"""Candidate sets and attributes of a release whose rows are arranged anew.

Shapes: V items before, W after; row 0 is padding.
"""

from collections.abc import Mapping

import numpy as np

from indexer.attributes import Attribute, DomainAttributes
from indexer.bitmaps import Bitmap, RowSet, bytes_of, smaller_of_both
from indexer.candidates import CandidateSet
from indexer.search import DomainIndex
from model.arrays import Rows
from model.data.vocabulary import PADDING
from model.derived import DerivedDomain


def moved_sets(
    indexes: Mapping[str, DomainIndex], derived: Mapping[str, DerivedDomain]
) -> tuple[list[CandidateSet], list[tuple[str, str]]]:
    """Move the candidate sets of all domains.

    Returns:
        The sets, and as pairs of domain and set those that no item is left of, which are no more:
        what is no set is refused when it is named, while an empty one would be answered with none.
    """
    found: dict[str, dict[str, RowSet]] = {}
    emptied = []
    for domain, index in indexes.items():
        for name, rows in index.candidate_sets.items():
            items = len(derived[domain].tables.vocabulary)
            there = _moved(rows, derived[domain].moved)
            if len(there):
                found.setdefault(name, {})[domain] = smaller_of_both(there, items)
            else:
                emptied.append((domain, name))
    sets = [
        CandidateSet(name, sum(len(each) for each in rows.values()), 0, rows)
        for name, rows in found.items()
    ]
    return sets, emptied


def moved_attributes(
    indexes: Mapping[str, DomainIndex], derived: Mapping[str, DerivedDomain]
) -> list[DomainAttributes]:
    """Move the attributes of all domains that have some; an item that is new has none."""
    found = []
    for domain, index in indexes.items():
        if index.attributes:
            after = derived[domain]
            attributes = {name: _attribute(each, after) for name, each in index.attributes.items()}
            found.append(DomainAttributes(domain, len(index), 0, attributes))
    return found


def _attribute(attribute: Attribute, derived: DerivedDomain) -> Attribute:
    items = len(derived.tables.vocabulary)
    bits = np.zeros((len(attribute), bytes_of(items)), np.uint8)
    for place, value in enumerate(attribute.values):
        rows = _moved(attribute.having([value]), derived.moved)
        bits[place] = Bitmap.of(rows, items).packed
    return Attribute(attribute.values, bits, items)


def _moved(rows: RowSet, moved: Rows) -> Rows:
    """Say where rows are now, ascending, leaving out what is removed."""
    now = moved[rows.rows() if isinstance(rows, Bitmap) else rows]
    return np.sort(now[now != PADDING])
