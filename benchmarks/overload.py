"""What a server does with four times as many calls as it can answer, and how soon it recovers.

    python -m benchmarks.overload --data DATASET [--seconds 30] [--json]

One worker with its default limits has a core of its own, the load comes from another. Capacity is
what a closed loop of 64 calls gets answered. The storm is an open loop of h2load, which sends four
times that whatever comes back; the rate it reached is printed, and what it cannot see, gRPC's
statuses, is told by the server's metrics and by a probe: calls of our own client at a low rate,
timed from the moment each was due. Health and metrics are asked all the while. Afterwards an open
loop at half of capacity is looked at in windows of a second: the server has recovered where the
first begins that has no refusal and a 99th percentile within twice that of the same load before
the storm.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.goals import Goal, report
from benchmarks.load import OK, Outcome, Stormed, closed_loop, open_loop, storm
from benchmarks.regularly import Asked, asking, p99
from benchmarks.served import MB, METHOD, Served, figures, load_cores, message_of, served, spread
from benchmarks.serving_release import of_dataset, release_of
from server.config import QueueLimits

IN_FLIGHT = 64
TIMES = 4
STEADY = 0.5
"""Of capacity: the load before and after the storm."""
PROBES_A_SECOND = 50
EVERY_S = 0.1
BEGIN_S = 1.0
"""Of a storm, until it has all its connections: not counted."""
WINDOW_S, STEP_S = 1.0, 0.1
HEALTH_S = 5.0
MAX_WAIT_MS = QueueLimits().max_wait_ms
REFUSED = "RESOURCE_EXHAUSTED"
DROPPED = "CANCELLED"
"""By gRPC, before the server's own code saw the call."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen during a storm."""

    stormed: Stormed
    probe: Outcome
    health: Asked[object]
    metrics: Asked[str]
    begun_s: float
    """When the storm began, on the clock of `time.perf_counter`."""
    over_s: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--seconds", type=int, default=30, help="of the storm")
    parser.add_argument("--json", action="store_true", help="print the goals as JSON")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, load_cores())
    catalogue = of_dataset(options.data)
    messages = [message_of(catalogue.domain, history) for history in catalogue.histories]
    with tempfile.TemporaryDirectory() as name:
        root = release_of(catalogue, Path(name))
        with served(root, workers=1) as server:
            goals = measure(server, messages, options.seconds)
    return report(goals, as_json=options.json)


def measure(server: Served, messages: Sequence[bytes], seconds: int) -> list[Goal]:
    """Put a server through a storm."""
    typical = spread(messages, 8)
    capacity = closed_loop(
        server.port, METHOD, typical, seconds=min(seconds, 10), in_flight=IN_FLIGHT
    )
    server.check_answered()
    print(f"capacity {capacity:,.0f} calls/s", file=sys.stderr)
    before = steady(server, messages, capacity, seconds)
    server.check_answered()
    resident = psutil.Process(server.process.pid).memory_info().rss
    seen = stormy(server, typical, messages, TIMES * capacity, seconds)
    after = steady(server, messages, capacity, seconds)
    grown = psutil.Process(server.process.pid).memory_info().rss - resident
    show(seen)
    refused = np.array([status == REFUSED for status in seen.probe.ended])
    dropped = np.array([status == DROPPED for status in seen.probe.ended])
    p99_s = p99(before.latencies_s)
    recovered_s = after.begun_s - seen.over_s + recovery_s(after, 2 * p99_s)
    print(
        f"at {STEADY:.0%}: p99 {p99_s * 1e3:.1f} ms before, "
        f"{p99(after.latencies_s) * 1e3:.1f} ms after, {after.statuses}",
        file=sys.stderr,
    )
    offered = seen.stormed.sent / capacity
    return [
        Goal("calls sent, times capacity", offered, 0.95 * TIMES, "at least"),
        Goal("answered, % of capacity", 100 * answered_a_second(seen) / capacity, 85, "at least"),
        Goal("refusal p99, ms", 1e3 * p99(seen.probe.took_s[refused]), 50, "at most"),
        Goal("dropped unseen, % of probes", 100 * float(dropped.mean()), 0, "exactly"),
        Goal("answer p99, ms", 1e3 * p99(seen.probe.latencies_s), MAX_WAIT_MS, "at most"),
        Goal("recovered after, s", recovered_s, 3, "at most"),
        Goal("resident memory grown by, MB", grown / MB, 50, "at most"),
        Goal("health p99, ms", 1e3 * p99(seen.health.took_s), 200, "at most"),
        Goal("metrics p99, ms", 1e3 * p99(seen.metrics.took_s), 200, "at most"),
    ]


def steady(server: Served, messages: Sequence[bytes], capacity: float, seconds: int) -> Outcome:
    """Send half of what the server can take."""
    return open_loop(server.port, METHOD, messages, rate=STEADY * capacity, seconds=seconds)


def stormy(
    server: Served,
    typical: Sequence[bytes],
    messages: Sequence[bytes],
    rate: float,
    seconds: int,
) -> Seen:
    """Let a storm of `rate` calls a second pass over the server, and watch."""
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def ask_health() -> object:
            return health.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_S)

        ask_health()  # so that the connection is there
        with (
            asking(server.metrics, every_s=EVERY_S) as metrics,
            asking(ask_health, every_s=EVERY_S) as healths,
        ):
            begun_s = time.perf_counter()
            storming = pool.submit(storm, server.port, METHOD, typical, rate=rate, seconds=seconds)
            time.sleep(BEGIN_S)
            probe = open_loop(
                server.port,
                METHOD,
                messages,
                rate=PROBES_A_SECOND,
                seconds=max(seconds - 2 * BEGIN_S, 1),
            )
            stormed = storming.result()
            over_s = time.perf_counter()
        return Seen(stormed, probe, healths, metrics, begun_s, over_s)


def answered_a_second(seen: Seen) -> float:
    """Count answers between two looks at the metrics, soon after the storm began and at its end."""
    looks = [
        (at_s, calls_by_status(metrics)[OK])
        for at_s, metrics in seen.metrics.answers
        if seen.begun_s + BEGIN_S <= at_s <= seen.over_s
    ]
    (first_s, first), (last_s, last) = looks[0], looks[-1]
    return (last - first) / (last_s - first_s)


def calls_by_status(metrics: str) -> Counter[str]:
    """Count the recommendations that ended so far."""
    counts: Counter[str] = Counter()
    for labels, value in figures(metrics, "recguru_calls_total"):
        if labels["method"] == "Recommend":
            counts[labels["status"]] += int(value)
    return counts


def recovery_s(after: Outcome, bound_s: float) -> float:
    """Find the first window without refusals whose p99 is within a bound.

    Returns:
        When it begins, in seconds from the loop's beginning; infinite if there is none.
    """
    for begin_s in np.arange(0, after.due_s[-1] - WINDOW_S, STEP_S).tolist():
        inside = (after.due_s >= begin_s) & (after.due_s < begin_s + WINDOW_S)
        if after.answered[inside].all() and p99(after.took_s[inside]) <= bound_s:
            return float(begin_s)
    return math.inf


def show(seen: Seen) -> None:
    """Say what is behind the figures."""
    first, last = seen.metrics.answers[0][1], seen.metrics.answers[-1][1]
    counted = calls_by_status(last) - calls_by_status(first)
    took_s = seen.probe.took_s[[status == DROPPED for status in seen.probe.ended]]
    lines = [
        f"storm: {seen.stormed.sent:,.0f} calls/s sent, {seen.stormed.ended:,.0f} ended",
        f"server: {dict(counted)}",
        f"probe: {seen.probe.statuses}, sent late p99 {p99(seen.probe.late_s) * 1e3:.1f} ms",
        f"dropped after p50 {np.median(took_s) * 1e3:.1f}, p99 {p99(took_s) * 1e3:.1f} ms",
        f"health: {len(seen.health.took_s)} asked, failures {Counter(seen.health.failures)}",
        f"metrics: {len(seen.metrics.took_s)} asked, failures {Counter(seen.metrics.failures)}",
    ]
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
