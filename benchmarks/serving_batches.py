"""How fast batch calls are beside the engine alone, and what kept GURs save for newcomers.

    python -m benchmarks.serving_batches --data DATASET [--rounds 5] [--seconds 6] [--json]

One worker has a core of its own, the load comes from another. The engine alone answers the same
users in a process on the server's core, 256 at once, as a batch call has them; the wire should
leave four fifths of that. Newcomers ask for items of a domain in which they have no history, so
their other one answers, by its GUR and what they prefer there: first with no cache, then with one
in which none, half or all of the GURs are found, which the server's own metrics confirm. In the
engine they come 64 at once; over the wire one a call, 64 calls under way, which may be all that the
client can send: how much of its core it took is printed beside. Everything has its turn in each
round, and medians over the rounds are printed.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import grpc
from recguru.v1 import recommender_pb2 as pb

from benchmarks.goals import Goal, report
from benchmarks.served import Served, figures, load_cores, message_of, served, server_core
from benchmarks.serving_release import Catalogue, History, K, of_dataset, release_of

SERVICE = "/recguru.v1.Recommender/"
BATCH = 256
BATCHES = 8
BATCHES_IN_FLIGHT = 4
IN_FLIGHT = 64
KEPT = 512
"""GURs the cache holds: far fewer than there are newcomers, so who comes in turn is not found."""
REGULARS = 64
"""Newcomers who come often enough to be found."""
CASES = {"no cache": 0.0, "found 0 %": 0.0, "found 50 %": 0.5, "found 100 %": 1.0}
"""Share of the newcomers who are regulars."""
NO_CACHE = "no cache"
WARM_UP_S = 0.5

T = TypeVar("T")
Rates = dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """Who asks."""

    domain: str
    users: list[History]
    """Users known in that domain, for batches."""
    elsewhere: str
    newcomers: list[History]
    """Users not known in `elsewhere`, whose items they ask for; no two are alike."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of each figure of a round")
    parser.add_argument("--json", action="store_true", help="print the goals as JSON")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RECGURU_SERVE_QUEUE__MAX_WAIT_MS"] = "60000"
    os.sched_setaffinity(0, load_cores())
    catalogue = of_dataset(options.data)
    load = load_of(catalogue)
    with tempfile.TemporaryDirectory() as folder:
        root = release_of(catalogue, Path(folder))
        engine, wire = defaultdict(list), defaultdict(list)
        for _ in range(options.rounds):
            for name, rate in engine_rates(root, load, options.seconds).items():
                engine[name].append(rate)
            for name, rate in wire_rates(root, load, options.seconds).items():
                wire[name].append(rate)
    return show(
        {name: statistics.median(rates) for name, rates in engine.items()},
        {name: statistics.median(rates) for name, rates in wire.items()},
        as_json=options.json,
    )


def show(engine: Rates, wire: Rates, *, as_json: bool) -> int:
    """Print medians -> the exit code."""
    print("users/s: engine alone, server, server / engine", file=sys.stderr)
    for name, rate in engine.items():
        line = f"  {name:<24} {rate:8,.0f} {wire[name]:8,.0f} {wire[name] / rate:5.2f}"
        if name in CASES:
            line += f"   found {wire[f'{name}, kept']:4.0%}"
            line += f", the client takes {wire[f'{name}, client']:.0%} of its core"
        print(line, file=sys.stderr)
    goals = [
        Goal(
            f"{method} of {BATCH}, of the engine alone",
            wire[method] / engine[method],
            0.8,
            "at least",
        )
        for method in ("BatchRecommend", "EncodeUsers")
    ]
    return report(goals, as_json=as_json)


def load_of(catalogue: Catalogue) -> Load:
    """Choose users for batches, and newcomers to the other domain.

    Raises:
        RuntimeError: If there are too few newcomers for a cache that they do not all fit into.
    """
    domain = catalogue.domain
    elsewhere = next(name for name in catalogue.vocabularies if name != domain)
    distinct = dict.fromkeys(tuple(user[domain]) for user in catalogue.histories)
    newcomers: list[History] = [{domain: list(item_ids)} for item_ids in distinct]
    if len(newcomers) < REGULARS + 2 * KEPT:
        raise RuntimeError(
            f"the dataset has {len(newcomers)} newcomers; it takes {REGULARS + 2 * KEPT}"
        )
    return Load(domain, catalogue.histories[: BATCH * BATCHES], elsewhere, newcomers)


def arriving(newcomers: Sequence[T], share: float) -> Iterator[T]:
    """Give newcomers without end; a share of them are regulars, the others come in turn."""
    regulars, others = cycle(newcomers[:REGULARS]), cycle(newcomers[REGULARS:])
    owed = 0.0
    while True:
        owed += share
        if owed >= 1:
            owed -= 1
            yield next(regulars)
        else:
            yield next(others)


def _batched(coming: Iterator[T]) -> Iterator[list[T]]:
    while True:
        yield list(islice(coming, IN_FLIGHT))


def engine_rates(root: Path, load: Load, seconds: float) -> Rates:
    """Ask the engine in a process of its own on the server's core -> users/s of everything."""
    with ProcessPoolExecutor(
        1,
        mp_context=get_context("spawn"),
        initializer=os.sched_setaffinity,
        initargs=(0, {server_core()}),
    ) as pool:
        return pool.submit(_engine_rates, root, load, seconds).result()


def _engine_rates(root: Path, load: Load, seconds: float) -> Rates:
    from indexer.release import latest  # noqa: PLC0415  # only this process needs it
    from server.engine import Engine  # noqa: PLC0415
    from server.messages import Choice, EncodeQuestion, RecommendQuestion  # noqa: PLC0415

    engine = Engine.load(latest(root), device="cpu")

    def asked(domain: str, histories: Sequence[History]) -> list[RecommendQuestion]:
        return [
            RecommendQuestion(domain=domain, histories=history, choice=Choice(k=K))
            for history in histories
        ]

    def rate(ask: Callable[[], int]) -> float:
        begun_s = time.perf_counter()
        while time.perf_counter() - begun_s < WARM_UP_S:
            ask()
        done, begun_s = 0, time.perf_counter()
        while time.perf_counter() - begun_s < seconds:
            done += ask()
        return done / (time.perf_counter() - begun_s)

    parts = [load.users[first : first + BATCH] for first in range(0, len(load.users), BATCH)]
    batches = cycle([asked(load.domain, part) for part in parts])
    encoded = cycle([EncodeQuestion(domain=load.domain, users=part) for part in parts])
    rates = {
        "BatchRecommend": rate(lambda: len(engine.recommend(next(batches)))),
        "EncodeUsers": rate(lambda: len(engine.encode(next(encoded)).bases)),
    }
    newcomers = asked(load.elsewhere, load.newcomers)
    for name, share in CASES.items():
        engine.keep_gurs(0 if name == NO_CACHE else KEPT, lambda _hits, _misses: None)
        batched = _batched(arriving(newcomers, share))
        rates[name] = rate(lambda: len(engine.recommend(next(batched))))  # noqa: B023  # called now
    return rates


def wire_rates(root: Path, load: Load, seconds: float) -> Rates:
    """Ask servers, one without a cache and one with -> users/s of everything."""
    rates: Rates = {}
    messages = [message_of(load.elsewhere, history) for history in load.newcomers]

    def newcomers(server: Served, name: str) -> None:
        coming = arriving(messages, CASES[name])
        called(server, "Recommend", coming, in_flight=IN_FLIGHT, seconds=WARM_UP_S)
        before, begun_s, used_s = lookups(server), time.perf_counter(), time.process_time()
        rates[name] = called(server, "Recommend", coming, in_flight=IN_FLIGHT, seconds=seconds)
        used_s, took_s = time.process_time() - used_s, time.perf_counter() - begun_s
        rates[f"{name}, client"] = used_s / took_s
        hits, misses = (now - then for now, then in zip(lookups(server), before, strict=True))
        rates[f"{name}, kept"] = hits / max(hits + misses, 1)

    os.environ["RECGURU_SERVE_GUR_CACHE_ENTRIES"] = "0"
    with served(root, workers=1) as server:
        for method, batches in batches_of(load).items():
            coming = cycle(batches)
            called(server, method, coming, in_flight=BATCHES_IN_FLIGHT, seconds=WARM_UP_S)
            rate = called(server, method, coming, in_flight=BATCHES_IN_FLIGHT, seconds=seconds)
            rates[method] = BATCH * rate
        newcomers(server, NO_CACHE)
    os.environ["RECGURU_SERVE_GUR_CACHE_ENTRIES"] = str(KEPT)
    with served(root, workers=1) as server:
        for name in CASES:
            if name != NO_CACHE:
                newcomers(server, name)
    return rates


def batches_of(load: Load) -> dict[str, list[bytes]]:
    """Write the batch calls, by method."""
    recommend, encode = [], []
    for first in range(0, len(load.users), BATCH):
        requests = [
            pb.RecommendRequest.FromString(message_of(load.domain, history))
            for history in load.users[first : first + BATCH]
        ]
        recommend.append(pb.BatchRecommendRequest(requests=requests).SerializeToString())
        users = [pb.User(histories=request.histories) for request in requests]
        encode.append(pb.EncodeUsersRequest(domain=load.domain, users=users).SerializeToString())
    return {"BatchRecommend": recommend, "EncodeUsers": encode}


def called(
    server: Served, method: str, messages: Iterator[bytes], *, in_flight: int, seconds: float
) -> float:
    """Keep calls waiting at a server -> calls a second; every answer that was asked for counts."""
    return asyncio.run(_called(server.port, SERVICE + method, messages, in_flight, seconds))


async def _called(
    port: int, method: str, messages: Iterator[bytes], in_flight: int, seconds: float
) -> float:
    done = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(method, None, None)
        begun_s = time.perf_counter()

        async def keep_calling() -> None:
            nonlocal done
            while time.perf_counter() - begun_s < seconds:
                await ask(next(messages))
                done += 1

        await asyncio.gather(*(keep_calling() for _ in range(in_flight)))
        return done / (time.perf_counter() - begun_s)


def lookups(server: Served) -> tuple[float, float]:
    """Read how many GURs a server found kept, and how many not."""
    samples = figures(server.metrics(), "recguru_gur_cache_lookups_total")
    counts = {labels["result"]: value for labels, value in samples}
    return counts["hit"], counts["miss"]


if __name__ == "__main__":
    sys.exit(main())
