"""Several server processes on one port: starts them, starts another where one dies, stops them all.

Each worker is a server of its own, with its event loop, its compute thread and its look at the
release root; the kernel shares new connections out among them. What they have in common is the port
and the pages of the release. Nothing here needs torch.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model.errors import RecGuruError
from server import address
from server.config import ServeSettings
from server.metrics import WorkerMetrics, exposed
from server.signals import stop_requests
from server.worker import Report

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0
"""A worker that lived this long did not fail at once: the next starts after the first pause."""
_GRACE_S = 3.0
"""Beyond the drain time, before a worker that will not go is killed."""


async def supervise(settings: ServeSettings, *, ready: Callable[[int], None]) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT, then drain them all.

    Args:
        settings: What to serve, and where.
        ready: Told the port once every worker answers calls.

    Raises:
        RecGuruError: If the port cannot be had, or a worker cannot serve at the start; the text
            says why.
    """
    stop = stop_requests()
    with (
        tempfile.TemporaryDirectory(prefix="recguru-metrics-") as folder,
        _reserved(settings.host, settings.port) as port,
    ):
        metrics = WorkerMetrics(Path(folder))
        own = settings.model_copy(update={"port": port, "metrics_port": None})
        workers = [Worker(place, own, metrics) for place in range(settings.workers)]

        def serving() -> None:
            place = address.spelled(settings.host, port)
            log.info("%d workers serve on %s", settings.workers, place)
            ready(port)

        with exposed(metrics.registry, settings.host, settings.metrics_port):
            outcomes = await _until(stop, workers, serving)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    log.info("stopped")


async def _until(
    stop: asyncio.Event, workers: Sequence["Worker"], serving: Callable[[], None]
) -> list[BaseException | None]:
    """Run workers until told to stop, or one cannot be started; say how they ended."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    try:
        if await _all_ready(workers, tasks, stopping):
            serving()
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await asyncio.gather(*(worker.stop() for worker in workers))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return outcomes


class Worker:
    """One place among the workers: a process, and after its death another."""

    def __init__(self, place: int, settings: ServeSettings, metrics: WorkerMetrics) -> None:
        self._place = place
        self._metrics = metrics
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once a process of this place has answered calls."""

    async def run(self) -> None:
        """Keep a process running until `stop`.

        Raises:
            RecGuruError: If the first process never serves; the text says why.
        """
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            failure = await self._live()
            if self._stopping.is_set():
                return
            if not self.ready.is_set():
                raise RecGuruError(failure)
            if self._process is not None:
                self._metrics.worker_gone(self._place)
            if time.monotonic() - begun_s > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.error(
                "worker %d is gone: %s; another starts in %.1f s", self._place, failure, pause_s
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def stop(self) -> None:
        """Let the process drain, or kill it where it will not end."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._settings.drain_s + _GRACE_S)
        except TimeoutError:
            log.error("worker %d does not end; it is killed", self._place)  # noqa: TRY400  # no bug
            process.kill()

    async def _live(self) -> str:
        """Run one process to its end; say how it ended."""
        self._process = None
        try:
            process = self._process = await self._started()
        except OSError as error:  # no memory, no more processes: the next try may have them
            return f"cannot be started: {error.strerror}"
        if self._stopping.is_set():  # told while it was starting, when there was nobody to stop
            process.terminate()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  # pipes
        log.info("worker %d started pid=%d", self._place, process.pid)
        with suppress(ConnectionError):  # it may be gone already
            process.stdin.write(self._settings.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        report = Report(**json.loads(line)) if line else None
        if report is not None and not report.failure:
            self.ready.set()
        code = await process.wait()
        if report is not None and report.failure:
            return report.failure
        return f"process {process.pid} {_ended(code)}"

    async def _started(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._metrics.environment(self._place)},
            start_new_session=True,  # Ctrl-C at the terminal is for the supervisor alone
        )


async def _all_ready(
    workers: Sequence[Worker], tasks: list[asyncio.Task[None]], stopping: asyncio.Task[bool]
) -> bool:
    """Wait until all workers serve; False where one fails first, or the signal to stop comes."""
    serving = asyncio.gather(*(worker.ready.wait() for worker in workers))
    try:
        waited: set[asyncio.Future[Any]] = {serving, stopping, *tasks}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        return serving in done
    finally:
        serving.cancel()
        # Or asyncio complains that nobody heard of what was given up.
        await asyncio.gather(serving, return_exceptions=True)


@contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Hold a port that workers may share, so that nobody else gets it while none of them runs.

    The socket is bound and never listens: the kernel sends no connection its way.

    Raises:
        BadSettingError: If the port cannot be had.
    """
    address.check_port(host, port)  # binding alone would not see others who share it
    family, kind, protocol, _, place = address.resolved(host, port)
    with socket.socket(family, kind, protocol) as holder:
        for option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR):  # closed connections linger on it
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            holder.bind(place)
        except OSError as error:
            raise address.taken(host, port, error) from None
        yield holder.getsockname()[1]


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"left with exit code {code}"
