"""How fast and how large the server is, against what its parts would allow.

    python -m benchmarks.serving [--data DATASET | --items 1460000] [--index ivf-int8] [--rounds 3]

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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import grpc
import numpy as np

from benchmarks.load import closed_loop, open_loop
from benchmarks.served import (
    MB,
    METHOD,
    load_cores,
    message_of,
    served,
    server_core,
    spread,
    started,
)
from benchmarks.serving_release import Catalogue, History, K, of_dataset, release_of, simulated
from indexer.spec import KINDS

IN_FLIGHT = 64
BATCHES = (16, 64, 256)
LOADS = (0.25, 0.5, 0.75)
QUANTILES = (50, 95, 99, 99.9)
ENGINE_S = 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="dataset folder; else a catalogue is made up")
    parser.add_argument("--items", type=int, default=1_460_000, help="of the made-up catalogue")
    parser.add_argument("--index", choices=KINDS, default="flat", help="kind of index")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each closed loop")
    parser.add_argument("--open-seconds", type=int, default=20, help="of each open loop")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RECGURU_SERVE_QUEUE__MAX_WAIT_MS"] = "60000"
    os.sched_setaffinity(0, load_cores())
    catalogue = of_dataset(options.data) if options.data else simulated(options.items)
    with tempfile.TemporaryDirectory() as name:
        root = release_of(catalogue, Path(name), kind=options.index)
        sizes = ", ".join(f"{name} {len(each):,}" for name, each in catalogue.vocabularies.items())
        print(f"items: {sizes}; width {catalogue.width}; k = {K}, {options.index}", flush=True)
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


def closed(port: int, messages: Sequence[bytes], seconds: int) -> float:
    """Ask a server as much as it can take -> calls a second."""
    return closed_loop(port, METHOD, messages, seconds=seconds, in_flight=IN_FLIGHT)


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


def engine_rate(root: Path, catalogue: Catalogue) -> float:
    """Ask the engine in a process of its own on the server's core -> users/s of its best batch."""
    with ProcessPoolExecutor(
        1,
        mp_context=get_context("spawn"),
        initializer=os.sched_setaffinity,
        initargs=(0, {server_core()}),
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


if __name__ == "__main__":
    main()
