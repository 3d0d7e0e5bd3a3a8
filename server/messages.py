"""What is asked and what is answered, free of any transport.

Ids here are the outside world's (see `model.data.vocabulary`). Shapes: B users, D width.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from model.arrays import Floats
from model.basis import Basis
from model.errors import InvalidInputError, NotFoundError, RecGuruError

_SHOWN_CHARACTERS = 64
_LISTED_NAMES = 20

Histories = Mapping[str, Sequence[str]]
"""Item ids by domain, oldest first; may name items nobody knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Items that have, or lack, some values of an attribute."""

    attribute: str
    values: Sequence[str]
    """At least one; an item needs one of them."""
    negate: bool = False
    """Whether an item must have none of them instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which items may be answered, and how many."""

    k: int
    """Items wanted, from 1."""
    candidate_items: Sequence[str] | None = None
    """Only these; not set together with `candidate_set`."""
    candidate_set: str | None = None
    """Only those of the set of this name in the release."""
    exclude_item_ids: Sequence[str] = ()
    """None of these."""
    filters: Sequence[Filter] = ()
    """Only what passes all of these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendQuestion:
    """Rank the items of a domain for a user."""

    domain: str
    histories: Histories
    choice: Choice
    exclude_history: bool = True
    """Whether the items of the history in the target domain are kept out of the answer."""
    rank_item_ids: Sequence[str] = ()
    """Items whose exact score and rank are wanted too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeQuestion:
    """Give the vectors of users, for one target domain."""

    domain: str
    users: Sequence[Histories]
    first: int = 0
    """Where the first of these users stands in the call, which may be answered in parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchQuestion:
    """Find the items of a domain nearest to a vector."""

    domain: str
    vector: Floats
    """(D,), finite; whether D is the release's width is not known yet."""
    choice: Choice


@dataclass(frozen=True, slots=True)
class Version:
    """Which pair of model and index answered."""

    release: str
    """Name of the release folder."""
    model: str
    """Digest of the bundle."""
    index: str
    """Digest of the release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Items in order: score descending, then id ascending."""

    item_ids: Sequence[str]
    scores: Sequence[float]
    """One for each item."""


@dataclass(frozen=True, slots=True)
class ItemRank:
    """Where an item stands among those allowed."""

    item_id: str
    score: float
    """0 where `rank` is 0."""
    rank: int
    """From 1; 0 where the item is unknown, excluded, no candidate, or held back by a filter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """The answer to a `RecommendQuestion`."""

    ranking: Ranking
    version: Version
    basis: Basis
    unknown_history_items: int
    unknown_candidates: int
    ranks: Sequence[ItemRank]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encodings:
    """The answer to an `EncodeQuestion`, or to a part of its users."""

    gurs: Floats
    """(B, D)."""
    preferences: Floats
    """(B, D)."""
    bases: Sequence[Basis]
    """(B,)."""
    unknown_history_items: int
    version: Version


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The answer to a `SearchQuestion`."""

    ranking: Ranking
    version: Version
    unknown_candidates: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainInfo:
    """One domain of a release."""

    name: str
    items: int
    index_kind: str
    candidate_sets: Sequence[str]
    """Names, ascending."""
    attributes: Mapping[str, int]
    """How many values each has, by name, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseInfo:
    """What is loaded."""

    version: Version
    dataset: str
    """Digest of the dataset behind the model."""
    dimension: int
    """Width D of every vector."""
    max_history: int
    """Items of a history that the model reads, counted from the end."""
    domains: Sequence[DomainInfo]


def shown(text: str) -> str:
    """Quote a caller's text for a message, cut short: a status has room for a few kilobytes."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return repr(cut)


def listed(names: Collection[str]) -> str:
    """List the names there are for a message, not more of them than a status has room for."""
    if len(names) <= _LISTED_NAMES:
        return ", ".join(names) or "none"
    return f"{', '.join(islice(names, _LISTED_NAMES))} and {len(names) - _LISTED_NAMES:,} more"


def located(error: RecGuruError, place: str) -> RecGuruError:
    """Say the same of a part of a larger request: put `place` before the path in the message.

    What is not the fault of the part has no path, and stays as it is.
    """
    if not isinstance(error, InvalidInputError | NotFoundError):
        return error
    return type(error)(f"{place}.{error}")
