"""Collections of Milvus over the life of releases: made by builds, named by an alias, dropped.

A release owns its collections, and nobody else searches them. Their names stand in its specs before
they are made, so whatever ends a build leaves a note of them; see `specs_in`.

Shapes: V items, C columns.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from indexer.builders import levelled
from indexer.choice import harden
from indexer.ladder import efforts
from indexer.milvus_api import Milvus, MilvusSettings
from indexer.milvus_engine import MilvusEngine, check_collection, identity
from indexer.publish import latest, locked, versions, workspace
from indexer.recall import exact_top
from indexer.release import INDEX
from indexer.sample import Sample
from indexer.search import DomainIndex
from indexer.spec import IndexSettings, MilvusSpec, read_spec, write_spec
from indexer.store import Store
from model.bundle import DomainTables
from model.errors import BadArtifactError, NotFoundError, RecGuruError

log = logging.getLogger(__name__)

_LONGEST = 100  # characters of a domain in a name
_TOKEN_BYTES = 4


class NewCollections:
    """Makes the collections of one release, and knows them."""

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = settings
        self._milvus: Milvus | None = None
        self._made: list[str] = []

    def add(
        self,
        folder: Path,
        tables: DomainTables,
        bundle: str,
        sample: Sample,
        settings: IndexSettings,
    ) -> MilvusSpec:
        """Fill a collection with a domain, and search it harder until it finds enough.

        Args:
            folder: The release folder, which gets the spec.
            tables: The tables of the domain.
            bundle: Digest of the bundle.
            sample: Queries of the domain.
            settings: Parameters of the kind, and what it must find.

        Raises:
            BadSettingError: If it is not said where Milvus runs.
            UnavailableIndexError: If Milvus does not do what it is asked.
            BadArtifactError: If the collection is not what was written to it.
        """
        options = settings.milvus
        first = MilvusSpec(
            collection="_",
            alias="_",
            items=len(tables.vocabulary),
            structure=options.structure,
            links=options.links,
            build_effort=options.build_effort,
            effort=efforts(options.effort)[0],
            rerank=options.rerank,
        )
        filled = self.add_to_spec(folder, tables, bundle, first)
        if options.structure == "hnsw":
            specs = [filled.model_copy(update={"effort": each}) for each in efforts(options.effort)]
            truth = exact_top(tables.item_table, sample.tuning, settings.k)
            hardened = harden(
                specs,
                lambda spec: self._index(spec, tables),
                sample.tuning,
                truth,
                wanted=settings.recall,
            )
            filled = hardened.spec
            write_spec(filled, _place(folder, tables.name))
        return filled

    def add_to_spec(
        self, folder: Path, tables: DomainTables, bundle: str, spec: MilvusSpec
    ) -> MilvusSpec:
        """Fill a collection of its own with a domain, in all but its names as a spec says.

        For the arguments and what is raised see `add`.
        """
        domain = _safe(tables.name)
        prefix, token = self._settings.prefix, secrets.token_hex(_TOKEN_BYTES)
        named = spec.model_copy(
            update={
                "collection": f"{prefix}_{domain}_{bundle[:12]}_{token}",
                "alias": f"{prefix}_{domain}",
                "items": len(tables.vocabulary),
            }
        )
        milvus = self._connected()
        write_spec(named, _place(folder, tables.name))
        self._made.append(named.collection)
        vectors = levelled(tables.item_table[1:])
        whose = identity(bundle, tables.name, named.items)
        milvus.create(named.collection, vectors.shape[1], whose)
        milvus.fill(named.collection, vectors)
        if named.structure == "hnsw":
            linked = {"M": named.links, "efConstruction": named.build_effort}
            milvus.index(named.collection, "HNSW", linked)
        else:
            milvus.index(named.collection, "FLAT", {})
        check_collection(milvus, named, whose, "the build")
        return named

    def drop(self, root: Path) -> None:
        """Drop what was made, but for what a version in the root names."""
        owned = {spec.collection for version in versions(root) for spec in specs_in(root / version)}
        left = [name for name in self._made if name not in owned]
        if left:
            _drop(left, self._settings)

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._made)

    def _connected(self) -> Milvus:
        if self._milvus is None:
            self._milvus = Milvus(self._settings)
        return self._milvus

    def _index(self, spec: MilvusSpec, tables: DomainTables) -> DomainIndex:
        engine = MilvusEngine(self._connected(), spec, tables.item_table, threads=1)
        return DomainIndex(tables, spec.kind, engine, {})


@contextmanager
def building(store: Store) -> Iterator[tuple[Path, NewCollections]]:
    """Give a folder to build in, see `workspace`, and what makes collections for the release.

    What dead builds left in Milvus is dropped first. Where the block fails, so is what was made and
    no release came to own; else the aliases follow `LATEST`.

    Args:
        store: Where the release is to be published; Milvus is connected to when there is something
            to do.

    Raises:
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    made = NewCollections(store.milvus)
    with workspace(store.root, forget=partial(forget, settings=store.milvus)) as work:
        try:
            yield work, made
        except BaseException:
            made.drop(store.root)
            raise
    if made:
        follow_latest(store.root, store.milvus)


def specs_in(folder: Path) -> list[MilvusSpec]:
    """List the specs of a release, or of what was to become one, that name a collection."""
    found = []
    try:
        paths = sorted(folder.rglob(f"{INDEX}/*.json"))
    except FileNotFoundError:  # another host removes it, too
        return []
    for path in paths:
        try:
            spec = read_spec(path)
        except BadArtifactError:  # half written, or damaged
            continue
        if isinstance(spec, MilvusSpec):
            found.append(spec)
    return found


def forget(folder: Path, settings: MilvusSettings) -> None:
    """Drop the collections of a folder that is about to be removed; a warning names what stays."""
    if specs := specs_in(folder):
        _drop([spec.collection for spec in specs], settings)


def follow_latest(root: Path, settings: MilvusSettings) -> None:
    """Let the aliases stand for the collections of the version that `LATEST` names.

    They are for people and other programs: a failure is a warning, servers never look.

    Raises:
        OverloadedError: If other builds hold the root's lock for a minute.
    """
    with locked(root):
        try:
            if specs := specs_in(latest(root)):
                milvus = Milvus(settings)
                for spec in specs:
                    milvus.point(spec.alias, spec.collection)
        except NotFoundError:  # nothing was ever activated
            return
        except RecGuruError as error:
            log.warning("aliases in Milvus stay as they were: %s", error)


def check_collections(folder: Path, bundle: str, settings: MilvusSettings) -> None:
    """Check that a release's collections are there, and of its bundle.

    Raises:
        BadArtifactError, BadSettingError, UnavailableIndexError: See `open_collection`.
    """
    for path in sorted((folder / INDEX).glob("*.json")):
        spec = read_spec(path)
        if isinstance(spec, MilvusSpec):
            whose = identity(bundle, path.stem, spec.items)
            check_collection(Milvus(settings), spec, whose, str(path))


def _drop(collections: list[str], settings: MilvusSettings) -> None:
    try:
        milvus = Milvus(settings)
        while collections:
            milvus.drop(collections[0])
            del collections[0]
    except RecGuruError as error:
        log.warning("left in Milvus, drop it there: %s (%s)", ", ".join(collections), error)


def _place(folder: Path, domain: str) -> Path:
    (folder / INDEX).mkdir(exist_ok=True)
    return folder / INDEX / f"{domain}.json"


def _safe(domain: str) -> str:
    """Spell a domain in letters that Milvus takes; two domains never alike."""
    safe = re.sub("[^A-Za-z0-9_]", "_", domain)[:_LONGEST]
    if safe == domain:
        return safe
    return f"{safe}_{hashlib.blake2b(domain.encode(), digest_size=4).hexdigest()}"
