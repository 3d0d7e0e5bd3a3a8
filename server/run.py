"""One server process from its settings to its end: port, health, signals, drain."""

import asyncio
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from model.errors import BadSettingError
from server import address, service
from server.compute import Compute
from server.config import ServeSettings
from server.interceptors import DrainInterceptor, StatusInterceptor
from server.metrics import Metrics, exposed
from server.releases import Current, ReleaseWatcher

log = logging.getLogger(__name__)

_NOTICE_S = 0.2
"""Between saying NOT_SERVING and refusing calls: health watchers hear of it first."""


class Health:
    """What `grpc.health.v1` says, for the server as a whole and for its one service."""

    _SERVICES = ("", service.NAME)

    def __init__(self) -> None:
        self._servicer: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # stubs lack it

    async def add_to(self, server: grpc.aio.Server) -> None:
        """Answer health calls on this server, NOT_SERVING for now."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def ready(self) -> None:
        """Say SERVING."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING, for good."""
        await self._servicer.enter_graceful_shutdown()

    async def _say(self, status: object) -> None:
        for name in self._SERVICES:
            await self._servicer.set(name, status)


class Server:
    """The gRPC server over one release root; it starts once and stops once, in one event loop.

    The port opens first and health says NOT_SERVING, so that a taken port is known at once and
    probes are answered while the release loads; a port that is shared opens last.
    """

    def __init__(self, settings: ServeSettings, *, shared_port: bool = False) -> None:
        """Make a server that does nothing yet.

        Args:
            settings: What to serve, and where.
            shared_port: Whether other processes of ours listen on the port too.
        """
        if settings.releases is None:
            raise BadSettingError("setting serve.releases: name the release root to serve")
        self._settings = settings
        self._shared_port = shared_port
        self._drain = DrainInterceptor()
        self._health = Health()
        self.current = Current()
        self.metrics = Metrics()
        self._compute = Compute(self.current, settings.queue, self.metrics)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="releases")
        self._watcher = ReleaseWatcher(
            settings.releases,
            self.current,
            device=settings.device,
            poll_s=settings.poll_s,
            executor=self._loader,
            metrics=self.metrics,
        )
        self._watching: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self.port = 0
        """The port that is open, from `start` on."""

    async def start(self) -> None:
        """Open the port, load the release, probe it, and say SERVING.

        Raises:
            BadSettingError: If the port cannot be opened.
            RecGuruError: If there is no release that can serve; the text says why.
        """
        torch.set_num_threads(1)
        if self._shared_port:  # an open port takes its share of the calls, which others can answer
            await self._watcher.start()
            self._server = await self._open()
        else:
            self._server = await self._open()
            await self._watcher.start()
        self._watching = asyncio.create_task(self._watcher.run())
        await self._health.ready()
        version = self.current.engine.version
        log.info(
            "serving on %s release=%s model=%.12s",
            address.spelled(self._settings.host, self.port),
            version.release,
            version.model,
        )

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, take no more calls, let those in flight finish, close."""
        await self._health.drain()
        if self._watching is not None:
            log.info("draining for at most %.1f s", self._settings.drain_s)
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._server is not None:
            await asyncio.sleep(_NOTICE_S)
            self._drain.drain()
            await self._server.stop(self._settings.drain_s)
        await asyncio.to_thread(self._compute.close)
        await asyncio.to_thread(self._loader.shutdown, wait=True, cancel_futures=True)

    async def _open(self) -> grpc.aio.Server:
        settings = self._settings
        if not self._shared_port:  # else whoever started us holds it
            address.check_port(settings.host, settings.port)
        server = grpc.aio.server(
            interceptors=(StatusInterceptor(self.metrics), self._drain),
            options=(
                # Unless it is meant, a second server would take half of our calls, silently.
                ("grpc.so_reuseport", int(self._shared_port)),
                ("grpc.max_receive_message_length", settings.max_message_bytes),
            ),
        )
        recommender = service.RecommenderService(
            self.current, self._compute, settings.requests, self.metrics
        )
        pb_grpc.add_RecommenderServicer_to_server(recommender, server)
        await self._health.add_to(server)
        _add_reflection(server)
        place = address.spelled(settings.host, settings.port)
        try:
            self.port = server.add_insecure_port(place)
        except RuntimeError:
            raise BadSettingError(f"cannot listen on {place}; see the log") from None
        await server.start()
        return server


async def serve(
    settings: ServeSettings, *, ready: Callable[[int], None], shared_port: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: What to serve, and where.
        ready: Told the port once calls are answered.
        shared_port: Whether other processes of ours listen on the port too.

    Raises:
        RecGuruError: If the server cannot start; the text says why.
    """
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    server = Server(settings, shared_port=shared_port)
    with exposed(server.metrics.registry, settings.host, settings.metrics_port):
        await _until(told, server, ready)
    log.info("stopped")


async def _until(told: asyncio.Event, server: Server, ready: Callable[[int], None]) -> None:
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            ready(server.port)
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.stop()


def _add_reflection(server: grpc.aio.Server) -> None:
    """Describe the services to clients that know no contract.

    The library has the `v1alpha` service only. `v1` has the same messages under another name, and
    some clients ask for nothing else.
    """
    names = (service.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer: Any = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]  # stubs lack it
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    call = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    name = reflection.SERVICE_NAME.replace("v1alpha", "v1")
    handlers = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": call})
    server.add_generic_rpc_handlers((handlers,))
