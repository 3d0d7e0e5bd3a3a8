"""What an operator sees of a server, as Prometheus metrics on a port of their own.

Several workers write theirs into files of one folder, and whoever started them answers for all: see
`prometheus_client.multiprocess`. A process is one of several where `WorkerMetrics.environment` was
in its environment when this module was imported.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    multiprocess,
    start_http_server,
    values,
)

from model.errors import BadSettingError
from server import address
from server.messages import Version

log = logging.getLogger(__name__)

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's name
_PLACE = "RECGURU_WORKER_PLACE"

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)

if (_own_place := os.environ.get(_PLACE)) is not None:
    # The library names files after the process: of workers that die again and again they would pile
    # up, and every scrape reads them all. Named after the place, the next worker there counts on.
    values.ValueClass = values.MultiProcessValue(lambda: _own_place)  # type: ignore[no-untyped-call]


class Metrics:
    """The figures of one server. Safe for use by several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = self._counter("calls", "Calls that ended.", "method", "status", "lane")
        self._call_seconds = self._histogram(
            "call_seconds",
            "From the moment a call is taken to its end.",
            "method",
            "lane",
            buckets=_SECONDS,
        )
        self._wait_seconds = self._histogram(
            "queue_wait_seconds",
            "From a question's arrival to the beginning of its pass.",
            "queue",
            buckets=_SECONDS,
        )
        self._waiting = self._gauge(
            "queue_waiting", "Questions left waiting when the last pass began.", "queue"
        )
        self._pass_seconds = self._histogram(
            "pass_seconds", "Computation of a pass.", "queue", buckets=_SECONDS
        )
        self._pass_items = self._histogram(
            "pass_items",
            "Users computed in one pass: of single calls, or of a part of a batch call.",
            "queue",
            buckets=_ITEMS,
        )
        self._answers = self._counter(
            "answers", "Recommendations, by what they rest on.", "domain", "basis", "lane"
        )
        self._unknown = self._counter(
            "unknown_history_items", "History items that the release does not know.", "domain"
        )
        gur_lookups = self._counter(
            "gur_cache_lookups", "GURs wanted, by whether they were kept.", "result"
        )
        self._gur_hits, self._gur_misses = gur_lookups.labels("hit"), gur_lookups.labels("miss")
        self._reloads = self._counter(
            "reloads", "Releases taken up after the first, or refused.", "result", "lane"
        )
        self._release = self._gauge(
            "release_info",
            "Workers that answer from the release; 0 for those before it.",
            "lane",
            "release",
            "model",
            "index",
        )
        self._loaded: dict[str, Version] = {}

    def call_ended(self, method: str, status: str, lane: str, seconds: float) -> None:
        """Count a call by how it ended, and which of two releases it was for."""
        self._calls.labels(method, status, lane).inc()
        self._call_seconds.labels(method, lane).observe(seconds)

    def pass_ended(
        self, queue: str, waits_s: Sequence[float], seconds: float, *, users: int, waiting: int
    ) -> None:
        """Count a pass: how long its questions had waited, whom it was for, how many still wait."""
        wait_seconds = self._wait_seconds.labels(queue)
        for wait_s in waits_s:
            wait_seconds.observe(wait_s)
        self._pass_seconds.labels(queue).observe(seconds)
        self._pass_items.labels(queue).observe(users)
        self._waiting.labels(queue).set(waiting)

    def answered(self, domain: str, basis: str, lane: str, *, unknown: int) -> None:
        """Count a recommendation."""
        self._answers.labels(domain, basis, lane).inc()
        if unknown:
            self._unknown.labels(domain).inc(unknown)

    def gurs_looked_up(self, hits: int, misses: int) -> None:
        """Count look-ups in the cache of GURs."""
        self._gur_hits.inc(hits)
        self._gur_misses.inc(misses)

    def release_loaded(self, version: Version, lane: str, *, first: bool = False) -> None:
        """Name the release that answers in a lane from now on; the server's first is no reload."""
        self.release_gone(lane)
        if not first:
            self._reloads.labels("swapped", lane).inc()
        self._info(version, lane).set(1)
        self._loaded[lane] = version

    def release_gone(self, lane: str) -> None:
        """Say that no release answers in a lane any more."""
        if (before := self._loaded.pop(lane, None)) is not None:
            self._info(before, lane).set(0)

    def release_refused(self, lane: str) -> None:
        """Count a release that must not be used."""
        self._reloads.labels("refused", lane).inc()

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"recguru_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(
            f"recguru_{name}",
            about,
            labels,
            registry=self.registry,
            multiprocess_mode="livesum",  # of several workers: the sum over those alive
        )

    def _histogram(
        self, name: str, about: str, *labels: str, buckets: Sequence[float]
    ) -> Histogram:
        full = f"recguru_{name}"
        return Histogram(full, about, labels, buckets=buckets, registry=self.registry)

    def _info(self, version: Version, lane: str) -> Gauge:
        return self._release.labels(lane, version.release, version.model, version.index)


class WorkerMetrics:
    """The figures of all workers that write into a folder, and of their comings and goings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(self.registry, path=str(folder))  # type: ignore[no-untyped-call]
        self._exits = Counter(
            "recguru_worker_exits", "Workers that ended unasked.", registry=self.registry
        )

    def environment(self, place: int) -> Mapping[str, str]:
        """Give what tells a worker where to write; of one place there is one at a time."""
        return {_FOLDER: str(self._folder), _PLACE: str(place)}

    def worker_gone(self, place: int) -> None:
        """Drop what a worker said of itself alone; on what it counted the next one goes on."""
        self._exits.inc()
        multiprocess.mark_process_dead(place, path=str(self._folder))  # type: ignore[no-untyped-call]


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[None]:
    """Answer `GET /metrics` until the block is left; with no port, nowhere.

    Raises:
        BadSettingError: If the port cannot be had.
    """
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise BadSettingError(
            f"cannot serve metrics on {address.spelled(host, port)}: {error.strerror}; choose "
            "another --metrics-port"
        ) from None
    log.info("metrics on http://%s/metrics", address.spelled(host, server.server_port))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
