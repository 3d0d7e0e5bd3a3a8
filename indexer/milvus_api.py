"""Everything this project uses of Milvus, and the one module that imports pymilvus.

pymilvus is an extra and takes the best part of a second to import, so it is imported by whoever
connects. A connection is made anew by pymilvus when it was lost; what is asked meanwhile fails.

Shapes: B queries, N vectors, C columns of a collection; row 0 is padding.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
from pydantic import AfterValidator, Field

from model.arrays import Floats, Rows
from model.errors import BadSettingError, UnavailableIndexError
from model.settings import Settings, secret_error

T = TypeVar("T")

log = logging.getLogger(__name__)

TOKEN = "RECGURU_MILVUS_TOKEN"  # noqa: S105  # the name of a variable
MOST_ROWS = 16_384
"""Rows that Milvus finds for a query, at most."""

_ROW, _VECTOR = "row", "vector"
_MOST_QUERIES = 64
"""Queries asked together: each such part has the time-out for itself, however many there are."""
_BATCH_BYTES = 4 << 20
_PAUSE_S = 0.5
"""After a search failed, others fail at once for so long: none of them waits for its time-out."""
_NOT_LOADED = 101
_HEALING = MappingProxyType(
    {
        "grpc.use_local_subchannel_pool": 1,  # or a new channel waits as long as the old one
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1000,  # gRPC's own is two minutes
    }
)
_SILENT = "the engine that keeps the index does not answer; try again later"
_REASON = 300  # characters of a reason that are told


def _place(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise secret_error(f"give the token by token_file or {TOKEN}, not in the address")
    try:
        parts.port  # noqa: B018  # it is read here, or found to be none
    except ValueError as error:
        raise ValueError(f"the port is none: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ValueError("give http://HOST:PORT, or https:// for a connection with TLS")
    return uri


class MilvusSettings(Settings):
    """Where Milvus runs, and how long it may take; read from `[milvus]` by every command."""

    more_variables = frozenset({"token"})

    uri: Annotated[str, AfterValidator(_place)] | None = None
    """`http://HOST:PORT`, or `https://` for a connection with TLS. None: releases whose index is
    kept in Milvus cannot be read."""

    database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")] = "default"
    """The database of Milvus that holds the collections."""

    token_file: Path | None = None
    """File that holds `USER:PASSWORD` or an API key; spaces and line ends around it do not count.
    In its place the environment variable RECGURU_MILVUS_TOKEN may hold it."""

    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds that a search, or to connect, may take: well below the deadline of a call, which
    waits for it."""

    build_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Seconds that a step of a build may take: to write a part, to index, to load."""

    prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] = "recguru"
    """What the names of collections and aliases begin with: one a release root, where several share
    a database."""


class Milvus:
    """A connection to Milvus. Several threads may use it."""

    def __init__(self, settings: MilvusSettings) -> None:
        """Connect.

        Raises:
            BadSettingError: If it is not said where Milvus runs, the token cannot be read, or the
                extra is missing.
            UnavailableIndexError: If it does not answer.
        """
        if settings.uri is None:
            raise BadSettingError(
                "setting milvus.uri: say where Milvus runs, here or by RECGURU_MILVUS_URI"
            )
        self._settings = settings
        self._resting_until_s = 0.0
        client = _client_class()
        with self._translated("connect"):
            self._client = client(
                uri=settings.uri,
                token=_token(settings),
                db_name=settings.database,
                timeout=settings.timeout_s,
                grpc_options=dict(_HEALING),
            )

    def create(self, collection: str, columns: int, properties: Mapping[str, str]) -> None:
        """Make a collection for vectors of C columns, with properties that stay with it."""
        from pymilvus import DataType  # noqa: PLC0415  # an extra, there by now

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_ROW, DataType.INT64, is_primary=True)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=columns)
        with self._translated(f"make the collection {collection}"):
            self._client.create_collection(
                collection,
                schema=schema,
                properties=dict(properties),
                consistency_level="Eventually",  # it never changes once it is searched
                timeout=self._settings.build_timeout_s,
            )

    def fill(self, collection: str, vectors: Floats) -> None:
        """Write vectors (N, C) as the rows 1..N, so that they outlast Milvus's processes."""
        build_s = self._settings.build_timeout_s
        batch = max(1, _BATCH_BYTES // (vectors.shape[1] * vectors.itemsize))
        with self._translated(f"write to the collection {collection}"):
            for first in range(0, len(vectors), batch):
                part = vectors[first : first + batch]
                rows = [
                    {_ROW: row, _VECTOR: vector} for row, vector in enumerate(part, start=first + 1)
                ]
                self._client.insert(collection, rows, timeout=build_s)
            self._client.flush(collection, timeout=build_s)

    def index(
        self, collection: str, structure: Literal["HNSW", "FLAT"], parameters: Mapping[str, int]
    ) -> None:
        """Index what was written, by inner product, and load it to be searched."""
        build_s = self._settings.build_timeout_s
        wanted = self._client.prepare_index_params()
        wanted.add_index(_VECTOR, index_type=structure, metric_type="IP", params=dict(parameters))
        with self._translated(f"index the collection {collection}"):
            self._client.create_index(collection, wanted, timeout=build_s)
            self._client.load_collection(collection, timeout=build_s)

    def properties(self, collection: str) -> dict[str, str] | None:
        """Return the properties of a collection; None where there is no such collection."""
        timeout_s = self._settings.timeout_s
        with self._translated(f"describe the collection {collection}"):
            if not self._client.has_collection(collection, timeout=timeout_s):
                return None
            described = self._client.describe_collection(collection, timeout=timeout_s)
        properties: dict[str, str] = described["properties"]
        return properties

    def count(self, collection: str) -> int:
        """Count the rows of a collection."""
        with self._translated(f"count the rows of the collection {collection}"):
            (answer,) = self._loaded(
                collection,
                lambda: self._client.query(
                    collection,
                    filter="",
                    output_fields=["count(*)"],
                    consistency_level="Strong",
                    timeout=self._settings.timeout_s,
                ),
            )
        return int(answer["count(*)"])

    def search(
        self, collection: str, vectors: Floats, count: int, parameters: Mapping[str, int]
    ) -> Rows:
        """Find `count` rows for each query (B, C) -> (B, count), 0 where fewer were found.

        Raises:
            UnavailableIndexError: If Milvus does not answer in time, or did not a moment ago; the
                text says nothing of why, which is in the log.
        """
        if time.monotonic() < self._resting_until_s:
            raise UnavailableIndexError(_SILENT)
        rows: Rows = np.zeros((len(vectors), count), np.int32)
        try:
            with self._translated("search"):
                for first in range(0, len(vectors), _MOST_QUERIES):
                    part = vectors[first : first + _MOST_QUERIES]
                    found = self._search(collection, part, count, parameters)
                    for place, each in enumerate(found, start=first):
                        rows[place, : len(each)] = each
        except UnavailableIndexError as error:
            self._resting_until_s = time.monotonic() + _PAUSE_S
            log.warning("search failed collection=%s reason: %s", collection, error)
            raise UnavailableIndexError(_SILENT) from None
        return rows

    def point(self, alias: str, collection: str) -> None:
        """Let an alias stand for a collection, new or not."""
        timeout_s = self._settings.timeout_s
        with self._translated(f"point the alias {alias} at {collection}"):
            try:
                self._client.alter_alias(collection, alias, timeout=timeout_s)
            except _failure():  # each version says in another way that there is no such alias
                self._client.create_alias(collection, alias, timeout=timeout_s)

    def drop(self, collection: str) -> None:
        """Remove a collection, and the aliases that stand for it; nothing where there is none."""
        timeout_s = self._settings.timeout_s
        with self._translated(f"drop the collection {collection}"):
            if not self._client.has_collection(collection, timeout=timeout_s):
                return
            listed = self._client.list_aliases(collection, timeout=timeout_s)
            for alias in listed["aliases"]:
                self._client.drop_alias(alias, timeout=timeout_s)
            self._client.drop_collection(collection, timeout=self._settings.build_timeout_s)

    def _search(
        self, collection: str, vectors: Floats, count: int, parameters: Mapping[str, int]
    ) -> list[list[int]]:
        found = self._loaded(
            collection,
            lambda: self._client.search(
                collection,
                data=list(vectors),
                anns_field=_VECTOR,
                limit=count,
                output_fields=[_ROW],
                search_params={"metric_type": "IP", "params": dict(parameters)},
                timeout=self._settings.timeout_s,
            ),
        )
        return [each.ids for each in found]

    def _loaded(self, collection: str, ask: Callable[[], T]) -> T:
        """Ask of a collection; load it first where Milvus came back without having it loaded."""
        try:
            return ask()
        except _failure() as error:
            if error.code != _NOT_LOADED:
                raise
        self._client.load_collection(collection, timeout=self._settings.timeout_s)
        return ask()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn the failures of Milvus, and of the way there, into ours.

        Raises:
            UnavailableIndexError: If it cannot do what is asked; the text names it and says why.
        """
        try:
            yield
        except Exception as error:
            # Those of the way there are gRPC's own, which this package does not import.
            if not isinstance(error, _failure()) and not callable(getattr(error, "code", None)):
                raise
            reason = getattr(error, "message", "") or getattr(error, "details", str)()
            line = " ".join(str(reason).split())[:_REASON]
            raise UnavailableIndexError(
                f"Milvus at {self._settings.uri} cannot {what}: {line}"
            ) from None


def _client_class() -> Any:  # noqa: ANN401  # pymilvus is not typed
    try:
        from pymilvus import MilvusClient  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise BadSettingError(
            f"an index kept in Milvus: {error}; pip install 'recguru-service[milvus]'"
        ) from None
    for name in ("pymilvus", "pymilvus.milvus_client"):  # they print what is raised anyway
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MilvusClient


def _failure() -> Any:  # noqa: ANN401  # pymilvus is not typed
    from pymilvus import MilvusException  # noqa: PLC0415  # an extra, there by now

    return MilvusException


def _token(settings: MilvusSettings) -> str:
    """Read the token; empty where none is given.

    Raises:
        BadSettingError: If it cannot be read, or there are two.
    """
    token = os.environ.get(TOKEN, "")
    if settings.token_file is None:
        return token
    if token:
        raise BadSettingError(f"setting milvus.token_file: {TOKEN} is set, too; give one")
    try:
        return settings.token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise BadSettingError(
            f"Milvus's token file {settings.token_file}: {error.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise BadSettingError(f"Milvus's token file {settings.token_file} is not ASCII") from None
