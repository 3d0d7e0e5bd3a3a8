"""Too many callers, callers in a hurry, and callers that leave."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from model.errors import OverloadedError, RecGuruError
from server.config import QueueLimits
from server.engine import Engine
from server.messages import Recommendation, RecommendQuestion
from server.run import Server
from tests.server.running import WAIT_S, QueueName, connected, recommend, search, serving

REQUEST = recommend("books", {"books": ["b0001"]})


async def test_a_call_over_the_limit_is_refused_at_once_and_those_waiting_are_answered(
    releases: Path,
) -> None:
    async with serving(releases, queue={"max_pending": 5}) as running:
        with running.stalled():
            waiting = [asyncio.ensure_future(running.stub.Recommend(REQUEST)) for _ in range(5)]
            await running.queued(5)
            began_s = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await running.stub.Recommend(REQUEST, timeout=WAIT_S)
            took_s = time.monotonic() - began_s
        answers = await asyncio.wait_for(asyncio.gather(*waiting), WAIT_S)

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.value.details() == ("the server is busy: 5 calls already wait; try again later")
    assert took_s < 1
    assert all(len(answer.items) == 10 for answer in answers)


async def test_who_would_wait_too_long_is_told_when_to_try_again(releases: Path) -> None:
    async with serving(releases, queue={"max_wait_ms": 100}) as running:
        with running.stalled():
            waiting = asyncio.ensure_future(running.stub.Recommend(REQUEST))
            await running.queued(1)
            await asyncio.sleep(0.2)
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        await asyncio.wait_for(waiting, WAIT_S)
        await running.stub.Recommend(REQUEST, timeout=WAIT_S)

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    hints = {entry[0]: entry[1] for entry in refusal.value.trailing_metadata()}  # type: ignore[index]  # pairs
    assert 200 <= int(hints["grpc-retry-pushback-ms"]) < 1000 * WAIT_S


async def test_who_may_come_back_at_once_is_told_a_millisecond(
    releases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OverloadedError("the server is busy", retry_s=1e-4)

    async with serving(releases) as running:
        monkeypatch.setattr(Engine, "recommend", refuse)
        call = running.stub.Recommend(REQUEST, timeout=WAIT_S)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(await call.trailing_metadata())["grpc-retry-pushback-ms"] == "1"


async def test_callers_that_hang_up_leave_the_queue_and_the_others_are_answered(
    releases: Path,
) -> None:
    async with serving(releases) as running:
        with running.stalled():
            calls = [running.stub.Recommend(REQUEST, timeout=WAIT_S) for _ in range(60)]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await running.queued(60)
            for call in calls[::2]:
                call.cancel()
            await running.queued(30)
        answers = await asyncio.gather(*tasks, return_exceptions=True)

    gone, stayed = answers[::2], answers[1::2]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in gone)
    assert all(isinstance(answer, pb.RecommendResponse) for answer in stayed)


def counted(engine: Engine) -> list[int]:
    """Count the questions of each pass that the engine computes from now on."""
    counts: list[int] = []
    compute = engine.recommend

    def count(questions: Sequence[RecommendQuestion]) -> list[Recommendation | RecGuruError]:
        counts.append(len(questions))
        return compute(questions)

    engine.recommend = count  # type: ignore[method-assign]  # to look on
    return counts


def passes_of(engine: Engine) -> list[str]:
    """Note each pass, of any kind, that the engine computes from now on."""
    noted: list[str] = []

    def noting(name: str, compute: Callable[..., object]) -> Callable[..., object]:
        def noted_first(*asked: object) -> object:
            noted.append(name)
            return compute(*asked)

        return noted_first

    for name in ("recommend", "search", "encode"):
        setattr(engine, name, noting(name, getattr(engine, name)))
    return noted


async def test_a_call_whose_deadline_passes_is_never_computed(releases: Path) -> None:
    async with serving(releases) as running:
        computed = counted(running.server.current.engine)
        with running.stalled():
            hurried = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=0.2))
            patient = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=WAIT_S))
            with pytest.raises(grpc.aio.AioRpcError) as expiry:
                await hurried
            await running.queued(1)
        answer = await patient

    assert expiry.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(answer.items) == 10
    assert computed == [1]


async def test_a_deadline_is_kept_though_the_event_loop_is_too_busy_to_hear_of_it(
    releases: Path,
) -> None:
    async with serving(releases) as running:
        computed = counted(running.server.current.engine)
        with running.stalled():
            hurried = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=0.3))
            await running.queued(1)
            time.sleep(0.5)  # noqa: ASYNC251  # nobody learns that the deadline has passed
        time.sleep(0.3)  # noqa: ASYNC251  # the compute thread goes on meanwhile
        with pytest.raises(grpc.aio.AioRpcError) as expiry:
            await hurried
        answer = await running.stub.Recommend(REQUEST, timeout=WAIT_S)

    assert expiry.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(answer.items) == 10
    assert computed == [1]


HURRIED: Mapping[str, tuple[QueueName, object]] = {
    "SearchItems": ("search", search("books", bytes(4 * 16))),
    "BatchRecommend": ("recommend_passes", pb.BatchRecommendRequest(requests=[REQUEST])),
    "EncodeUsers": (
        "encode_passes",
        pb.EncodeUsersRequest(domain="books", users=[pb.User(histories=REQUEST.histories)]),
    ),
}
"""Calls of every other kind: where each waits, and a request."""


@pytest.mark.parametrize("call", HURRIED)
async def test_calls_of_every_other_kind_whose_deadline_passed_unheard_are_not_computed(
    releases: Path, call: str
) -> None:
    queue, request = HURRIED[call]
    async with serving(releases) as running:
        computed = passes_of(running.server.current.engine)
        await running.stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)  # connects
        with running.stalled():
            hurried = asyncio.ensure_future(getattr(running.stub, call)(request, timeout=2))
            await running.queued(1, of=queue)
            time.sleep(2.2)  # noqa: ASYNC251  # nobody learns that the deadline has passed
        behind = running.server._compute._executor.submit(int)  # a pass, if there is one
        behind.result(WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as expiry:
            await hurried
        assert not computed
        await getattr(running.stub, call)(request, timeout=WAIT_S)
        assert len(computed) == 1

    assert expiry.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_of_many_calls_whose_deadline_passed_unheard_at_most_one_pass_is_computed(
    releases: Path,
) -> None:
    async with serving(releases) as running:
        computed = counted(running.server.current.engine)
        with running.stalled():
            hurried = [
                asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=6))
                for _ in range(200)
            ]
            await running.queued(200)
            time.sleep(6.2)  # noqa: ASYNC251  # nobody learns that the deadlines have passed
        time.sleep(0.5)  # noqa: ASYNC251  # the compute thread goes on meanwhile
        ends = await asyncio.gather(*hurried, return_exceptions=True)
        answer = await running.stub.Recommend(REQUEST, timeout=WAIT_S)

    assert {end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.DEADLINE_EXCEEDED
    }
    assert len(answer.items) == 10
    assert computed.pop() == 1
    assert sum(computed) <= QueueLimits().max_users


async def test_when_all_callers_hang_up_the_queue_is_empty_within_a_second(releases: Path) -> None:
    async with serving(releases) as running:
        computed = counted(running.server.current.engine)
        with running.stalled():
            calls = [running.stub.Recommend(REQUEST, timeout=WAIT_S) for _ in range(120)]
            tasks = [asyncio.ensure_future(call) for call in calls]
            await running.queued(120)
            for call in calls:
                call.cancel()
            async with asyncio.timeout(1):
                await running.queued(0)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await running.stub.Recommend(REQUEST, timeout=WAIT_S)

    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert computed == [1]


async def test_health_and_release_answer_while_the_compute_thread_is_busy(releases: Path) -> None:
    async with serving(releases) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        with running.stalled():
            state = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
            release = await running.stub.GetRelease(pb.GetReleaseRequest(), timeout=2)

    assert state.status == health_pb2.HealthCheckResponse.SERVING
    assert release.dimension == 16


async def test_single_calls_have_their_turn_between_the_passes_of_a_batch(releases: Path) -> None:
    async with serving(releases, queue={"max_pass_users": 1}) as running:
        with running.stalled():
            batch = asyncio.ensure_future(
                running.stub.BatchRecommend(
                    pb.BatchRecommendRequest(requests=[REQUEST] * 60), timeout=WAIT_S
                )
            )
            await running.queued(1, of="recommend_passes")
            single = asyncio.ensure_future(running.stub.Recommend(REQUEST, timeout=WAIT_S))
            await running.queued(1)
        done, _ = await asyncio.wait({batch, single}, return_when=asyncio.FIRST_COMPLETED)
        answer = await batch

    assert done == {single}
    assert len(answer.responses) == 60


async def test_a_connection_has_so_many_calls_at_once_and_another_has_its_own(
    releases: Path,
) -> None:
    async with (
        serving(releases, max_connection_calls=2) as running,
        connected(running.server) as other,
    ):
        with running.stalled():
            calls = [asyncio.ensure_future(running.stub.Recommend(REQUEST)) for _ in range(2)]
            await running.queued(2)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await running.stub.Recommend(REQUEST)
            calls.append(asyncio.ensure_future(other.stub.Recommend(REQUEST)))
            await running.queued(3)
        answers = await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)
        again = await running.stub.Recommend(REQUEST)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == (
        "2 calls of this connection are under way, as many as it may have; wait for one to end"
    )
    ids = [item.item_id for item in again.items]
    assert [[item.item_id for item in answer.items] for answer in answers] == [ids] * 3


async def test_a_burst_that_fits_is_answered_whole_and_of_more_grpc_drops_the_rest(
    releases: Path,
) -> None:
    async with serving(releases, max_backlog=50) as running:
        await running.stub.Recommend(REQUEST)
        with ThreadPoolExecutor(1) as elsewhere:
            answered = await flood(running.server, elsewhere, 50)
            dropped = await flood(running.server, elsewhere, 300)
        again = await running.stub.Recommend(REQUEST)

    assert answered == Counter({"OK": 50})
    assert set(dropped) == {"OK", "CANCELLED"}
    assert 50 <= dropped["OK"] <= 101  # one of them may be in Python's hands already
    assert len(again.items) == 10


async def flood(server: Server, elsewhere: Executor, count: int) -> Counter[str]:
    """Send calls that all arrive while the event loop is busy -> how they ended."""
    busy, sent = threading.Event(), threading.Event()

    def send() -> Counter[str]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
            grpc.channel_ready_future(channel).result(WAIT_S)
            busy.wait(WAIT_S)
            stub = pb_grpc.RecommenderStub(channel)
            calls = [stub.Recommend.future(REQUEST, timeout=WAIT_S) for _ in range(count)]
            time.sleep(0.5)  # gRPC's own threads deliver them
            sent.set()
            return Counter(call.code().name for call in calls)

    sending = asyncio.get_running_loop().run_in_executor(elsewhere, send)
    await asyncio.sleep(0.05)
    busy.set()
    sent.wait(WAIT_S)  # the event loop sees nothing meanwhile
    return await sending
