"""A question asked again and again in a thread of its own, while something else goes on."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc
import numpy as np

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Asked(Generic[R]):
    """What came of a question, each time it was asked."""

    took_s: list[float] = field(default_factory=list)
    """From the moment it was due to its answer; infinite where there was none."""
    answers: list[tuple[float, R]] = field(default_factory=list)
    """When each came, on the clock of `time.perf_counter`, and what it was."""
    failures: list[str] = field(default_factory=list)
    """Why there was no answer."""


@contextmanager
def asking(ask: Callable[[], R], *, every_s: float) -> Iterator[Asked[R]]:
    """Ask until the block is left; who waits long for an answer asks late, and is counted so."""
    asked: Asked[R] = Asked()
    over = threading.Event()

    def keep_asking() -> None:
        due_s = time.perf_counter()
        while not over.wait(max(0.0, due_s - time.perf_counter())):
            took_s = math.inf
            try:
                answer = ask()
            except (grpc.RpcError, OSError) as error:
                asked.failures.append(" ".join(str(error).split()))
            else:
                now_s = time.perf_counter()
                took_s = now_s - due_s
                asked.answers.append((now_s, answer))
            asked.took_s.append(took_s)
            due_s += every_s

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(keep_asking)
        try:
            yield asked
        finally:
            over.set()
        done.result()


def p99(values: "np.typing.ArrayLike") -> float:
    """Give the 99th percentile; infinite where there is nothing, for nothing was shown then."""
    found = np.asarray(values, np.float64)
    # Between infinite neighbours there is nothing to interpolate.
    return float(np.percentile(found, 99, method="higher")) if len(found) else math.inf
