"""What `grpc.health.v1` says, for the server as a whole and for its one service."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model.errors import NotFoundError
from server.messages import shown
from server.service import NAME, Context

_SERVICES = ("", NAME)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the stubs know no base
    """NOT_SERVING until `ready`, and again from `drain` on.

    The library's own servicer writes to watchers under the lock that a change of status needs: one
    watcher that does not read would keep the server from starting and from stopping.
    """

    def __init__(self) -> None:
        self._status: int = health_pb2.HealthCheckResponse.NOT_SERVING
        self._changed = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer health calls on this server."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def ready(self) -> None:
        """Say SERVING."""
        self._say(health_pb2.HealthCheckResponse.SERVING)

    def drain(self) -> None:
        """Say NOT_SERVING."""
        self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def Check(  # noqa: N802  # the contract's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Say how a service is.

        Raises:
            NotFoundError: If there is no such service.
        """
        if request.service not in _SERVICES:
            raise NotFoundError(f"service {shown(request.service)} is unknown")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(  # noqa: N802  # the contract's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """Say how a service is, and again whenever that changes, until the caller leaves."""
        told: int | None = None
        while True:
            changed, status = self._changed, self._status
            if request.service not in _SERVICES:
                status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await changed.wait()

    def _say(self, status: int) -> None:
        self._status = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
