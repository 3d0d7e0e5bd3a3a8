"""Spans of calls, as a collector gets them."""

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb_traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from model.errors import BadSettingError
from server.run import Server
from tests.commands import Command
from tests.server.processes import EXIT_S
from tests.server.running import WAIT_S, recommend, serving, settings_of

REQUEST = recommend("films", {"films": ["f0001"]})
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def Export(  # noqa: N802  # the contract's name
        self, request: pb_traces.ExportTraceServiceRequest, context: object
    ) -> pb_traces.ExportTraceServiceResponse:
        """Take spans."""
        for resource in request.resource_spans:
            self.services |= set(attributes(resource.resource).values())
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return pb_traces.ExportTraceServiceResponse()


def attributes(owner: Span | Resource) -> dict[str, str]:
    return {each.key: each.value.string_value for each in owner.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Run a collector that the environment names."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "recommender-of-a-test")
    yield collector
    server.stop(None).wait(WAIT_S)


async def test_every_call_is_a_span_those_that_fail_or_are_given_up_too(
    releases: Path, collector: Collector
) -> None:
    parent = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    async with serving(releases, traces=True) as running:
        await running.stub.Recommend(REQUEST, metadata=[parent, ("x-request-id", "mine")])
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.Recommend(recommend("films", {}, k=0))
        with running.stalled():
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.Recommend(REQUEST, timeout=0.2)
            await running.queued(0)
            waiting = running.stub.Recommend(REQUEST)
            await running.queued(1)
            waiting.cancel()
            await running.queued(0)
    spans = {attributes(span)["rpc.response.status_code"]: span for span in collector.spans}
    assert set(spans) == {"OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "CANCELLED"}
    assert len(collector.spans) == 4
    good = spans["OK"]
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (TRACE, PARENT)
    assert good.name == "recguru.v1.Recommender/Recommend"
    assert good.kind == Span.SPAN_KIND_SERVER
    assert attributes(good)["recguru.request_id"] == "mine"
    assert attributes(good)["recguru.lane"] == "stable"
    faults = {name for name, span in spans.items() if span.status.code == Status.STATUS_CODE_ERROR}
    assert faults == {"DEADLINE_EXCEEDED"}
    took_s = (
        spans["DEADLINE_EXCEEDED"].end_time_unix_nano
        - spans["DEADLINE_EXCEEDED"].start_time_unix_nano
    ) / 1e9
    assert 0.1 < took_s < WAIT_S
    assert "recommender-of-a-test" in collector.services


async def test_without_the_setting_nothing_is_sent(releases: Path, collector: Collector) -> None:
    async with serving(releases) as running:
        await running.stub.Recommend(REQUEST)
    await asyncio.sleep(0.1)
    assert not collector.spans


@pytest.fixture
def exporters_end() -> Iterator[None]:
    """Wait for exporters that a test has left: they try again, after pauses that they draw.

    They draw from the generator of the whole process, and not while hypothesis looks at that.
    """
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("OtelBatch"):
            thread.join(WAIT_S)
            assert not thread.is_alive(), f"{thread.name} goes on"


@pytest.mark.usefixtures("exporters_end")
async def test_a_collector_that_does_not_answer_does_not_keep_the_process(
    releases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = f"http://127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", place)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")  # seconds, a batch
        async with serving(releases, traces=True) as running:
            tracing = running.server._tracing
            assert tracing is not None
            for _ in range(2500):  # more than are kept to be sent, and five times what goes at once
                tracing.begin("/service/Method", ()).end("OK", {})
            async with asyncio.timeout(EXIT_S / 2):
                await running.server.stop()


def test_without_the_extra_the_setting_says_what_to_install(
    releases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "server.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(BadSettingError) as refused:
        Server(settings_of(releases, traces=True))

    assert str(refused.value).startswith("setting serve.traces: ")
    assert str(refused.value).endswith("; pip install 'recguru-service[otel]'")


def test_check_wants_the_extra_and_sends_no_span(
    releases: Path, collector: Collector, recguru: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECGURU_SERVE_TRACES", "true")
    checked = ["serve", "--releases", releases, "--device", "cpu", "--check"]

    done = recguru(*checked)

    assert done.code == 0, done.errors
    assert "LATEST: " in done.output
    assert not collector.spans
    monkeypatch.delitem(sys.modules, "server.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    done = recguru(*checked)
    assert done.code == 1
    assert done.errors.startswith("error: setting serve.traces: ")
    assert done.errors.count("\n") == 1
