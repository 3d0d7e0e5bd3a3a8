"""A bundle with other items than it was trained with: some added, removed or renamed.

Rows follow the ids, so whatever has a row for each item is arranged anew: the item table,
popularity, titles, and the weights by which networks read items. Everything else stays as trained.

An added item is either like some items or has a vector of its own. One that is like others is
scored by the mean of their vectors, and read by the mean of theirs in each table that networks read
from; it is cold: nothing was learned about it. A vector of its own is one to score by. It also
serves the recommender to read by, whose table lies in the same space: what it scores by are these
vectors, or means of them. The encoder's table lies in a space of its own, of which such a vector
says nothing; there the item is read as the mean of the items whose scored vectors are nearest. With
cosine scoring every vector counts by its direction alone: scored ones have length one, and means
are taken of vectors that have.

Shapes: V items before, W after, N added, D width, F tables; row 0 of a table is padding.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Floats, Places, Rows
from model.bundle import Bundle, DomainTables, read_bundle_manifest, write_bundle
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError
from model.files import MANIFEST, canonical_json, writing
from model.weight_names import encoder_table_name, item_table_name

_NEAREST = 8
"""Items whose mean stands for one that the encoder knows nothing of."""

_DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class AddedItem:
    """An item that is added."""

    item_id: str
    title: str
    """Empty where none is known."""
    vector: Floats
    """What it is scored by, (D,); see `scored_vector`."""
    like: Rows
    """Rows, before the change, of the items it is like; none where it has a vector of its own."""


@dataclass(frozen=True, slots=True)
class ItemChanges:
    """What becomes of the items of one domain; no id has two parts in it but in renames."""

    added: tuple[AddedItem, ...] = ()
    removed: tuple[str, ...] = ()
    """Ids that are there."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Ids that are there, and what they are from now on: ids that are not, or are renamed too."""
    popularity: Mapping[str, float] | None = None
    """Interactions by id, as ids are from now on, at least one of them above 0; None keeps the
    shares that items have."""


@dataclass(frozen=True, slots=True)
class DerivedDomain:
    """A domain after a change."""

    tables: DomainTables
    moved: Rows
    """The row that each row before has now, (V + 1,); 0 for padding and what is removed."""
    sources: Places
    """Where each row from 1 on comes from, (W,): row s + 1 before, or added item s - V."""
    cold: tuple[str, ...]
    """Ids of the items of which nothing was learned, ascending."""


def is_cosine(bundle: Bundle) -> bool:
    """Say whether a bundle's items are scored by the direction of their vectors alone."""
    return bundle.network.get("scoring") == "cosine"


def scored_vector(vectors: NDArray[np.floating[Any]], *, cosine: bool) -> Floats:
    """Make the vector by which an item like others, or with a vector of its own, is scored.

    Args:
        vectors: Those of the items it is like as they are scored, or its own, (N, D).
        cosine: Whether directions alone count.

    Raises:
        ValueError: If a direction is needed and the mean has none, or a number is too large.
    """
    vector = vectors.astype(np.float64).mean(axis=0)
    if np.abs(vector).max() > np.finfo(np.float32).max:
        raise ValueError("the vector holds a number beyond the range of float32")
    if cosine:
        length = np.linalg.norm(vector)
        if not length:
            raise ValueError("the vector has no direction, and scores are cosines")
        vector = vector / length
    scored: Floats = vector.astype(np.float32)
    return scored


def derived_domain(
    tables: DomainTables, changes: ItemChanges, cold: Iterable[str]
) -> DerivedDomain:
    """Arrange the tables of a domain anew.

    Args:
        tables: The tables before.
        changes: What becomes of its items; at least one is left.
        cold: The ids of its cold items before.
    """
    ids = [changes.renamed.get(item_id, item_id) for item_id in tables.vocabulary.ids]
    ids += [each.item_id for each in changes.added]
    gone = set((tables.vocabulary.rows(changes.removed) - 1).tolist())
    kept = (place for place in range(len(ids)) if place not in gone)
    sources = np.array(sorted(kept, key=ids.__getitem__), np.int64)
    moved = np.zeros(len(tables.vocabulary) + 1, np.int32)
    old = np.flatnonzero(sources < len(tables.vocabulary))
    moved[sources[old] + 1] = old + 1
    vocabulary = Vocabulary(
        StringTable.of(ids[place] for place in sources.tolist()),
        _titles(tables.vocabulary, changes.added, sources),
    )
    added = _stacked([each.vector for each in changes.added], tables.item_table)
    still = set(cold) - set(changes.removed)
    now = {changes.renamed.get(item_id, item_id) for item_id in still}
    now |= {each.item_id for each in changes.added if len(each.like)}
    arranged = replace(
        tables,
        vocabulary=vocabulary,
        item_table=_arranged(tables.item_table, added, sources),
        popularity=_popularity(tables, changes, vocabulary, sources),
    )
    return DerivedDomain(arranged, moved, sources, tuple(sorted(now)))


def derived_weights(
    bundle: Bundle, derived: Sequence[DerivedDomain], changes: Mapping[str, ItemChanges]
) -> dict[str, NDArray[Any]]:
    """Arrange the weights of a bundle anew: those by which items are read.

    Args:
        bundle: The bundle before.
        derived: Its domains after.
        changes: By domain; none where nothing is changed.

    Raises:
        BadArtifactError: If such a weight has no row for each item.
    """
    weights = bundle.weights()
    for domain in derived:
        name = domain.tables.name
        added = changes[name].added if name in changes else ()
        before = bundle.domain(name)
        for weight in (encoder_table_name(name), item_table_name(name)):
            if weight not in weights:  # a recommender may read items as they are scored
                continue
            table = weights[weight]
            if table.ndim != 2 or len(table) != len(before.item_table):  # noqa: PLR2004  # axes
                raise BadArtifactError(
                    f"{bundle.folder}: weight {weight} has no row for each item of {name}"
                )
            own = weight == item_table_name(name)
            rows = [_read_vector(each, table, before, bundle, own=own) for each in added]
            weights[weight] = _arranged(table, _stacked(rows, table), domain.sources)
    return weights


def write_derived(
    folder: Path,
    bundle: Bundle,
    domains: Sequence[DerivedDomain],
    weights: Mapping[str, NDArray[Any]],
) -> str:
    """Fill an empty folder with a bundle that is derived from another; return its digest.

    Its manifest says from which, and which items are cold.

    Raises:
        BadArtifactError: If a table or weight is not finite.
    """
    before = read_bundle_manifest(bundle.folder)
    digest = write_bundle(
        folder,
        [domain.tables for domain in domains],
        weights,
        network=bundle.network,
        dataset=bundle.dataset,
        training=before.get("training", {}),
    )
    cold = {domain.tables.name: list(domain.cold) for domain in domains}
    manifest = read_bundle_manifest(folder) | {_DERIVED: {"from": bundle.digest, "cold": cold}}
    with writing(folder / MANIFEST):
        (folder / MANIFEST).write_bytes(canonical_json(manifest))
    return digest


def cold_items(bundle: Bundle) -> dict[str, list[str]]:
    """Read which items of a bundle nothing was learned about: ids, ascending, by domain.

    Raises:
        BadArtifactError: If the manifest is damaged.
    """
    derived = read_bundle_manifest(bundle.folder).get(_DERIVED, {"cold": {}})
    try:
        found = {domain.name: derived["cold"].get(domain.name, []) for domain in bundle.domains}
        return {name: sorted(str(item_id) for item_id in ids) for name, ids in found.items()}
    except (TypeError, KeyError, AttributeError):
        raise BadArtifactError(
            f"{bundle.folder / MANIFEST} is damaged: {_DERIVED} does not list cold items"
        ) from None


def _titles(before: Vocabulary, added: Sequence[AddedItem], sources: Places) -> StringTable | None:
    if before.titles is None and not any(each.title for each in added):
        return None
    titles = [""] * len(before) if before.titles is None else list(before.titles)
    titles += [each.title for each in added]
    return StringTable.of(titles[place] for place in sources.tolist())


def _popularity(
    tables: DomainTables, changes: ItemChanges, vocabulary: Vocabulary, sources: Places
) -> Floats:
    """Give each row its share, (W + 1,)."""
    shares = np.zeros(len(vocabulary) + 1, np.float64)
    if changes.popularity is not None:
        shares[vocabulary.rows(changes.popularity)] = list(changes.popularity.values())
    else:
        none = np.zeros(len(changes.added), np.float32)
        shares = _arranged(tables.popularity, none, sources).astype(np.float64)
        if not changes.removed:
            return shares.astype(np.float32)
    if not shares.any():  # whatever was popular is gone
        shares[1:] = 1
    popularity: Floats = (shares / shares.sum()).astype(np.float32)
    return popularity


def _read_vector(
    item: AddedItem, table: Floats, before: DomainTables, bundle: Bundle, *, own: bool
) -> Floats:
    """Make the vector by which an item is read from a table (V + 1, D) -> (D,)."""
    if own and not len(item.like):
        return item.vector
    rows = item.like if len(item.like) else _nearest(before.item_table, item.vector)
    vectors = table[rows].astype(np.float64)
    if is_cosine(bundle):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(lengths > 0, lengths, 1)
    read: Floats = vectors.mean(axis=0).astype(np.float32)
    return read


def _nearest(table: Floats, vector: Floats) -> Rows:
    """Find the rows of a table (V + 1, D) nearest to a vector (D,), fewer where there are fewer."""
    apart = table[1:] - vector.astype(np.float64)  # squares may leave the range of float32
    order = np.argsort(np.vecdot(apart, apart), kind="stable")[:_NEAREST]
    rows: Rows = (order + 1).astype(np.int32)
    return rows


def _stacked(rows: Sequence[Floats], table: Floats) -> Floats:
    """Put the rows of added items below each other -> (N, D), also where there is none."""
    width = table.shape[1]
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def _arranged(table: Floats, added: Floats, sources: Places) -> Floats:
    """Put rows of a table (V + 1, ...) and what is added (N, ...) in their new order."""
    arranged: Floats = np.concatenate([table[:1], np.concatenate([table[1:], added])[sources]])
    return arranged
