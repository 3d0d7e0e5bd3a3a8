"""A real server over a real release, in this process, on a free port."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from server.config import ServeSettings
from server.run import Server

R = TypeVar("R", pb.RecommendRequest, pb.SearchItemsRequest)

QueueName = Literal["recommend", "search", "recommend_passes", "encode_passes"]

WAIT_S = 20.0  # far longer than any of this takes; a bug fails instead of hanging
PATIENT = {"max_wait_ms": 60_000, "max_pass_wait_ms": 600_000}


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server and a way to call it."""

    server: Server
    channel: grpc.aio.Channel
    stub: "pb_grpc.RecommenderAsyncStub"

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Keep the compute thread occupied until the block is left."""
        gate, reached = threading.Event(), threading.Event()

        def stall() -> None:
            reached.set()
            gate.wait(WAIT_S)

        self.server._compute._executor.submit(stall)
        assert reached.wait(WAIT_S)
        try:
            yield
        finally:
            gate.set()

    async def queued(self, count: int, *, of: QueueName = "recommend") -> None:
        """Wait until that many calls of a kind wait for the compute thread."""
        queue = getattr(self.server._compute, f"_{of}")
        async with asyncio.timeout(WAIT_S):
            while queue.pending != count:  # noqa: ASYNC110  # no event to wait for
                await asyncio.sleep(0.005)


def settings_of(
    releases: Path, *, queue: Mapping[str, object] | None = None, **settings: object
) -> ServeSettings:
    """Make settings for a free port on this machine's CPU.

    The queue is patient unless a test asks for less: on a busy machine many calls take their time
    to arrive, and those that come late would be refused.
    """
    given = {"releases": releases, "port": 0, "device": "cpu", **settings}
    return ServeSettings.model_validate({**given, "queue": {**PATIENT, **(queue or {})}})


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Serving]:
    """Give a way to call a server whose port is open, over a connection of its own."""
    place, options = f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(place, options) as channel:
        yield Serving(server, channel, pb_grpc.RecommenderStub(channel))


@asynccontextmanager
async def serving(
    releases: Path, *, queue: Mapping[str, object] | None = None, **settings: object
) -> AsyncIterator[Serving]:
    """Run a server with these settings until the block is left; see `settings_of`."""
    server = Server(settings_of(releases, queue=queue, **settings))
    try:
        await asyncio.wait_for(server.start(), WAIT_S)
        async with connected(server) as running:
            yield running
    finally:
        await asyncio.wait_for(server.stop(), WAIT_S)


@asynccontextmanager
async def loading(
    releases: Path, **settings: object
) -> AsyncIterator[tuple[Server, Callable[[], Awaitable[None]]]]:
    """Start a server whose port is open and whose release is not loaded yet.

    Yields:
        The server, and what lets the release load and waits until the server is ready.
    """
    server = Server(settings_of(releases, queue=None, **settings))
    gate = threading.Event()
    server._loader.submit(gate.wait, WAIT_S)
    starting = asyncio.create_task(server.start())

    async def ready() -> None:
        gate.set()
        await asyncio.wait_for(starting, WAIT_S)

    try:
        async with asyncio.timeout(WAIT_S):
            while server.port == 0:  # noqa: ASYNC110  # no event to wait for
                await asyncio.sleep(0.005)
        yield server, ready
    finally:
        gate.set()
        await asyncio.wait_for(server.stop(), WAIT_S)


def recommend(
    domain: str,
    histories: Mapping[str, Sequence[str]],
    *,
    k: int = 10,
    candidates: Sequence[str] | str | None = None,
    exclude: Sequence[str] = (),
    ranked: Sequence[str] = (),
) -> pb.RecommendRequest:
    """Write a request; `candidates` are ids or the name of a set."""
    request = pb.RecommendRequest(
        domain=domain,
        histories=messages(histories),
        k=k,
        exclude_item_ids=exclude,
        rank_item_ids=ranked,
    )
    _restrict(request, candidates)
    return request


def search(
    domain: str,
    vector: bytes,
    *,
    k: int = 3,
    candidates: Sequence[str] | str | None = None,
    exclude: Sequence[str] = (),
) -> pb.SearchItemsRequest:
    """Write a request; `candidates` are ids or the name of a set."""
    request = pb.SearchItemsRequest(domain=domain, vector=vector, k=k, exclude_item_ids=exclude)
    _restrict(request, candidates)
    return request


def filtered(request: R, *filters: pb.Filter) -> R:
    """Let only what passes filters be answered to a request."""
    request.filters.extend(filters)
    return request


def messages(histories: Mapping[str, Sequence[str]]) -> list[pb.History]:
    """Write histories."""
    return [pb.History(domain=name, item_ids=items) for name, items in histories.items()]


def _restrict(
    request: pb.RecommendRequest | pb.SearchItemsRequest, candidates: Sequence[str] | str | None
) -> None:
    if isinstance(candidates, str):
        request.candidate_set = candidates
    elif candidates is not None:
        request.candidate_items.CopyFrom(pb.ItemList(item_ids=candidates))
