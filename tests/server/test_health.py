"""`grpc.health.v1`: what it says, and that no caller of it holds the server up."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server.running import WAIT_S, connected, loading, serving

SERVICES = ("", "recguru.v1.Recommender")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_WINDOW_SIZE = 4  # of the settings of a connection, what a stream may be sent before it is read


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """Write a frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def headers(given: Mapping[str, str]) -> bytes:
    """Write headers one after the other in full (RFC 7541, section 6.2.2)."""
    texts = [text.encode() for pair in given.items() for text in pair]
    spelled = [bytes([len(text)]) + text for text in texts]
    pairs = zip(spelled[::2], spelled[1::2], strict=True)
    return b"".join(b"\0" + name + value for name, value in pairs)


def watch_request(service: str) -> bytes:
    """Write a health watch of a client that takes no byte of what it is answered."""
    asked = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    call = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Watch",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        [
            _PREFACE,
            frame(_SETTINGS, 0, 0, struct.pack(">HI", _WINDOW_SIZE, 0)),
            frame(_HEADERS, _END_HEADERS, 1, headers(call)),
            frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(asked)) + asked),
        ]
    )


@asynccontextmanager
async def unread_watches(port: int) -> AsyncIterator[None]:
    """Watch both services over connections that are not read, until the block is left."""
    writers = []
    for service in SERVICES:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(watch_request(service))
        await writer.drain()
        writers.append(writer)
        async with asyncio.timeout(WAIT_S):
            while frame(_HEADERS, _END_HEADERS, 1, b"")[3:] not in await reader.read(4096):
                pass  # the answer's headers need no room in the window
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def test_watchers_that_do_not_read_keep_the_server_from_nothing(releases: Path) -> None:
    async with (
        loading(releases, drain_s=0.5) as (server, ready),  # an unread stream lasts all of it
        unread_watches(server.port),
        connected(server) as running,
    ):
        health = health_pb2_grpc.HealthStub(running.channel)
        await ready()
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(server.stop())
        assert (await asyncio.wait_for(watch.read(), WAIT_S)).status == NOT_SERVING
        await asyncio.wait_for(stopping, WAIT_S)


async def test_a_watcher_hears_of_every_change_that_lasts(releases: Path) -> None:
    async with serving(releases) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        known, unknown = (
            health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "nope")
        )
        said = [(await known.read()).status, (await unknown.read()).status]
        for change in (running.server._health.drain, running.server._health.ready):
            change()
            said.append((await asyncio.wait_for(known.read(), WAIT_S)).status)

    assert said == [SERVING, SERVICE_UNKNOWN, NOT_SERVING, SERVING]


async def test_a_check_of_a_service_nobody_knows_is_not_found(
    releases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(releases) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await health.Check(health_pb2.HealthCheckRequest(service="nope"))
        counted = {
            sample.labels["status"]: sample.value
            for metric in running.server.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "recguru_calls_total" and sample.labels["method"] == "Check"
        }

    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND
    assert refusal.value.details() == "service 'nope' is unknown"
    assert counted == {"NOT_FOUND": 1}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
