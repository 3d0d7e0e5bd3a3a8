"""What is asked and what is answered, free of any transport.

Ids are those of the outside world. Shapes: B users, D width.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from model.arrays import Floats

Histories = Mapping[str, Sequence[str]]
"""Item ids by domain, oldest first; ids the server does not know are skipped and counted."""


class Basis(enum.Enum):
    """What an answer rests on."""

    PERSONALIZED = 1
    """The history in the target domain, and in the other where there is one."""
    CROSS_DOMAIN = 2
    """The history in another domain; none of the target domain's items was known."""
    POPULARITY = 3
    """Nothing that is known of the user; scores are shares of the training interactions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Items that have, or lack, some values of an attribute; `DomainInfo` names the attributes."""

    attribute: str
    values: Sequence[str]
    """At least one; an item needs one of them."""
    negate: bool = False
    """Whether an item must have none of them instead; items without the attribute then pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Rank the items of a domain for a user. The server bounds every list; see the contract."""

    domain: str
    """Name of the domain whose items are ranked."""
    histories: Histories = field(default_factory=dict)
    """What the user did; without any the answer rests on popularity."""
    k: int = 10
    """Items wanted, from 1."""
    candidate_items: Sequence[str] | None = None
    """Only these; not together with `candidate_set`."""
    candidate_set: str | None = None
    """Only those of the set of this name in the release."""
    exclude_item_ids: Sequence[str] = ()
    """None of these."""
    filters: Sequence[Filter] = ()
    """Only what passes all of these."""
    exclude_history: bool = True
    """Whether the items of the history in the target domain are kept out of the answer."""
    rank_item_ids: Sequence[str] = ()
    """Items whose exact score and rank are wanted too, in the list or not; at most 100."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorQuestion:
    """Find the items of a domain whose embeddings have the highest inner product with a vector."""

    domain: str
    vector: Floats
    """(D,), finite; D is the release's dimension."""
    k: int = 10
    """Items wanted, from 1."""
    candidate_items: Sequence[str] | None = None
    """Only these; not together with `candidate_set`."""
    candidate_set: str | None = None
    """Only those of the set of this name in the release."""
    exclude_item_ids: Sequence[str] = ()
    """None of these."""
    filters: Sequence[Filter] = ()
    """Only what passes all of these."""


@dataclass(frozen=True, slots=True)
class Version:
    """Which pair of model and index answered."""

    release: str
    """Name of the release."""
    model: str
    """SHA-256 of the bundle."""
    index: str
    """SHA-256 of the release."""


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One item of an answer."""

    item_id: str
    score: float
    """Inner product of preference vector and item embedding; see also `Basis.POPULARITY`."""


@dataclass(frozen=True, slots=True)
class ItemRank:
    """Where an item stands among those allowed."""

    item_id: str
    score: float
    """0 where `rank` is 0."""
    rank: int
    """1 + the number of others that score at least as high; 0 where the item is unknown,
    excluded, no candidate, or held back by a filter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """The answer to a `Question`."""

    items: tuple[ScoredItem, ...]
    """Score descending, then item id ascending."""
    basis: Basis
    version: Version
    unknown_history_items: int
    """Items of the histories, over all domains, that the model does not know."""
    unknown_candidates: int
    """Items of `candidate_items` that the index does not know."""
    ranks: tuple[ItemRank, ...]
    """One for each of `rank_item_ids`, in its order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encodings:
    """The vectors of B users for one target domain."""

    gurs: Floats
    """Generalized user representations, (B, D); zeros where the basis is popularity."""
    preferences: Floats
    """Preference vectors, (B, D): the inner product with an item's embedding is its score."""
    bases: tuple[Basis, ...]
    """What each user's vectors rest on, (B,)."""
    unknown_history_items: int
    version: Version


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundItems:
    """The answer to a `VectorQuestion`."""

    items: tuple[ScoredItem, ...]
    """Score descending, then item id ascending."""
    version: Version
    unknown_candidates: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainInfo:
    """One domain of the loaded release."""

    name: str
    items: int
    index_kind: str
    candidate_sets: tuple[str, ...]
    """Names, ascending."""
    attributes: Mapping[str, int]
    """What filters go by: how many values each has, by name, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseInfo:
    """What a server has loaded."""

    version: Version
    dataset: str
    """SHA-256 of the dataset the model was trained on."""
    dimension: int
    """Width D of every vector."""
    max_history: int
    """Items of a history that the model reads, counted from the end."""
    domains: tuple[DomainInfo, ...]
