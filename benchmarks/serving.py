"""How fast and how large the server is, against what its parts would allow.

    python -m benchmarks.serving [--data DATASET | --items 1460000] [--rounds 3] [--seconds 6]

One worker has a core of its own, the load comes from another. `no-op` is a server of the same stack
that answers a prepared message of the same size, `engine` the users a second of the engine without
a server, in its best batch; nothing on one core can answer more than 1 / (1/no-op + 1/engine). The
closed loop keeps 64 calls waiting, which the server is told to bear; that all were answered is read
from its own metrics, for h2load does not look at gRPC's statuses. The open loop sends calls at
random moments whatever comes back, and counts from the moment a call was due. No-op, engine and
server take turns, and medians over the rounds are printed.
"""

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from recguru.v1 import recommender_pb2 as pb

from benchmarks.load import closed_loop, open_loop
from benchmarks.serving_release import Catalogue, History, K, of_dataset, release_of, simulated

METHOD = "/recguru.v1.Recommender/Recommend"
IN_FLIGHT = 64
BATCHES = (16, 64, 256)
LOADS = (0.25, 0.5, 0.75)
QUANTILES = (50, 95, 99, 99.9)
READY_S = 120
ENGINE_S = 1.0
MB = 1 << 20
_CORES = os.sched_getaffinity(0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="dataset folder; else a catalogue is made up")
    parser.add_argument("--items", type=int, default=1_460_000, help="of the made-up catalogue")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each closed loop")
    parser.add_argument("--open-seconds", type=int, default=20, help="of each open loop")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RECGURU_SERVE_QUEUE__MAX_WAIT_MS"] = "60000"
    os.sched_setaffinity(0, _load_cores())
    catalogue = of_dataset(options.data) if options.data else simulated(options.items)
    with tempfile.TemporaryDirectory() as name:
        root = release_of(catalogue, Path(name))
        sizes = ", ".join(f"{name} {len(each):,}" for name, each in catalogue.vocabularies.items())
        print(f"items: {sizes}; width {catalogue.width}; k = {K}", flush=True)
        measure(root, catalogue, options)


def measure(root: Path, catalogue: Catalogue, options: argparse.Namespace) -> None:
    """Measure everything about one release."""
    messages = [message_of(catalogue.domain, history) for history in catalogue.histories]
    typical = spread(messages, 8)
    with served(root, workers=1) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            answer: bytes = channel.unary_unary(METHOD, None, None)(typical[len(typical) // 2])
        print(f"ready after {server.ready_s:.1f} s", flush=True)
        noop, engine, calls = [], [], []
        with noop_server(answer) as noop_port:
            for _ in range(options.rounds):
                noop.append(closed(noop_port, typical, options.seconds))
                engine.append(engine_rate(root, catalogue))
                calls.append(closed(server.port, typical, options.seconds))
                server.check_answered()
        one = server.memory()
        a, b, c = (statistics.median(rates) for rates in (noop, engine, calls))
        bound = 1 / (1 / a + 1 / b)
        print(f"no-op {a:,.0f} calls/s, engine {b:,.0f} users/s, bound {bound:,.0f}")
        print(f"server {c:,.0f} calls/s, {c / bound:.2f} of the bound", flush=True)
        print("open loop: load, calls/s, " + ", ".join(f"p{each:g} ms" for each in QUANTILES))
        for load in LOADS:
            found = open_loop(
                server.port, METHOD, messages, rate=load * c, seconds=options.open_seconds
            )
            quantiles = np.percentile(found.latencies_s * 1e3, QUANTILES)
            late = np.percentile(found.late_s * 1e3, 99)
            shown = "  ".join(f"{each:7.2f}" for each in quantiles)
            print(
                f"  {load:4.0%} {load * c:8,.0f}  {shown}   sent late p99 {late:.2f} ms"
                f"  {found.statuses}",
                flush=True,
            )
        peak = server.memory().peak
        print(f"memory of one worker {one.whole / MB:,.0f} MB, peak {peak / MB:,.0f} MB")
    with served(root, workers=2) as server:
        closed(server.port, typical, options.seconds)
        two = server.memory()
        print(f"a second worker adds {(two.workers - one.workers) / MB:,.0f} MB")


def message_of(domain: str, history: History) -> bytes:
    """Write a request."""
    histories = [pb.History(domain=name, item_ids=ids) for name, ids in history.items()]
    return pb.RecommendRequest(domain=domain, histories=histories, k=K).SerializeToString()


def spread(messages: Sequence[bytes], count: int) -> list[bytes]:
    """Take some messages, from short to long, that stand for all."""
    ordered = sorted(messages, key=len)
    return [ordered[int((place + 0.5) / count * len(ordered))] for place in range(count)]


def closed(port: int, messages: Sequence[bytes], seconds: int) -> float:
    """Ask a server as much as it can take -> calls a second."""
    return closed_loop(port, METHOD, messages, seconds=seconds, in_flight=IN_FLIGHT)


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
        place = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(place) as answer:
            said = answer.read().decode()
        statuses = set(re.findall(r'^recguru_calls_total{.*status="(\w+)"}', said, re.MULTILINE))
        # The load ends as it began, at once: what is under way then is called off.
        if "OK" not in statuses or statuses - {"OK", "CANCELLED"}:
            raise RuntimeError(f"calls ended with {', '.join(sorted(statuses)) or 'nothing'}")

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
def noop_server(answer: bytes) -> Iterator[int]:
    """Run a server that always gives this answer until the block is left -> its port."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(answer)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.noop", file.name]
        with started(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101  # it is a pipe
            yield int(process.stdout.readline())


@contextmanager
def started(
    command: Sequence[str], *, stdout: int | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command on the server's core until the block is left."""
    os.sched_setaffinity(0, {_server_core()})  # whom we start stays where we are
    try:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, _load_cores())
    with process:
        try:
            yield process
        finally:
            process.terminate()


def engine_rate(root: Path, catalogue: Catalogue) -> float:
    """Ask the engine in a process of its own on the server's core -> users/s of its best batch."""
    with ProcessPoolExecutor(
        1,
        mp_context=get_context("spawn"),
        initializer=os.sched_setaffinity,
        initargs=(0, {_server_core()}),
    ) as pool:
        return pool.submit(_best_batch, root, catalogue.domain, catalogue.histories).result()


def _best_batch(root: Path, domain: str, histories: Sequence[History]) -> float:
    from indexer.release import latest  # noqa: PLC0415  # only this process needs it
    from server.engine import Engine  # noqa: PLC0415
    from server.messages import Choice, RecommendQuestion  # noqa: PLC0415

    engine = Engine.load(latest(root), device="cpu")
    questions = [
        RecommendQuestion(domain=domain, histories=history, choice=Choice(k=K))
        for history in histories
    ]

    def rate(batch: int) -> float:
        done, begun_s = 0, time.perf_counter()
        while time.perf_counter() - begun_s < ENGINE_S:
            first = done % len(questions)
            done += len(engine.recommend(questions[first : first + batch]))
        return done / (time.perf_counter() - begun_s)

    rate(BATCHES[0])
    return max(rate(batch) for batch in BATCHES)


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _server_core() -> int:
    return min(_CORES)


def _load_cores() -> set[int]:
    return _CORES - {_server_core()} or _CORES


if __name__ == "__main__":
    main()
