"""Around every call of one message for one message: failures become statuses, and all is told.

What is told: the status and time of every call to the metrics, a request id to the caller, a line
to the log and a span to the traces where they are wanted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from model.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RecGuruError,
    UnauthenticatedError,
    UnavailableIndexError,
)
from server import call as calls
from server.call import REQUEST_ID, Call
from server.metrics import Metrics

if TYPE_CHECKING:
    from server.traces import Tracing

log = logging.getLogger(__name__)

RETRY_AFTER_MS = "grpc-retry-pushback-ms"

_CLOCKS_APART_S = 0.02
"""A deadline is counted from where each side began: the caller hangs up a little before it."""

_CODES: dict[type[RecGuruError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    UnavailableIndexError: grpc.StatusCode.UNAVAILABLE,
}

# What grpc passes through here is of any message type; only the handlers know which.
Message = Any
Context = grpc.aio.ServicerContext[Message, Message]
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"  # generic in the stubs only
Behaviour = Callable[[Message, Context], Awaitable[Message]]
Hints = tuple[tuple[str, str], ...]


class Connections:
    """How many calls of each connection are under way, in one event loop."""

    def __init__(self, *, max_calls: int) -> None:
        """Let each connection have so many calls at once."""
        self._max_calls = max_calls
        self._calls: dict[str, int] = {}

    @contextmanager
    def call(self, context: Context) -> Iterator[None]:
        """Count a call while the block lasts.

        Raises:
            OverloadedError: If its connection has as many under way as it may.
        """
        peer = context.peer()  # with the port, which tells the connections of a host apart
        under_way = self._calls.get(peer, 0)
        if under_way >= self._max_calls:
            raise OverloadedError(
                f"{under_way} calls of this connection are under way, as many as it may have; wait "
                "for one to end"
            )
        self._calls[peer] = under_way + 1
        try:
            yield
        finally:
            self._calls[peer] -= 1
            if not self._calls[peer]:
                del self._calls[peer]


class Guard:
    """What stands around the calls of one server."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_connection_calls: int,
        log_calls: bool = False,
        tracing: "Tracing | None" = None,
    ) -> None:
        """Guard calls of one event loop.

        Args:
            metrics: Told of every call.
            max_connection_calls: Calls of one connection at once; more are refused.
            log_calls: Whether every call is a line in the log.
            tracing: Makes every call a span.
        """
        self._metrics = metrics
        self._connections = Connections(max_calls=max_connection_calls)
        self._log_calls = log_calls
        self._tracing = tracing

    def around(self, handler: Handler, method: str) -> Handler:
        """Give a handler whose calls end in statuses and are told of."""
        behaviour = cast("Behaviour", handler.unary_unary)
        deserialize = cast("Callable[[bytes], Message] | None", handler.request_deserializer)

        async def answer(request: Message, context: Context) -> Message:
            with calls.begun(context) as call, self._recorded(method, call, context) as ended:
                context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
                try:
                    if isinstance(request, _Undecodable):
                        raise InvalidInputError(  # noqa: TRY301  # one place makes statuses
                            "the request is no valid message of this call; text must be UTF-8"
                        )
                    with self._connections.call(context):
                        reply = await behaviour(request, context)
                except Exception as error:  # noqa: BLE001  # the last place before the caller
                    code = code_of(error)
                    ended(code.name)
                    await _abort(context, error, code, call, method)
                ended("OK")
                return reply

        def decode(packed: bytes) -> Message:
            try:
                return packed if deserialize is None else deserialize(packed)
            except DecodeError:
                return _Undecodable()

        return grpc.unary_unary_rpc_method_handler(
            cast("Any", answer),  # the stubs know handlers of the threaded server only
            request_deserializer=decode,
            response_serializer=handler.response_serializer,
        )

    @contextmanager
    def _recorded(
        self, method: str, call: Call, context: Context
    ) -> Iterator[Callable[[str], None]]:
        """Tell of a call when the block ends, however it does; give what takes its status."""
        begun_s = time.perf_counter()
        span = None if self._tracing is None else self._tracing.begin(method, call.metadata)
        status = "CANCELLED"  # what is left where the caller hangs up

        def ended(name: str) -> None:
            nonlocal status
            status = name

        try:
            yield ended
        except asyncio.CancelledError:
            remaining_s: float | None = context.time_remaining()  # the stubs forget the None
            if remaining_s is not None and remaining_s <= _CLOCKS_APART_S:
                status = "DEADLINE_EXCEEDED"
            raise
        finally:
            seconds = time.perf_counter() - begun_s
            name, lane = method.rpartition("/")[2], call.lane.value
            self._metrics.call_ended(name, status, lane, seconds)
            if span is not None:
                span.end(status, {"recguru.request_id": call.request_id, "recguru.lane": lane})
            if self._log_calls:
                log.info("%s %s in %.1f ms, lane=%s", name, status, 1000 * seconds, lane)


async def _abort(
    context: Context, error: Exception, code: grpc.StatusCode, call: Call, method: str
) -> NoReturn:
    """End the call with a status; say nothing of what we did not foresee."""
    trailing = ((REQUEST_ID, call.request_id), *_hints(error))
    if code is not grpc.StatusCode.INTERNAL:
        await context.abort(code, str(error), trailing)
    log.error("unforeseen failure method=%s", method, exc_info=error)
    await context.abort(code, "internal error; see the server log", trailing)


def code_of(error: Exception) -> grpc.StatusCode:
    """Give the status that a failure stands for; INTERNAL for what we did not foresee."""
    for kind in type(error).__mro__:
        if code := _CODES.get(kind):
            return code
    return grpc.StatusCode.INTERNAL


def _hints(error: Exception) -> Hints:
    """Say in the trailing metadata when to try again, the way gRPC's own retries understand."""
    if isinstance(error, OverloadedError) and error.retry_s is not None:
        return ((RETRY_AFTER_MS, str(max(1, round(1000 * error.retry_s)))),)
    return ()


class _Undecodable:
    """Stands for a request whose bytes are no message."""
