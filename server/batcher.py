"""Gather concurrent calls into forward passes of one compute thread.

Several batchers may share the thread. Each has at most one pass in the thread's queue, so they take
turns however much waits in one of them. What a pass computes is decided when it begins: calls that
came while the thread was busy share it, and a call to an idle server waits for nobody.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from model.errors import OverloadedError

T = TypeVar("T")
R = TypeVar("R")

OnPass = Callable[[Sequence[T], Sequence[float], float, int], None]
"""Told of each pass: how long its items had waited, how long it took, how many still wait."""

_NEWEST = 0.3
"""How much the newest pass counts in the running mean of seconds an item."""


@dataclass(frozen=True, eq=False, slots=True)
class _Waiter(Generic[T, R]):
    item: T
    reply: asyncio.Future[R]
    until_s: float
    since_s: float


class Batcher(Generic[T, R]):
    """Computes the answers of what `submit` is given, in arrival order, as batches.

    A caller that gives up costs its batch nothing: it leaves the queue at once if it has not been
    sent, and its answer is dropped if it has. `forward` may answer some items with an exception of
    their own; one it raises reaches the callers of that batch alone.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        executor: Executor,
        max_items: int,
        max_pending: int,
        max_wait_s: float = math.inf,
        on_pass: OnPass[T] | None = None,
    ) -> None:
        """Make a batcher with nothing waiting.

        Args:
            forward: Runs on the executor; one answer, or exception, for each item, in order.
            executor: Has one thread, and no owner but ours may close it while calls wait.
            max_items: Items in one batch.
            max_pending: Items waiting; the next one is refused rather than queued.
            max_wait_s: Longest wait to let anyone in for, in seconds.
            on_pass: Told of each pass before its callers are, on the executor.
        """
        self._forward = forward
        self._executor = executor
        self._max_items = max_items
        self._max_pending = max_pending
        self._max_wait_s = max_wait_s
        self._on_pass = on_pass
        self._item_s = 0.0
        self._lock = threading.Lock()
        self._waiting: OrderedDict[_Waiter[T, R], None] = OrderedDict()
        self._scheduled = False

    @property
    def pending(self) -> int:
        """How many items wait for their pass to begin."""
        return len(self._waiting)

    async def submit(self, item: T, *, until_s: float = math.inf) -> R:
        """Return the answer for `item`.

        Args:
            item: What to compute.
            until_s: When nobody wants the answer any more, on the clock of `time.monotonic`.

        Raises:
            OverloadedError: If `max_pending` items already wait, or they will take too long.
            asyncio.CancelledError: If `until_s` had passed when its turn came.
        """
        reply: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(item, reply, until_s, time.monotonic())
        self._admit(waiter)
        try:
            return await reply
        finally:
            with self._lock:
                self._waiting.pop(waiter, None)
            if reply.done() and not reply.cancelled():
                reply.exception()  # asyncio complains of errors nobody looked at

    def _admit(self, waiter: _Waiter[T, R]) -> None:
        with self._lock:
            wait_s = self._expected_wait_s(waiter.since_s)
            if len(self._waiting) >= self._max_pending:
                raise OverloadedError(
                    f"the server is busy: {self._max_pending} calls already wait; try again later",
                    retry_s=wait_s,
                )
            if wait_s > self._max_wait_s:
                raise OverloadedError(
                    f"the server is busy: a call would wait some {1000 * wait_s:.0f} ms, at most "
                    f"{1000 * self._max_wait_s:.0f} are allowed; try again later",
                    retry_s=wait_s,
                )
            if not self._scheduled:
                self._executor.submit(self._pass)
                self._scheduled = True
            self._waiting[waiter] = None

    def _expected_wait_s(self, now_s: float) -> float:
        """Judge how long a newcomer would wait: what waits at its usual speed, or worse.

        The first in the queue may have waited longer than that, where the thread is slower than
        usual or has other queues to see to.
        """
        if not self._waiting:
            return 0.0
        first = next(iter(self._waiting))
        return max(len(self._waiting) * self._item_s, now_s - first.since_s)

    def _pass(self) -> None:
        """Compute one batch; runs on the compute thread."""
        try:
            if batch := self._take():
                begun_s, waiting = time.monotonic(), self.pending
                items = [waiter.item for waiter in batch]
                outcomes = self._outcomes(items)
                try:
                    self._count(batch, items, begun_s, waiting)
                finally:
                    batch[0].reply.get_loop().call_soon_threadsafe(_answer, batch, outcomes)
        finally:
            with self._lock:
                self._scheduled = False
                if self._waiting:
                    self._executor.submit(self._pass)
                    self._scheduled = True

    def _count(
        self, batch: Sequence[_Waiter[T, R]], items: Sequence[T], begun_s: float, waiting: int
    ) -> None:
        """Keep the pace of a pass; before its answers go out, so that who has one is counted."""
        took_s = time.monotonic() - begun_s
        item_s = took_s / len(batch)
        self._item_s += (_NEWEST if self._item_s else 1) * (item_s - self._item_s)
        if self._on_pass is not None:
            waits_s = [begun_s - each.since_s for each in batch]
            self._on_pass(items, waits_s, took_s, waiting)

    def _take(self) -> list[_Waiter[T, R]]:
        batch: list[_Waiter[T, R]] = []
        now_s = time.monotonic()
        with self._lock:
            while self._waiting and len(batch) < self._max_items:
                waiter, _ = self._waiting.popitem(last=False)
                if waiter.until_s <= now_s:
                    waiter.reply.get_loop().call_soon_threadsafe(waiter.reply.cancel)
                elif not waiter.reply.done():
                    batch.append(waiter)
        return batch

    def _outcomes(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            outcomes = self._forward(items)
            if len(outcomes) != len(items):
                raise RuntimeError(f"{len(outcomes)} answers for {len(items)} items")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to these callers
            return [error] * len(items)
        return outcomes


def _answer(batch: Sequence[_Waiter[T, R]], outcomes: Sequence[R | Exception]) -> None:
    for waiter, outcome in zip(batch, outcomes, strict=True):
        if waiter.reply.done():  # the caller has hung up
            continue
        if isinstance(outcome, Exception):
            waiter.reply.set_exception(outcome)
        else:
            waiter.reply.set_result(outcome)
