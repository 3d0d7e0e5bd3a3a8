"""A server to measure: a process of its own, on a core of its own, asked like any other.

The load comes from the other cores; what is started here stays on the server's.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from prometheus_client.parser import text_string_to_metric_families
from recguru.v1 import recommender_pb2 as pb

from benchmarks.serving_release import History, K

METHOD = "/recguru.v1.Recommender/Recommend"
MB = 1 << 20
READY_S = 120
ANSWER_S = 30.0
"""Far longer than any answer may take; a server that hangs fails instead of hanging us."""
_CORES = os.sched_getaffinity(0)


def message_of(domain: str, history: History) -> bytes:
    """Write a request."""
    histories = [pb.History(domain=name, item_ids=ids) for name, ids in history.items()]
    return pb.RecommendRequest(domain=domain, histories=histories, k=K).SerializeToString()


def spread(messages: Sequence[bytes], count: int) -> list[bytes]:
    """Take some messages, from short to long, that stand for all."""
    ordered = sorted(messages, key=len)
    return [ordered[int((place + 0.5) / count * len(ordered))] for place in range(count)]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the processes of a server, in bytes; a page that several map is shared out among them."""

    whole: int
    workers: int
    peak: int
    """Most that one worker ever had, shared pages counted in full."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    process: "subprocess.Popen[bytes]"
    port: int
    metrics_port: int
    ready_s: float

    def check_answered(self) -> None:
        """Make sure that no call has failed so far."""
        calls = figures(self.metrics(), "recguru_calls_total")
        statuses = {labels["status"] for labels, _ in calls}
        # The load ends as it began, at once: what is under way then is called off.
        if "OK" not in statuses or statuses - {"OK", "CANCELLED"}:
            raise RuntimeError(f"calls ended with {', '.join(sorted(statuses)) or 'nothing'}")

    def metrics(self) -> str:
        """Ask for its metrics, as an operator does."""
        place = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(place, timeout=ANSWER_S) as answer:
            said: bytes = answer.read()
        return said.decode()

    def memory(self) -> Memory:
        """Look at its processes."""
        first = psutil.Process(self.process.pid)
        children = first.children()
        workers = children or [first]
        return Memory(
            whole=sum(each.memory_full_info().pss for each in {first, *children}),
            workers=sum(each.memory_full_info().pss for each in workers),
            peak=max(_peak(each.pid) for each in workers),
        )


def figures(metrics: str, name: str) -> list[tuple[Mapping[str, str], float]]:
    """Read the samples of one name -> labels and value of each."""
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    ]


@contextmanager
def served(root: Path, *, workers: int) -> Iterator[Served]:
    """Serve a release root on one core until the block is left."""
    port_file = root.parent / "port"
    command = [sys.executable, "-m", "recguru_cli", "serve", "--releases", str(root)]
    command += ["--port", "0", "--port-file", str(port_file), "--device", "cpu"]
    metrics_port = free_port()
    command += ["--workers", str(workers), "--metrics-port", str(metrics_port)]
    begun_s = time.perf_counter()
    with started(command) as process:
        while not port_file.exists():
            if process.poll() is not None or time.perf_counter() - begun_s > READY_S:
                raise RuntimeError("the server does not start; try recguru serve by hand")
            time.sleep(0.01)
        ready_s = time.perf_counter() - begun_s
        yield Served(process, int(port_file.read_text()), metrics_port, ready_s)


def free_port() -> int:
    """Find a port that nobody has at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str], *, stdout: int | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command on the server's core until the block is left."""
    os.sched_setaffinity(0, {server_core()})  # whom we start stays where we are
    try:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, load_cores())
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def server_core() -> int:
    """Name the core that is the server's alone."""
    return min(_CORES)


def load_cores() -> set[int]:
    """Name the cores that the load may come from; the server's own where there is no other."""
    return _CORES - {server_core()} or _CORES
