"""From the first health answer to the last call: start, reflection, drain."""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from recguru.v1 import recommender_pb2 as pb

from indexer.publish import LATEST
from model.errors import BadSettingError, NotFoundError
from server.run import Server, serve
from tests.server.running import (
    WAIT_S,
    Serving,
    connected,
    loading,
    recommend,
    serving,
    settings_of,
)

REQUEST = recommend("books", {"books": ["b0001"]})
SERVICES = ("", "recguru.v1.Recommender")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def healths(running: Serving) -> list[int]:
    health = health_pb2_grpc.HealthStub(running.channel)
    answers = [
        await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S)
        for name in SERVICES
    ]
    return [answer.status for answer in answers]


async def test_health_says_not_serving_until_the_release_has_answered_a_probe(
    releases: Path,
) -> None:
    async with loading(releases) as (server, ready), connected(server) as running:
        assert await healths(running) == [NOT_SERVING, NOT_SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        await ready()
        assert await healths(running) == [SERVING, SERVING]
        assert len((await running.stub.Recommend(REQUEST)).items) == 10

    assert early.value.code() == grpc.StatusCode.UNAVAILABLE
    assert early.value.details() == "no release is loaded yet; try again later"


async def test_a_drain_says_so_first_answers_what_is_in_flight_and_refuses_the_rest(
    releases: Path,
) -> None:
    async with serving(releases) as running:
        watch = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        with running.stalled():
            in_flight = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=WAIT_S))
            await running.queued(1)
            stopping = asyncio.create_task(running.server.stop())
            assert (await asyncio.wait_for(watch.read(), WAIT_S)).status == NOT_SERVING
            assert await healths(running) == [NOT_SERVING, NOT_SERVING]
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(watch.read(), WAIT_S)
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await running.stub.Recommend(REQUEST, timeout=WAIT_S)
            assert not stopping.done()
        assert len((await in_flight).items) == 10
        await asyncio.wait_for(stopping, WAIT_S)

    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "the server is shutting down"
    assert late.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_never_ends_is_cut_off_when_the_drain_is_over(releases: Path) -> None:
    async with serving(releases, drain_s=0.3) as running:
        with running.stalled():
            stuck = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=WAIT_S))
            await running.queued(1)
            stopping = asyncio.create_task(running.server.stop())
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                await asyncio.wait_for(stuck, 5)
        await asyncio.wait_for(stopping, WAIT_S)

    assert cut.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_a_signal_while_the_release_loads_ends_the_server(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LATEST)  # reading it waits for a writer: a load that takes its time
    told: list[int] = []
    process = asyncio.create_task(serve(settings_of(tmp_path), ready=told.append))
    async with asyncio.timeout(WAIT_S):
        writer = await asyncio.to_thread(os.open, tmp_path / LATEST, os.O_WRONLY)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert not process.done()
        while not process.done():
            os.close(writer)
            await asyncio.sleep(0.1)
            writer = os.open(tmp_path / LATEST, os.O_RDWR)
        os.close(writer)
        await process

    assert told == []


async def test_one_thread_computes(releases: Path) -> None:
    async with serving(releases):
        assert torch.get_num_threads() == 1


async def test_a_client_that_knows_no_contract_calls_through_reflection(releases: Path) -> None:
    def call(port: int) -> tuple[list[str], Sequence[Message]]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            service = pool.FindServiceByName("recguru.v1.Recommender")
            method = service.FindMethodByName("Recommend")
            request = GetMessageClass(method.input_type)(domain="books", k=3)
            response = channel.unary_unary(
                "/recguru.v1.Recommender/Recommend",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )(request, timeout=WAIT_S)
            return sorted(database.get_services()), response.items

    async with serving(releases) as running:
        services, items = await asyncio.to_thread(call, running.server.port)

    assert services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "recguru.v1.Recommender",
    ]
    assert len(items) == 3


async def test_reflection_answers_under_its_newer_name_too(releases: Path) -> None:
    async with serving(releases) as running:
        call: Any = running.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="recguru.v1.Recommender"
        )
        (answer,) = [response async for response in call(iter([asked]), timeout=WAIT_S)]

    assert pb.DESCRIPTOR.serialized_pb in answer.file_descriptor_response.file_descriptor_proto


async def test_a_drain_waits_for_no_reflection_stream(releases: Path) -> None:
    async with serving(releases) as running:
        stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
        call: Any = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert len((await call.read()).list_services_response.service) == 3
        await asyncio.wait_for(running.server.stop(), WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()

    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "the server is shutting down"


async def test_a_method_nobody_offers_is_unimplemented(releases: Path) -> None:
    async with serving(releases) as running:
        call: Any = running.channel.unary_unary(
            "/recguru.v1.Recommender/Guess", request_serializer=None, response_deserializer=None
        )
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(b"", timeout=WAIT_S)

    assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("reuse", [False, True])
async def test_a_taken_port_is_refused_with_its_reason(releases: Path, reuse: bool) -> None:
    with socket.socket() as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(settings_of(releases, port=port))
        message = (
            rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use; "
            r"choose another --host or --port$"
        )
        with pytest.raises(BadSettingError, match=message):
            await server.start()
        await server.stop()


async def test_an_address_that_is_not_ours_is_refused_with_its_reason(releases: Path) -> None:
    server = Server(settings_of(releases, host="192.0.2.1"))

    with pytest.raises(BadSettingError, match=r"^cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        await server.start()
    await server.stop()


async def test_two_servers_do_not_share_a_port(releases: Path) -> None:
    async with serving(releases) as running:
        second = Server(settings_of(releases, port=running.server.port))
        with pytest.raises(BadSettingError, match="Address already in use"):
            await second.start()
        await second.stop()
        assert (await running.stub.GetRelease(pb.GetReleaseRequest())).dimension == 16


async def test_a_root_without_a_release_fails_at_once(tmp_path: Path) -> None:
    server = Server(settings_of(tmp_path))

    with pytest.raises(NotFoundError, match=str(tmp_path)):
        await asyncio.wait_for(server.start(), WAIT_S)
    await server.stop()
