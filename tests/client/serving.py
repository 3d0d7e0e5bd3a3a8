"""Real servers to ask: the command in its own process, or the service in a thread of this one."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from server.compute import Compute
from server.config import QueueLimits, RequestLimits, ServeSettings
from server.guard import Guard
from server.interceptors import GuardInterceptor
from server.metrics import Metrics
from server.releases import Current
from server.run import Server
from server.service import NAME, RecommenderService

WAIT_S = 30.0  # far longer than any of this takes; a bug fails instead of hanging
HOST = "127.0.0.1"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def server_process(releases: Path, folder: Path) -> Iterator[str]:
    """Run `recguru serve` until the block is left, and see it end well; give its address."""
    port_file = folder / "port"
    command = [sys.executable, "-m", "recguru_cli", "serve", "--releases", str(releases)]
    command += ["--port", "0", "--device", "cpu", "--port-file", str(port_file)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until_s = time.monotonic() + WAIT_S
        while not port_file.exists():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < until_s, "the server did not start"
            time.sleep(0.02)
        yield f"{HOST}:{int(port_file.read_text(encoding='utf-8'))}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait(WAIT_S)


@contextmanager
def server_in_thread(releases: Path, *, port: int = 0, **settings: object) -> Iterator[Server]:
    """Run the whole server in a thread until the block is left."""
    given = {"releases": releases, "port": port, "device": "cpu", **settings}
    with _loop() as loop:
        server = Server(ServeSettings.model_validate(given))
        try:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result(WAIT_S)
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(WAIT_S)


@contextmanager
def service_in_thread(
    current: Current,
    *,
    credentials: grpc.ServerCredentials | None = None,
    serving: bool = True,
) -> Iterator[str]:
    """Run the service and health alone, over whatever is loaded; give the address.

    Args:
        current: What is loaded, if anything.
        credentials: Encrypts.
        serving: What health says.
    """
    metrics = Metrics()
    compute = Compute(current, QueueLimits(), metrics)

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            interceptors=(GuardInterceptor(Guard(metrics, max_connection_calls=64)),)
        )
        service = RecommenderService(current, compute, RequestLimits(), metrics)
        pb_grpc.add_RecommenderServicer_to_server(service, server)
        healths: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # stubs lack it
        await healths.set(NAME, _SERVING if serving else _NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(healths, server)
        place = f"{HOST}:0"
        port = (
            server.add_insecure_port(place)
            if credentials is None
            else server.add_secure_port(place, credentials)
        )
        await server.start()
        return server, port

    with _loop() as loop:
        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
        try:
            yield f"{HOST}:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(WAIT_S)
            compute.close()


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
