"""Spans of calls for OpenTelemetry; needs the extra `otel`.

Where they go, how many are kept and what the service is called is said by the environment that all
of OpenTelemetry reads: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, ...
"""

import os
import threading
from collections.abc import Mapping
from typing import Self

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from server.call import Metadata

_FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
"""Statuses that are the server's failure; of the others the caller is the cause."""


_PATIENCE_S = 2.0
"""How long the end of the process waits for spans to be sent."""


class CallSpan:
    """The span of a call under way."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, status: str, attributes: Mapping[str, str]) -> None:
        """Say how the call ended."""
        self._span.set_attributes({**attributes, "rpc.response.status_code": status})
        if status in _FAULTS:
            self._span.set_status(StatusCode.ERROR, status)
        self._span.end()


class Tracing:
    """Makes spans and sends them on, in the background."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("recguru")

    @classmethod
    def to_collector(cls) -> Self:
        """Send spans by OTLP over gRPC, in batches."""
        os.environ.setdefault("OTEL_SERVICE_NAME", "recguru")
        provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def begin(self, method: str, metadata: Metadata) -> CallSpan:
        """Begin the span of a call, below that of the caller if its metadata name one."""
        service, _, name = method.strip("/").partition("/")
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        span = self._tracer.start_span(
            f"{service}/{name}",
            context=extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": f"{service}/{name}"},
        )
        return CallSpan(span)

    def close(self) -> None:
        """Send what is left, for two seconds at most, and stop."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_PATIENCE_S)
