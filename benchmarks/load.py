"""Load on a gRPC server: as much as it takes, or calls at moments that do not wait for answers.

h2load (nghttp2) sends more than a client in Python can, but sees no gRPC status.

Shapes: N calls.
"""

import asyncio
import gc
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import numpy as np
from numpy.typing import NDArray

H2LOAD = "h2load"
OK = "OK"
_CLIENTS = 8
"""Processes of h2load, each with a message of its own: it can send no more than one."""
_IN_THE_AIR = 100_000
"""Calls that each may have sent in a storm before it waits for their end: more than ever are."""
_SPIN_S = 0.002
"""Sleeping is exact to a millisecond; the last part of a wait is spent looking at the clock."""
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of calls sent at fixed moments; each array by call, in the order they were due."""

    begun_s: float
    """On the clock of `time.perf_counter`; what moments are counted from."""
    due_s: NDArray[np.float64]
    """When each call was due, (N,)."""
    late_s: NDArray[np.float64]
    """How much later than due each call was sent: the client's own share, (N,)."""
    took_s: NDArray[np.float64]
    """From the moment each call was due to its end, however it ended, (N,)."""
    ended: list[str]
    """The status each call ended with."""
    answers: list[bytes]
    """What answered calls brought."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Mark the calls that were answered, (N,)."""
        return np.array([status == OK for status in self.ended], np.bool_)

    @property
    def latencies_s(self) -> NDArray[np.float64]:
        """From the moment a call was due to its answer; of answered calls alone."""
        return self.took_s[self.answered]

    @property
    def statuses(self) -> dict[str, int]:
        """Calls by status."""
        return dict(Counter(self.ended))


@dataclass(frozen=True, slots=True)
class Stormed:
    """What a storm of calls came to."""

    sent: float
    """Calls a second that were sent."""
    ended: float
    """Calls a second that ended, answered or refused."""


def closed_loop(
    port: int, method: str, messages: Sequence[bytes], *, seconds: int, in_flight: int
) -> float:
    """Keep `in_flight` calls waiting at a server -> calls answered a second.

    h2load of nghttp2 does it where it is installed, else a client in this process, which takes so
    much of a core itself that a fast server is not seen at its best.
    """
    if shutil.which(H2LOAD):
        options = [f"--duration={seconds}", "--warm-up-time=1"]
        options.append(f"--max-concurrent-streams={in_flight // _CLIENTS}")
        return sum(_rate(said) for said in _h2loads(port, method, messages, options))
    return asyncio.run(_waiting(port, method, messages, seconds=seconds, in_flight=in_flight))


def open_loop(
    port: int, method: str, messages: Sequence[bytes], *, rate: float, seconds: float
) -> Outcome:
    """Send calls at random moments, `rate` a second on average, whatever comes back.

    The moments are those of a Poisson process, as of many callers who know nothing of each other.
    """
    generator = np.random.default_rng(0)
    count = max(1, int(rate * seconds))
    due_s = np.cumsum(generator.exponential(1 / rate, count))
    with _few_collections():
        return asyncio.run(_sent(port, method, messages, due_s))


def storm(
    port: int, method: str, messages: Sequence[bytes], *, rate: float, seconds: int
) -> Stormed:
    """Send `rate` calls a second whatever comes back, refusals included; with h2load alone.

    Raises:
        RuntimeError: If h2load is not installed.
    """
    if not shutil.which(H2LOAD):
        raise RuntimeError(f"{H2LOAD} is not installed; it comes with nghttp2")
    options = [f"--duration={seconds}", f"--rps={rate / _CLIENTS}"]
    options.append(f"--max-concurrent-streams={_IN_THE_AIR}")
    counts = [
        re.search(r"(\d+) started, (\d+) done", said)
        for said in _h2loads(port, method, messages, options)
    ]
    found = [(int(count[1]), int(count[2])) for count in counts if count]
    sent, ended = (sum(column) / seconds for column in zip(*found, strict=True))
    return Stormed(sent, ended)


def _h2loads(
    port: int, method: str, messages: Sequence[bytes], options: Sequence[str]
) -> list[str]:
    """Run all clients at once with these options -> what they said."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        clients = []
        for place in range(_CLIENTS):
            message = messages[place % len(messages)]
            body = Path(name, str(place))
            # A gRPC message is preceded by a byte that says it is not compressed, and its length.
            body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
            command = [H2LOAD, f"--data={body}", "--clients=1", *options]
            command += ["--header=content-type: application/grpc", "--header=te: trailers"]
            command.append(f"http://127.0.0.1:{port}{method}")
            clients.append(
                running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            )
        return [client.communicate()[0] for client in clients]


def _rate(said: str) -> float:
    found = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
    if found is None or failed is None or any(int(count) for count in failed.groups()):
        raise RuntimeError(f"h2load did not get its answers: {said}")
    return float(found[1])


async def _waiting(
    port: int, method: str, messages: Sequence[bytes], *, seconds: int, in_flight: int
) -> float:
    done = 0
    async with _Calls(port, method) as calls:
        end_s = time.perf_counter() + seconds

        async def keep_calling(place: int) -> None:
            nonlocal done
            while time.perf_counter() < end_s:
                await calls.ask(place, messages[(place + done) % len(messages)])
                done += 1

        await asyncio.gather(*(keep_calling(place) for place in range(in_flight)))
    return done / seconds


@contextmanager
def _few_collections() -> Iterator[None]:
    """Keep what there is out of full collections.

    In a process that has imported torch one holds up sender and answers for so long that it would
    be the server's 99th centile.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _sent(
    port: int, method: str, messages: Sequence[bytes], due_s: NDArray[np.float64]
) -> Outcome:
    late, took = np.zeros(len(due_s)), np.zeros(len(due_s))
    ended = [""] * len(due_s)
    answers: list[bytes] = []
    running: set[asyncio.Task[None]] = set()
    async with _Calls(port, method) as calls:
        await asyncio.gather(*(calls.ask(place, messages[0]) for place in range(_CONNECTIONS)))
        begun_s = time.perf_counter()

        async def call(place: int, due: float) -> None:
            late[place] = time.perf_counter() - begun_s - due
            ended[place], answer = await calls.ask(place, messages[place % len(messages)])
            took[place] = time.perf_counter() - begun_s - due
            if answer is not None:
                answers.append(answer)

        for place, due in enumerate(due_s.tolist()):
            while (left := due - (time.perf_counter() - begun_s)) > 0:  # noqa: ASYNC110  # a clock
                await asyncio.sleep(left - _SPIN_S if left > _SPIN_S else 0)
            task = asyncio.create_task(call(place, due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    return Outcome(begun_s, due_s, late, took, ended, answers)


class _Calls:
    """Several connections that calls take turns on; messages go as they are."""

    def __init__(self, port: int, method: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
            for _ in range(_CONNECTIONS)
        ]
        self._ask = [channel.unary_unary(method, None, None) for channel in self._channels]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close(None)

    async def ask(self, place: int, message: bytes) -> tuple[str, bytes | None]:
        """Send one call -> the name of the status it ended with, and its answer if it has one."""
        try:
            answer: bytes = await self._ask[place % _CONNECTIONS](message)
        except grpc.aio.AioRpcError as error:
            return error.code().name, None
        return OK, answer
