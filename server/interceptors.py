"""Around every call: failures become statuses, endless calls end when the server drains."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from model.errors import (
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RecGuruError,
)
from server.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_AFTER_MS = "grpc-retry-pushback-ms"

_CLOCKS_APART_S = 0.02
"""A deadline is counted from where each side began: the caller hangs up a little before it."""

_CODES: dict[type[RecGuruError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
}

# What grpc passes through here is of any message type; only the handlers know which.
Message = Any
Context = grpc.aio.ServicerContext[Message, Message]
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"  # generic in the stubs only
Behaviour = Callable[[Message, Context], Awaitable[Message]]
Find: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class StatusInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # see Handler
    """Turns what a handler raises into a status, and bytes that are no message into a refusal."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(  # type: ignore[override]  # an unknown method has no handler
        self, continuation: Find, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Give the handler of a call, guarded if it answers one message with one message."""
        method = handler_call_details.method
        if method in self._guarded:
            return self._guarded[method]
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        self._guarded[method] = _guarded(handler, method, self._metrics)
        return self._guarded[method]


class DrainInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # see Handler
    """Ends calls that would last for ever, such as a health watch, when the server drains."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """End the endless calls, those that begin later included."""
        self._draining.set()

    async def intercept_service(  # type: ignore[override]  # an unknown method has no handler
        self, continuation: Find, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Give the handler of a call, ended by `drain` if it answers one message with a stream."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or not handler.response_streaming:
            return handler
        return grpc.unary_stream_rpc_method_handler(
            cast("Any", self._until_drained(cast("Behaviour", handler.unary_stream))),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _until_drained(self, behaviour: Behaviour) -> Behaviour:
        async def watched(request: Message, context: Context) -> None:
            watch = asyncio.ensure_future(behaviour(request, context))
            end = asyncio.ensure_future(self._draining.wait())
            try:
                await asyncio.wait({watch, end}, return_when=asyncio.FIRST_COMPLETED)
                if not watch.done():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
                await watch
            finally:
                watch.cancel()
                end.cancel()

        return watched


async def abort_with(context: Context, error: Exception, *, method: str) -> NoReturn:
    """End the call with the status `error` stands for; say nothing of what we did not foresee."""
    code = code_of(error)
    if code is not grpc.StatusCode.INTERNAL:
        await context.abort(code, str(error), _hints(error))
    log.error("unforeseen failure method=%s", method, exc_info=error)
    await context.abort(code, "internal error; see the server log")


def code_of(error: Exception) -> grpc.StatusCode:
    """Give the status that a failure stands for; INTERNAL for what we did not foresee."""
    for kind in type(error).__mro__:
        if code := _CODES.get(kind):
            return code
    return grpc.StatusCode.INTERNAL


def _hints(error: Exception) -> tuple[tuple[str, str], ...]:
    """Say in the trailing metadata when to try again, the way gRPC's own retries understand."""
    if isinstance(error, OverloadedError) and error.retry_s is not None:
        return ((RETRY_AFTER_MS, str(max(1, round(1000 * error.retry_s)))),)
    return ()


class _Undecodable:
    """Stands for a request whose bytes are no message."""


def _guarded(handler: Handler, method: str, metrics: Metrics) -> Handler:
    name = method.rpartition("/")[2]
    behaviour = cast("Behaviour", handler.unary_unary)
    deserialize = cast("Callable[[bytes], Message]", handler.request_deserializer)

    async def answer(request: Message, context: Context) -> Message:
        begun_s = time.perf_counter()
        status = "CANCELLED"  # what is left where the caller hangs up
        try:
            if isinstance(request, _Undecodable):
                raise InvalidInputError(  # noqa: TRY301  # one place makes statuses
                    "the request is no valid message of this call; text must be UTF-8"
                )
            reply = await behaviour(request, context)
            status = "OK"
        except asyncio.CancelledError:
            remaining_s: float | None = context.time_remaining()  # the stubs forget the None
            if remaining_s is not None and remaining_s <= _CLOCKS_APART_S:
                status = "DEADLINE_EXCEEDED"
            raise
        except Exception as error:  # noqa: BLE001  # the last place before the caller
            status = code_of(error).name
            await abort_with(context, error, method=method)
        finally:
            metrics.call_ended(name, status, time.perf_counter() - begun_s)
        return reply

    def decode(packed: bytes) -> Message:
        try:
            return deserialize(packed)
        except DecodeError:
            return _Undecodable()

    return grpc.unary_unary_rpc_method_handler(
        cast("Any", answer),  # the stubs know handlers of the threaded server only
        request_deserializer=decode,
        response_serializer=handler.response_serializer,
    )
