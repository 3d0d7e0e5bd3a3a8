"""One server process from its settings to its end: port, health, signals, drain."""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import torch

from model.errors import BadSettingError
from server import address, listener, service
from server.compute import Compute
from server.config import ServeSettings
from server.engine import Engine
from server.guard import Guard
from server.health import Health
from server.interceptors import DrainInterceptor, GuardInterceptor
from server.metrics import Metrics, exposed
from server.releases import Current, ReleaseWatcher
from server.signals import stop_requests
from server.tokens import TokenInterceptor

if TYPE_CHECKING:
    from server.traces import Tracing

log = logging.getLogger(__name__)

_NOTICE_S = 0.2
"""Between saying NOT_SERVING and refusing calls: health watchers hear of it first."""


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

        Raises:
            BadSettingError: If no release root is named, or the extra that traces need is missing.
        """
        if settings.releases is None:
            raise BadSettingError("setting serve.releases: name the release root to serve")
        self._settings = settings
        self._shared_port = shared_port
        self._tracing = make_tracing() if settings.traces else None
        self._drain = DrainInterceptor()
        self._health = Health()
        self.current = Current()
        self.metrics = Metrics()
        self._compute = Compute(self.current, settings.queue, self.metrics)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="releases")
        self._watcher = ReleaseWatcher(
            settings.releases,
            self.current,
            load=self._load,
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
        self._health.ready()
        version = self.current.engine.version
        log.info(
            "serving on %s release=%s model=%.12s",
            address.spelled(self._settings.host, self.port),
            version.release,
            version.model,
        )

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, take no more calls, let those in flight finish, close."""
        self._health.drain()
        if self._watching is not None:
            log.info("draining for at most %.1f s", self._settings.drain_s)
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._server is not None:
            await asyncio.sleep(_NOTICE_S)
            self._drain.drain()
            await self._server.stop(self._settings.drain_s)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        await asyncio.to_thread(self._compute.close)
        await asyncio.to_thread(self._loader.shutdown, wait=True, cancel_futures=True)

    def _load(self, folder: Path) -> Engine:
        """Load a release and probe it; the probe comes from no caller, so its GURs are not kept."""
        settings = self._settings
        engine = Engine.load(
            folder, device=settings.device, gpus=settings.gpus, milvus=settings.milvus
        )
        engine.probe()
        engine.keep_gurs(settings.gur_cache_entries, self.metrics.gurs_looked_up)
        return engine

    async def _open(self) -> grpc.aio.Server:
        settings = self._settings
        recommender = service.RecommenderService(
            self.current, self._compute, settings.requests, self.metrics
        )
        guard = Guard(
            self.metrics,
            max_connection_calls=settings.max_connection_calls,
            log_calls=settings.log_calls,
            tracing=self._tracing,
        )
        server = listener.make_server(
            recommender,
            settings,
            interceptors=(
                *TokenInterceptor.of(settings.tokens, guard),
                GuardInterceptor(guard),
                self._drain,
            ),
            shared_port=self._shared_port,
        )
        self._health.add_to(server)
        self.port = listener.add_port(server, settings, shared_port=self._shared_port)
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
    stop = stop_requests()
    server = Server(settings, shared_port=shared_port)
    # What imports have made is here to stay: most objects there are, and every full collection that
    # looks through them stops all calls meanwhile.
    gc.freeze()
    with exposed(server.metrics.registry, settings.host, settings.metrics_port):
        await _until(stop, server, ready)
    log.info("stopped")


async def _until(stop: asyncio.Event, server: Server, ready: Callable[[int], None]) -> None:
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
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


def make_tracing() -> "Tracing":
    """Make what sends spans on.

    Raises:
        BadSettingError: If the extra that it needs is missing.
    """
    try:
        from server.traces import Tracing  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise BadSettingError(
            f"setting serve.traces: {error}; pip install 'recguru-service[otel]'"
        ) from None
    return Tracing.to_collector()
