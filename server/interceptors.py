"""Between gRPC and the calls: guards them, and ends those without an end when the server drains."""

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc

from server.guard import Behaviour, Context, Guard, Handler, Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Find: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class GuardInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # see Handler
    """Puts the guard around the calls of one message for one message."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
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
        self._guarded[method] = self._guard.around(handler, method)
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
        """Give the handler of a call, ended by `drain` if it answers with a stream."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler
        make, behaviour = (
            (grpc.stream_stream_rpc_method_handler, handler.stream_stream)
            if handler.request_streaming
            else (grpc.unary_stream_rpc_method_handler, handler.unary_stream)
        )
        return make(
            cast("Any", self._until_drained(cast("Behaviour", behaviour))),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _until_drained(self, behaviour: Behaviour) -> Behaviour:
        async def watched(request: Message, context: Context) -> None:
            watch = asyncio.ensure_future(_streamed(behaviour, request, context))
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


async def _streamed(behaviour: Behaviour, request: Message, context: Context) -> None:
    """Run a handler that writes its messages, or one that yields them."""
    answers: object = behaviour(request, context)
    if inspect.isasyncgen(answers):
        async for answer in answers:
            await context.write(answer)
    else:
        await cast("Awaitable[None]", answers)
