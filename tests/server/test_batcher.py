"""The batcher keeps its callers apart, and its queues take turns."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from model.errors import NotFoundError, OverloadedError
from server.batcher import Batcher

WAIT_S = 10.0  # far longer than any of this takes; a bug fails instead of hanging


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Forward:
    """Multiplies by ten, remembers its batches, and pauses at the passes that are held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = [threading.Event() for _ in range(50)]
        self.held: dict[int, threading.Event] = {}

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        """Run one pass."""
        number = len(self.batches)
        self.batches.append(list(items))
        self.begun[number].set()
        if number in self.held:
            assert self.held[number].wait(WAIT_S)
        return [item * 10 for item in items]

    def hold(self, number: int) -> None:
        """Keep the pass of that number from ending."""
        self.held[number] = threading.Event()

    async def has_begun(self, number: int) -> None:
        """Wait until the pass of that number runs."""
        assert await asyncio.to_thread(self.begun[number].wait, WAIT_S)


Make = Callable[..., Batcher[int, int]]


@pytest.fixture
def forward() -> Forward:
    return Forward()


@pytest.fixture
def make(pool: ThreadPoolExecutor, forward: Forward) -> Make:
    return lambda max_items, max_pending, **more: Batcher(
        forward, executor=pool, max_items=max_items, max_pending=max_pending, **more
    )


@asynccontextmanager
async def busy(batcher: Batcher[int, int], forward: Forward) -> AsyncIterator[None]:
    """Keep the compute thread in a pass over item 0 until the block is left."""
    forward.hold(0)
    first = asyncio.create_task(batcher.submit(0))
    await forward.has_begun(0)
    yield
    forward.held[0].set()
    assert await asyncio.wait_for(first, WAIT_S) == 0


async def waiting(batcher: Batcher[int, int], count: int) -> None:
    """Let callers that are ready go on; all they do before they wait takes one turn of the loop."""
    await asyncio.sleep(0)
    assert batcher.pending == count


async def test_calls_that_come_while_the_thread_is_busy_share_the_next_pass(
    make: Make, forward: Forward
) -> None:
    batcher = make(3, 10)
    async with busy(batcher, forward):
        callers = [asyncio.create_task(batcher.submit(item)) for item in range(1, 6)]
        await waiting(batcher, 5)

    assert await asyncio.wait_for(asyncio.gather(*callers), WAIT_S) == [10, 20, 30, 40, 50]
    assert forward.batches == [[0], [1, 2, 3], [4, 5]]


@pytest.mark.parametrize("quitter", [0, 1, 2])
async def test_a_caller_that_hangs_up_during_its_pass_leaves_the_others_answered(
    make: Make, forward: Forward, quitter: int
) -> None:
    batcher = make(3, 10)
    forward.hold(1)
    async with busy(batcher, forward):
        callers = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await waiting(batcher, 3)
    await forward.has_begun(1)
    callers[quitter].cancel()
    await asyncio.sleep(0)
    forward.held[1].set()

    answers = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), WAIT_S)

    assert isinstance(answers.pop(quitter), asyncio.CancelledError)
    assert answers == [10 * item for item in (1, 2, 3) if item != quitter + 1]


async def test_a_caller_that_hangs_up_before_its_pass_leaves_the_queue_at_once(
    make: Make, forward: Forward
) -> None:
    batcher = make(3, 10)
    async with busy(batcher, forward):
        callers = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await waiting(batcher, 3)
        callers[1].cancel()
        await asyncio.sleep(0)
        await waiting(batcher, 2)

    answers = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), WAIT_S)

    assert [answers[0], answers[2]] == [10, 30]
    assert forward.batches == [[0], [1, 3]]


async def test_a_call_whose_deadline_has_passed_is_dropped_before_it_is_computed(
    make: Make, forward: Forward
) -> None:
    batcher = make(3, 10)
    now_s = time.monotonic()
    async with busy(batcher, forward):
        late = asyncio.create_task(batcher.submit(1, until_s=now_s))
        early = asyncio.create_task(batcher.submit(2, until_s=now_s + 1000))
        await waiting(batcher, 2)

    assert await asyncio.wait_for(early, WAIT_S) == 20
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(late, WAIT_S)
    assert forward.batches == [[0], [2]]


async def test_one_more_than_may_wait_is_refused_at_once(make: Make, forward: Forward) -> None:
    batcher = make(3, 2)
    async with busy(batcher, forward):
        callers = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await waiting(batcher, 2)
        message = r"^the server is busy: 2 calls already wait; try again later$"
        with pytest.raises(OverloadedError, match=message):
            await batcher.submit(3)

    assert await asyncio.wait_for(asyncio.gather(*callers), WAIT_S) == [10, 20]


async def test_who_would_wait_too_long_is_refused_and_told_how_long(
    make: Make, forward: Forward
) -> None:
    batcher = make(8, 8, max_wait_s=0.05)
    async with busy(batcher, forward):
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.1)  # the first in the queue has waited longer than is allowed
        message = r"would wait some \d+ ms, at most 50 are"
        with pytest.raises(OverloadedError, match=message) as caught:
            await batcher.submit(2)
    assert caught.value.retry_s is not None
    assert caught.value.retry_s >= 0.1
    assert await first == 10
    assert await batcher.submit(2) == 20


async def test_a_newcomer_is_judged_by_how_long_the_last_passes_took(
    make: Make, forward: Forward
) -> None:
    batcher = make(1, 8, max_wait_s=0.8)
    async with busy(batcher, forward):
        await asyncio.sleep(0.3)
    forward.hold(1)
    callers = [asyncio.create_task(batcher.submit(1))]
    await forward.has_begun(1)
    callers += [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
    await waiting(batcher, 3)
    with pytest.raises(OverloadedError) as caught:
        await batcher.submit(5)  # after three that take 0.3 s each
    assert caught.value.retry_s == pytest.approx(0.9, rel=0.3)
    forward.held[1].set()
    assert await asyncio.wait_for(asyncio.gather(*callers), WAIT_S) == [10, 20, 30, 40]


async def test_an_error_of_one_item_reaches_its_caller_alone(pool: ThreadPoolExecutor) -> None:
    def forward(items: Sequence[int]) -> list[int | Exception]:
        return [NotFoundError("no 13") if item == 13 else item for item in items]

    batcher = Batcher(forward, executor=pool, max_items=3, max_pending=10)
    callers = [batcher.submit(item) for item in (1, 13, 2)]

    first, failed, last = await asyncio.wait_for(
        asyncio.gather(*callers, return_exceptions=True), WAIT_S
    )

    assert (first, last) == (1, 2)
    assert isinstance(failed, NotFoundError)


async def test_a_pass_that_fails_is_the_end_of_its_own_batch_only(pool: ThreadPoolExecutor) -> None:
    def forward(items: Sequence[int]) -> list[int | Exception]:
        if 13 in items:
            raise ValueError("bad row")
        return list(items)

    batcher = Batcher(forward, executor=pool, max_items=1, max_pending=10)
    callers = [batcher.submit(item) for item in (1, 13, 2)]

    first, failed, last = await asyncio.wait_for(
        asyncio.gather(*callers, return_exceptions=True), WAIT_S
    )

    assert (first, last) == (1, 2)
    assert isinstance(failed, ValueError)


async def test_a_pass_with_too_few_answers_strands_nobody(pool: ThreadPoolExecutor) -> None:
    batcher: Batcher[int, int] = Batcher(
        lambda items: list(items)[1:], executor=pool, max_items=3, max_pending=10
    )

    with pytest.raises(RuntimeError, match="0 answers for 1 items"):
        await asyncio.wait_for(batcher.submit(1), WAIT_S)


async def test_queues_that_share_a_thread_take_turns(
    pool: ThreadPoolExecutor, forward: Forward
) -> None:
    passes = Batcher(forward, executor=pool, max_items=1, max_pending=100)
    calls = Batcher(forward, executor=pool, max_items=2, max_pending=100)
    async with busy(passes, forward):
        many = [asyncio.create_task(passes.submit(item)) for item in range(1, 21)]
        few = [asyncio.create_task(calls.submit(item)) for item in range(100, 104)]
        await waiting(passes, 20)
        await waiting(calls, 4)

    await asyncio.wait_for(asyncio.gather(*many, *few), WAIT_S)

    assert forward.batches[1:5] == [[100, 101], [1], [102, 103], [2]]
