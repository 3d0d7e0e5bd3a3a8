"""What callers notice of reloads, what reloads leave behind, and whether damage is kept out.

    python -m benchmarks.reloads --data DATASET [--seconds 60] [--reloads 50] [--json]

One worker has a core of its own, the load comes from another. A root holds two releases of
different models, and `LATEST` names one and the other in turn. First an open loop at half of what
the server can answer runs with the pointer at rest, then again with ten reloads: every call must be
answered, and by model and index of one release. Then releases are swapped with nobody asking, and
the process is looked at before and after. Last, releases with one file each cut short or with one
bit flipped are published, file after file: each must be refused while the one before answers.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from benchmarks.goals import Goal, report
from benchmarks.load import OK, Outcome, closed_loop, open_loop
from benchmarks.regularly import p99
from benchmarks.served import (
    ANSWER_S,
    MB,
    METHOD,
    Served,
    figures,
    load_cores,
    message_of,
    served,
    spread,
)
from benchmarks.serving_release import of_dataset, release_of
from indexer.publish import activate, versions
from indexer.release import Release

IN_FLIGHT = 64
LOAD = 0.5
SWAPS = 10
"""Reloads under load."""
POLL_S = 0.25
"""Between two looks of the server: reloads one after the other need not wait long for it."""
PAUSE_S = 0.02
AFTER_S = 3.0
"""A call due within this time of a new pointer counts as one during a reload."""
_MOMENT = "29990101T000000."
"""Of damaged releases: none is ever published then."""

Version = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds."""

    resident: int
    """Bytes."""
    threads: int
    descriptors: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--seconds", type=int, default=60, help="of each open loop")
    parser.add_argument("--reloads", type=int, default=50, help="with nobody asking; and refused")
    parser.add_argument("--json", action="store_true", help="print the goals as JSON")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RECGURU_SERVE_POLL_S"] = str(POLL_S)
    os.sched_setaffinity(0, load_cores())
    catalogue = of_dataset(options.data)
    messages = [message_of(catalogue.domain, history) for history in catalogue.histories]
    with tempfile.TemporaryDirectory() as name:
        for seed in (1, 2):
            root = release_of(catalogue, Path(name), seed=seed)
        with (
            served(root, workers=1) as server,
            grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            watched = Watched(root, server, channel)
            goals = [
                *under_load(watched, messages, options.seconds),
                *left_behind(watched, options.reloads),
                *kept_out(watched, messages[0], options.reloads),
            ]
    return report(goals, as_json=options.json)


class Watched:
    """A release root and the server that follows it."""

    def __init__(self, root: Path, server: Served, channel: grpc.Channel) -> None:
        self.root = root
        self.server = server
        self.stub = pb_grpc.RecommenderStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.releases = versions(root)

    def version(self) -> str:
        """Ask which release answers."""
        return self.stub.GetRelease(pb.GetReleaseRequest(), timeout=ANSWER_S).version.release

    def other(self) -> str:
        """Name the release that does not answer."""
        first, second = self.releases
        return second if self.version() == first else first

    def reload(self) -> None:
        """Let the other release answer."""
        wanted = self.other()
        activate(self.root, wanted)
        until(lambda: self.version() == wanted)

    def refused(self) -> int:
        """Count the releases refused so far."""
        found = figures(self.server.metrics(), "recguru_reloads_total")
        return sum(int(value) for labels, value in found if labels["result"] == "refused")

    def decided(self, refused: int, serving: str) -> bool:
        """Say whether another release was refused, or one answers that did not."""
        return self.refused() > refused or self.version() != serving

    def held(self) -> Held:
        """Look at the process."""
        process = psutil.Process(self.server.process.pid)
        return Held(process.memory_info().rss, process.num_threads(), process.num_fds())


def until(so: Callable[[], bool]) -> None:
    """Wait for something.

    Raises:
        RuntimeError: If it does not come about.
    """
    end_s = time.monotonic() + ANSWER_S
    while not so():
        if time.monotonic() > end_s:
            raise RuntimeError("the server does not take up what LATEST names; see its log")
        time.sleep(PAUSE_S)


def under_load(watched: Watched, messages: Sequence[bytes], seconds: int) -> list[Goal]:
    """Reload while the server has half of what it can answer to do."""
    port = watched.server.port
    capacity = closed_loop(
        port, METHOD, spread(messages, 8), seconds=min(seconds, 10), in_flight=IN_FLIGHT
    )
    rate = LOAD * capacity
    rested = open_loop(port, METHOD, messages, rate=rate, seconds=seconds)
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(lambda: [*swaps(watched, seconds / SWAPS)])
        reloaded = open_loop(port, METHOD, messages, rate=rate, seconds=seconds)
        moments_s = np.array(swapping.result()) - reloaded.begun_s
    since_s = reloaded.due_s - moments_s[:, np.newaxis]
    during = ((since_s >= 0) & (since_s < AFTER_S)).any(axis=0)
    seen = {version_of(answer) for answer in reloaded.answers}
    known = {known_version(watched.root / name) for name in watched.releases}
    at_rest_s, with_reloads_s = p99(rested.latencies_s), p99(reloaded.latencies_s)
    print(
        f"{rate:,.0f} calls/s: p99 {at_rest_s * 1e3:.1f} ms at rest, {with_reloads_s * 1e3:.1f} ms "
        f"with {SWAPS} reloads, {p99(reloaded.took_s[during]) * 1e3:.1f} ms in the "
        f"{AFTER_S:g} s after each; sent late p99 {p99(reloaded.late_s) * 1e3:.1f} ms",
        file=sys.stderr,
    )
    return [
        Goal("calls that failed under reloads", failed(reloaded), 0, "exactly"),
        Goal("releases that answered", len(seen & known), len(known), "exactly"),
        Goal("answers of no one release, kinds", len(seen - known), 0, "exactly"),
        Goal("p99 with reloads, times that at rest", with_reloads_s / at_rest_s, 2, "at most"),
    ]


def swaps(watched: Watched, every_s: float) -> Iterator[float]:
    """Reload again and again -> when each pointer was new, on the clock of `time.perf_counter`."""
    begun_s = time.perf_counter() + every_s / 2
    for number in range(SWAPS):
        time.sleep(max(0.0, begun_s + number * every_s - time.perf_counter()))
        yield time.perf_counter()
        watched.reload()


def failed(outcome: Outcome) -> int:
    """Count the calls that had no answer."""
    return sum(status != OK for status in outcome.ended)


def version_of(answer: bytes) -> Version:
    """Read what an answer says it is of."""
    version = pb.RecommendResponse.FromString(answer).version
    return version.release, version.model, version.index


def known_version(folder: Path) -> Version:
    """Read what answers of a release must say."""
    release = Release.read(folder, verify=False)
    return release.version, release.bundle.digest, release.digest


def left_behind(watched: Watched, reloads: int) -> list[Goal]:
    """Reload with nobody asking, and compare what the process holds."""
    before = watched.held()
    for _ in range(reloads):
        watched.reload()
    after = watched.held()
    grown = (after.resident - before.resident) / MB
    return [
        Goal(f"resident memory grown in {reloads} reloads by, MB", grown, 50, "at most"),
        Goal("threads more than before", after.threads - before.threads, 0, "exactly"),
        Goal("descriptors more than before", after.descriptors - before.descriptors, 0, "exactly"),
    ]


def kept_out(watched: Watched, message: bytes, count: int) -> list[Goal]:
    """Publish damaged releases one after the other, and ask after each."""
    serving, before = watched.version(), watched.refused()
    source = watched.root / watched.other()
    request = pb.RecommendRequest.FromString(message)
    wrong = unhealthy = 0
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for number in range(count):
        # The other way round in the next round of the files: each is spoilt both ways.
        spoil = (cut_short, flipped)[(number + number // len(names)) % 2]
        version = f"{_MOMENT}{number:06d}Z-{0:012x}"
        place = damaged(source, watched.root / version, names[number % len(names)], spoil)
        decided = partial(watched.decided, watched.refused(), serving)
        activate(watched.root, place.name)
        until(decided)
        answer = watched.stub.Recommend(request, timeout=ANSWER_S)
        wrong += answer.version.release != serving
        health = watched.health.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        unhealthy += health.status != health_pb2.HealthCheckResponse.SERVING
    return [
        Goal("damaged releases refused", watched.refused() - before, count, "exactly"),
        Goal("answers not of the release before", wrong, 0, "exactly"),
        Goal("health not SERVING", unhealthy, 0, "exactly"),
    ]


def damaged(source: Path, place: Path, name: Path, spoil: Callable[[bytes], bytes]) -> Path:
    """Copy a release with one file spoilt -> its folder; the other files are the same on disk."""
    for path in source.rglob("*"):
        copied = place / path.relative_to(source)
        if path.is_file():
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.hardlink_to(path)
    content = (place / name).read_bytes()
    (place / name).unlink()
    (place / name).write_bytes(spoil(content))
    return place


def cut_short(content: bytes) -> bytes:
    """Leave the second half out."""
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Flip one bit in the middle."""
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
