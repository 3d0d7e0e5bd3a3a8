"""What an operator sees: every figure counts what it says; those of workers: `test_workers`."""

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from recguru.v1 import recommender_pb2 as pb

from server.run import Server
from tests.server.processes import failure
from tests.server.running import WAIT_S, recommend, serving

KNOWN = recommend("films", {"films": ["f0001", "f0002", "nowhere"], "books": ["b0001"]})
Figures = Mapping[tuple[str, tuple[str, ...]], float]


def read(text: str) -> Figures:
    """Read an exposition -> values by name and values of the labels, in the order of theirs."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figures_of(server: Server) -> Figures:
    return read(generate_latest(server.metrics.registry).decode())


async def test_calls_are_counted_by_how_they_ended(releases: Path) -> None:
    async with serving(releases, queue={"max_pending": 1}) as running:
        for _ in range(3):
            await running.stub.Recommend(KNOWN)
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.Recommend(recommend("songs", {}))
        with pytest.raises(grpc.aio.AioRpcError):
            await running.stub.Recommend(recommend("films", {}, k=0))
        with running.stalled():
            waiting = running.stub.Recommend(KNOWN)
            await running.queued(1)
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.Recommend(KNOWN)
            waiting.cancel()
            await running.queued(0)
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.Recommend(KNOWN, timeout=0.1)
            await running.queued(0)
        found = figures_of(running.server)
    calls = {
        labels[2]: value for (name, labels), value in found.items() if name == "recguru_calls_total"
    }
    assert calls == {
        "OK": 3,
        "NOT_FOUND": 1,
        "INVALID_ARGUMENT": 1,
        "RESOURCE_EXHAUSTED": 1,
        "CANCELLED": 1,
        "DEADLINE_EXCEEDED": 1,
    }
    assert found["recguru_call_seconds_count", ("stable", "Recommend")] == 8


async def test_answers_passes_and_unknown_items_are_counted(releases: Path) -> None:
    async with serving(releases) as running:
        with running.stalled():
            calls = [asyncio.ensure_future(running.stub.Recommend(KNOWN)) for _ in range(5)]
            await running.queued(5)
            await asyncio.sleep(0.1)
        await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)
        new = recommend("films", {"books": ["b0001"]})
        batch = pb.BatchRecommendRequest(requests=[new, recommend("books", {})])
        await running.stub.BatchRecommend(batch)
        users = [pb.User()] * 3
        await running.stub.EncodeUsers(pb.EncodeUsersRequest(domain="films", users=users))
        found = figures_of(running.server)
    assert found["recguru_answers_total", ("personalized", "films", "stable")] == 5
    assert found["recguru_answers_total", ("cross-domain", "films", "stable")] == 1
    assert found["recguru_answers_total", ("popularity", "books", "stable")] == 1
    assert found["recguru_unknown_history_items_total", ("films",)] == 5
    assert found["recguru_pass_items_count", ("recommend",)] == 1
    assert found["recguru_pass_items_sum", ("recommend",)] == 5
    assert found["recguru_queue_wait_seconds_sum", ("recommend",)] >= 0.5  # five, 0.1 s each
    assert found["recguru_pass_seconds_count", ("batch_recommend",)] == 1
    assert found["recguru_pass_items_sum", ("batch_recommend",)] == 2
    assert found["recguru_pass_items_sum", ("encode",)] == 3
    assert found["recguru_queue_waiting", ("recommend",)] == 0


async def test_a_batch_that_fails_counts_no_answers(releases: Path) -> None:
    bad = recommend("books", {"nowhere": ["x"]})
    async with serving(releases) as running:
        with pytest.raises(grpc.aio.AioRpcError, match=r"requests\[2\]"):
            await running.stub.BatchRecommend(
                pb.BatchRecommendRequest(requests=[KNOWN, KNOWN, bad]), timeout=WAIT_S
            )
        found = figures_of(running.server)
    assert not [name for name, _ in found if name == "recguru_answers_total"]


async def test_the_release_that_answers_is_named_and_reloads_are_counted(
    releases: Path, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    version = (releases / "LATEST").read_text(encoding="utf-8").strip()
    other, broken = (f"{version[:-2]}{number:02x}" for number in (1, 2))
    for name in (version, other, broken):
        _copy(releases / version, root / name)
    (root / broken / "index" / "films.faiss").write_bytes(b"")
    (root / "LATEST").write_text(version, encoding="utf-8")
    async with serving(root, poll_s=0.05) as running:
        for name in (other, broken):
            (root / "LATEST").write_text(name, encoding="utf-8")
            await asyncio.wait_for(_until_reloads(running.server), WAIT_S)
        found = figures_of(running.server)
        loaded = running.server.current.engine.version
    shown = {
        labels[3]: value
        for (name, labels), value in found.items()
        if name == "recguru_release_info"
    }
    assert loaded.release == other
    assert shown == {version: 0, other: 1}
    assert found["recguru_release_info", (loaded.index, "stable", loaded.model, other)] == 1
    assert found["recguru_reloads_total", ("stable", "swapped")] == 1
    assert found["recguru_reloads_total", ("stable", "refused")] == 1


def test_a_taken_metrics_port_is_one_line_and_exit_code_1(releases: Path) -> None:

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = failure(
            "--releases", releases, "--port", "0", "--metrics-port", str(port), "--device", "cpu"
        )
    assert code == 1
    assert said == (
        f"error: cannot serve metrics on 127.0.0.1:{port}: Address already in use; "
        "choose another --metrics-port\n"
    )


def _copy(source: Path, place: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            copied = place / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())


async def _until_reloads(server: Server) -> None:
    """Wait until another release has been taken up or refused."""

    def reloads() -> float:
        return sum(
            value
            for (name, _), value in figures_of(server).items()
            if name == "recguru_reloads_total"
        )

    before = reloads()
    while reloads() == before:  # noqa: ASYNC110  # no event to wait for
        await asyncio.sleep(0.02)
