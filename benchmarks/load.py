"""Load on a gRPC server: as much as it takes, or calls at moments that do not wait for answers.

Shapes: N calls.
"""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import numpy as np
from numpy.typing import NDArray

H2LOAD = "h2load"
_CLIENTS = 8
"""Processes of h2load, each with a message of its own: it can send no more than one."""
_SPIN_S = 0.002
"""Sleeping is exact to a millisecond; the last part of a wait is spent looking at the clock."""
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of calls sent at fixed moments."""

    latencies_s: NDArray[np.float64]
    """From the moment a call was due to its answer, (N,); of answered calls alone."""
    late_s: NDArray[np.float64]
    """How much later than due each call was sent: the client's own share, (N,)."""
    statuses: dict[str, int]
    """Calls by status."""
    took_s: float


def closed_loop(
    port: int, method: str, messages: Sequence[bytes], *, seconds: int, in_flight: int
) -> float:
    """Keep `in_flight` calls waiting at a server -> calls answered a second.

    h2load of nghttp2 does it where it is installed, else a client in this process, which takes so
    much of a core itself that a fast server is not seen at its best.
    """
    if shutil.which(H2LOAD):
        return _h2load(port, method, messages, seconds=seconds, in_flight=in_flight)
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
    return asyncio.run(_sent(port, method, messages, due_s))


def _h2load(
    port: int, method: str, messages: Sequence[bytes], *, seconds: int, in_flight: int
) -> float:
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        clients = []
        for place in range(_CLIENTS):
            message = messages[place % len(messages)]
            body = Path(name, str(place))
            # A gRPC message is preceded by a byte that says it is not compressed, and its length.
            body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
            command = [H2LOAD, f"--data={body}", f"--duration={seconds}", "--warm-up-time=1"]
            command += ["--clients=1", f"--max-concurrent-streams={in_flight // _CLIENTS}"]
            command += ["--header=content-type: application/grpc", "--header=te: trailers"]
            command.append(f"http://127.0.0.1:{port}{method}")
            clients.append(
                running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            )
        said = [client.communicate()[0] for client in clients]
    return sum(_rate(text) for text in said)


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


async def _sent(
    port: int, method: str, messages: Sequence[bytes], due_s: NDArray[np.float64]
) -> Outcome:
    latencies: list[float] = []
    late = np.zeros(len(due_s))
    statuses: dict[str, int] = {}
    running: set[asyncio.Task[None]] = set()
    async with _Calls(port, method) as calls:
        await asyncio.gather(*(calls.ask(place, messages[0]) for place in range(_CONNECTIONS)))
        begun_s = time.perf_counter()

        async def call(place: int, due: float) -> None:
            late[place] = time.perf_counter() - begun_s - due
            status = await calls.ask(place, messages[place % len(messages)])
            statuses[status] = statuses.get(status, 0) + 1
            if status == "OK":
                latencies.append(time.perf_counter() - begun_s - due)

        for place, due in enumerate(due_s.tolist()):
            while (left := due - (time.perf_counter() - begun_s)) > 0:  # noqa: ASYNC110  # a clock
                await asyncio.sleep(left - _SPIN_S if left > _SPIN_S else 0)
            task = asyncio.create_task(call(place, due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        took_s = time.perf_counter() - begun_s
    return Outcome(np.asarray(latencies), late, statuses, took_s)


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

    async def ask(self, place: int, message: bytes) -> str:
        """Send one call; name the status it ended with."""
        try:
            await self._ask[place % _CONNECTIONS](message)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"
