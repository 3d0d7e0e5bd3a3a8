"""Serving a release whose index is kept in Milvus: the same answers, until Milvus is lost."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from indexer.build import Extras, build
from indexer.publish import latest
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.console import progress
from server.releases import Current
from tests.client.serving import HOST, server_in_thread
from tests.milvus_process import MilvusProcess, milvus_in
from tests.server.processes import failure, port_of, process
from tests.server.running import WAIT_S, recommend, serving

PERSONAL = recommend("films", {"films": ["f0001", "f0002"], "books": ["b0003"]})
ELSEWHERE = recommend("films", {"books": ["b0003", "b0004"]}, k=7, exclude=["f0000", "f0009"])
POPULAR = recommend("films", {})
AMONG = recommend("films", {"films": ["f0001"]}, candidates="every-third")
LISTED = recommend("films", {"films": ["f0001"]}, candidates=["f0005", "f0050", "nobody's"])
REQUESTS = (PERSONAL, ELSEWHERE, POPULAR, AMONG, LISTED)
DEADLINE_S = 8.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A release root whose index is kept in Milvus."""

    root: Path
    milvus: MilvusProcess
    bundle: Bundle
    candidates: Path

    def build(self) -> str:
        """Build another release -> its version."""
        with progress("index", 4, quiet=True) as advance:
            built = build(
                self.bundle,
                Store(self.root, self.milvus.settings()),
                settings=IndexSettings.model_validate(
                    {"kind": "milvus", "device": "cpu", "milvus": {"structure": "flat"}}
                ),
                extras=Extras(candidates={"every-third": self.candidates}),
                advance=advance,
            )
        return built.folder.name


@pytest.fixture(scope="module")
def kept(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("milvus")
    with milvus_in(folder / "data") as running:
        bundle = Bundle.read(latest(releases) / "bundle")
        made = Kept(folder / "releases", running, bundle, releases.parent / "every-third.txt")
        made.build()
        yield made


def answers(stub: pb_grpc.RecommenderStub, requests: Sequence[pb.RecommendRequest]) -> list[object]:
    """Ask one after the other -> items and scores."""
    replies = [stub.Recommend(request, timeout=DEADLINE_S) for request in requests]
    return [[(item.item_id, item.score) for item in reply.items] for reply in replies]


def refused(stub: pb_grpc.RecommenderStub, request: pb.RecommendRequest) -> tuple[str, str | None]:
    """Ask what cannot be answered -> status and text; within the deadline."""
    began_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as failed:
        stub.Recommend(request, timeout=DEADLINE_S)
    assert time.monotonic() - began_s < DEADLINE_S
    return failed.value.code().name, failed.value.details()


def healed(stub: pb_grpc.RecommenderStub) -> None:
    """Ask until it is answered."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            stub.Recommend(PERSONAL, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


LOST = ("UNAVAILABLE", "the engine that keeps the index does not answer; try again later")


def test_a_server_answers_as_from_an_exact_index_until_milvus_is_lost_and_again_when_it_is_back(
    kept: Kept, releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECGURU_MILVUS_TIMEOUT_S", "0.5")
    uri = str(kept.milvus.settings().uri)
    port_file = tmp_path / "port"
    options = ("--port", "0", "--device", "cpu", "--port-file", port_file, "--milvus-uri", uri)
    with (
        server_in_thread(releases) as exact,
        process("--releases", kept.root, *options) as running,
        grpc.insecure_channel(f"{HOST}:{exact.port}") as exact_channel,
        grpc.insecure_channel(f"127.0.0.1:{port_of(running, port_file)}") as channel,
    ):
        stub = pb_grpc.RecommenderStub(channel)
        expected = answers(pb_grpc.RecommenderStub(exact_channel), REQUESTS)
        assert answers(stub, REQUESTS) == expected
        info = stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)
        assert {domain.index_kind for domain in info.domains} == {"milvus"}

        kept.milvus.kill()
        assert refused(stub, PERSONAL) == refused(stub, ELSEWHERE) == LOST
        own = [POPULAR, AMONG, LISTED]
        assert answers(stub, own) == expected[2:], "what needs no index is answered"
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING

        kept.milvus.start()
        healed(stub)
        assert answers(stub, REQUESTS) == expected
        with kept.milvus.frozen():  # connected, and silent
            assert refused(stub, PERSONAL) == LOST
        healed(stub)
        running.terminate()
        _, logged = running.communicate(timeout=WAIT_S)

    assert "search failed collection=recguru_films_" in logged
    assert "Traceback" not in logged


async def test_calls_that_need_no_index_are_answered_beside_those_that_do(kept: Kept) -> None:
    settings = kept.milvus.settings(timeout_s=0.5)
    async with serving(kept.root, milvus=settings) as running:
        await running.stub.Recommend(PERSONAL, timeout=DEADLINE_S)
        with kept.milvus.frozen():
            with running.stalled():
                calls = [
                    running.stub.Recommend(request, timeout=DEADLINE_S)
                    for request in (PERSONAL, POPULAR, ELSEWHERE, AMONG)
                ]
                await running.queued(len(calls))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)

    codes = [
        outcome.code().name if isinstance(outcome, grpc.aio.AioRpcError) else "OK"
        for outcome in outcomes
    ]
    assert codes == ["UNAVAILABLE", "OK", "UNAVAILABLE", "OK"]


async def test_a_release_whose_index_does_not_answer_is_taken_up_once_it_does(kept: Kept) -> None:
    settings = kept.milvus.settings(timeout_s=0.5)
    async with serving(kept.root, milvus=settings, poll_s=0.05) as running:
        before = running.server.current.engine.version.release
        newer = kept.build()
        await reached(running.server.current, newer)

        kept.milvus.kill()
        (kept.root / "LATEST").write_text(f"{before}\n", encoding="utf-8")
        await asyncio.sleep(0.5)
        assert running.server.current.engine.version.release == newer
        kept.milvus.start()

        await reached(running.server.current, before)


async def reached(current: Current, version: str) -> None:
    """Wait until a version is the one that answers."""
    async with asyncio.timeout(WAIT_S):
        while current.engine.version.release != version:  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"RECGURU_MILVUS_URI": "http://127.0.0.1:1"}, "http://127.0.0.1:1 cannot connect: "),
        pytest.param({}, "setting milvus.uri: say where Milvus runs", marks=pytest.mark.slow),
    ],
)
def test_a_server_without_milvus_does_not_start_and_says_why_in_one_line(
    kept: Kept, environment: dict[str, str], reason: str
) -> None:
    code, said = failure("--releases", kept.root, "--port", "0", "--device", "cpu", **environment)

    assert code == 1
    assert len(said.strip().splitlines()) == 1
    assert reason in said


@pytest.mark.slow
def test_several_workers_reach_milvus_and_check_tells_of_it(kept: Kept, tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(f'[milvus]\nuri = "{kept.milvus.settings().uri}"\n', encoding="utf-8")
    port_file = tmp_path / "port"
    common = ("--releases", kept.root, "--config", config, "--device", "cpu")
    code, said = failure(*common, "--check")
    assert code == 0, said
    with (
        process(*common, "--port", "0", "--port-file", port_file, "--workers", "2") as running,
        grpc.insecure_channel(f"127.0.0.1:{port_of(running, port_file)}") as channel,
    ):
        assert answers(pb_grpc.RecommenderStub(channel), [PERSONAL])[0]
        running.terminate()
        running.wait(WAIT_S)
