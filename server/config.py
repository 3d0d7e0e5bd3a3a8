"""Every limit and choice of the server, with its reason beside it; read from `[serve]`.

The contract's own limits, which no setting changes, stand here too: callers rely on them.
"""

import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from indexer.milvus_api import MilvusSettings
from indexer.spec import GpuUse
from model.settings import DeviceChoice, Settings, secret_error

MAX_RANKED = 100
"""Items of a request whose exact rank is answered: all that score about as much as one of them are
scored exactly."""

MAX_HISTORIES = 64
"""Histories of a user, one for each domain: far more than a release has, but no work to refuse."""


class LogFormat(StrEnum):
    """What a line of the log looks like."""

    CONSOLE = "console"
    JSON = "json"


class RequestLimits(Settings):
    """How much one call may ask for; a call over a limit is refused with INVALID_ARGUMENT."""

    max_k: Annotated[int, Field(ge=1, le=2048)] = 1000
    """Items in an answer; at most 2,048, the most that FAISS finds on a GPU."""

    max_history_items: Annotated[int, Field(ge=1)] = 1000
    """Items in one history. The model reads far fewer, but all are kept out of the answer."""

    max_candidates: Annotated[int, Field(ge=1)] = 50_000
    """Candidate ids in a call: at width 64 their embeddings are 13 MB, a few ms of the one
    compute thread. Larger sets belong into the release as named candidate sets."""

    max_exclusions: Annotated[int, Field(ge=1)] = 10_000
    """Excluded ids in a call: an index without filters has to find this many items more."""

    max_filters: Annotated[int, Field(ge=1, le=1024)] = 8
    """Filters in a call: each joins and cuts bitmaps of all items."""

    max_filter_values: Annotated[int, Field(ge=1, le=1 << 16)] = 64
    """Values in a filter. A value is a bitmap to be read, 183 kB at 1.46 M items: with as many as
    may be in all filters of a call, a quarter of the bytes of the items' vectors at width 64."""

    max_batch: Annotated[int, Field(ge=1, le=4096)] = 256
    """Users in a BatchRecommend or EncodeUsers call: more gains no speed, and holds more memory
    while it waits."""


class QueueLimits(Settings):
    """How calls share the compute thread; over a limit they are refused with RESOURCE_EXHAUSTED."""

    max_users: Annotated[int, Field(ge=1, le=4096)] = 64
    """Single calls in one forward pass: enough to fill the matrix products, and the last of them
    waits tens of milliseconds at most."""

    max_pending: Annotated[int, Field(ge=1)] = 1024
    """Single calls of one kind that wait: about a second of work; whoever comes later is better
    off asking elsewhere."""

    max_wait_ms: Annotated[float, Field(gt=0, le=60_000)] = 500.0
    """Longest wait of a single call, judged when it comes. Who shows a page waits no longer, and a
    queue that long does not empty by itself: another server may be free."""

    max_pass_users: Annotated[int, Field(ge=1, le=4096)] = 256
    """Users of a batch call in one forward pass. Between two passes single calls have their turn,
    so this bounds how long a batch holds them up. Batches up to this size are computed as one pass
    in the order given, like those of the in-process evaluation."""

    max_pending_passes: Annotated[int, Field(ge=1)] = 16
    """Batch calls of one kind that wait: each may hold as much as `max_message_bytes` several times
    over."""

    max_pass_wait_ms: Annotated[float, Field(gt=0, le=600_000)] = 5000.0
    """The same of a batch call: jobs are patient."""


class TlsSettings(Settings):
    """Encryption of the port; off unless a certificate is named.

    The files are read again when they change: new connections get what is renewed.
    """

    certificate: Path | None = None
    """PEM file of the server's certificate, those of its issuers after it; needs `key`."""

    key: Path | None = None
    """PEM file of the private key that belongs to it, without a password."""

    client_ca: Path | None = None
    """PEM file of authorities: only clients with a certificate of theirs are let in."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key")
        return self


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise secret_error("give the SHA-256 of a token, 64 digits of 0-9 and a-f, not the token")
    if text == hashlib.sha256(b"").hexdigest():
        raise secret_error("this is the SHA-256 of nothing, no token's")
    return text


TokenDigest = Annotated[str, AfterValidator(_digest)]


class TokenSettings(Settings):
    """Who may call: the SHA-256 of bearer tokens; anybody where none is named.

    Digests are enough for the server, and a file of them gives nothing away: tokens are long and
    drawn at random. Several of a scope let one be replaced without an interruption.
    """

    callers: tuple[TokenDigest, ...] = ()
    """Tokens for the calls of the service."""

    admins: tuple[TokenDigest, ...] = ()
    """Tokens for those, for reflection, and for choosing which release answers."""

    @property
    def wanted(self) -> bool:
        """Whether calls need a token."""
        return bool(self.callers or self.admins)


class ServeSettings(Settings):
    """The settings of `recguru serve`."""

    releases: Path | None = None
    """The release root: the folder of `<version>/` folders with the `LATEST` pointer."""

    host: str = "127.0.0.1"
    """Address to listen on: only this machine unless told otherwise."""

    insecure: bool = False
    """Whether to listen beyond this machine without TLS; for a network that encrypts itself."""

    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """TCP port; 0 takes a free one."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """TCP port of `GET /metrics`, on the same address; 0 takes a free one, none answers nowhere."""

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Server processes that share the port: one computes on one core. More than one are watched by
    another process, which starts a new one where one dies."""

    device: DeviceChoice = "auto"
    """Where networks and indexes run; `auto` takes a GPU where there is one."""

    gpus: GpuUse = "first"
    """Which of several GPUs hold the indexes: the first, each all of it and a part of every batch
    (`replicas`), or each a part (`shards`). Of no effect on a CPU or with one GPU."""

    poll_s: Annotated[float, Field(gt=0, le=3600)] = 1.5
    """Seconds between two looks at `LATEST`: some 30 file states a look, cheap even on a network
    file system, where notifications would not arrive."""

    log_format: LogFormat = LogFormat.CONSOLE
    """What a line of the log looks like: `console` for people, `json` for programs."""

    log_calls: bool = False
    """Whether every call is a line in the log: method, status, time, lane and request id, never
    what was asked or answered. At thousands of calls a second it costs more than it tells."""

    traces: bool = False
    """Whether every call is an OpenTelemetry span; needs the extra `otel`, and is told where to
    send them by its environment variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...)."""

    drain_s: Annotated[float, Field(gt=0, le=600)] = 7.0
    """Seconds that calls in flight have to finish after SIGTERM: three less than the ten within
    which the process is to be gone, for the interpreter takes its time to let go of torch."""

    max_message_bytes: Annotated[int, Field(ge=1024, le=256 * 2**20)] = 8 * 2**20
    """Bytes in a request: room for 256 users with 1,000 ids of 30 bytes each; gRPC refuses larger
    ones with RESOURCE_EXHAUSTED before they are read."""

    max_connection_calls: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Calls of one connection under way; more are refused with RESOURCE_EXHAUSTED. Half of what may
    wait in all, so that no single caller fills the queue."""

    max_backlog: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Calls of all connections that wait for the event loop to see them: as many as one connection
    may have under way, so that a burst to an idle server fits in. Some of those beyond, and all
    beyond twice as many, are dropped by gRPC, which comes to the caller at once but as CANCELLED,
    without a hint. In an overload all of it is waited for before anything of ours sees a call."""

    max_connection_age_s: Annotated[float, Field(ge=1)] | None = None
    """Seconds after which a connection is closed once its calls have ended, none keeps it for ever.
    Clients that balance by themselves look for new servers when they connect again."""

    tls: TlsSettings = TlsSettings()
    """Encryption of the port."""

    tokens: TokenSettings = TokenSettings()
    """Who may call."""

    gur_cache_entries: Annotated[int, Field(ge=0)] = 8192
    """GURs a worker keeps of the histories asked for last, so that who asks again is not encoded
    again; 0 keeps none. One takes 4 bytes a number and some 300 more: 7 MB in all at width 128, and
    room for the newcomers of the last minutes at dozens a second."""

    milvus: MilvusSettings = MilvusSettings()
    """Where Milvus runs, for releases whose index is kept there; the command reads it from the
    table `[milvus]`, as all others do."""

    requests: RequestLimits = RequestLimits()
    """How much one call may ask for."""

    queue: QueueLimits = QueueLimits()
    """How calls share the compute thread."""
