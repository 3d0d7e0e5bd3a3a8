"""Two releases side by side: who gets which, for how long, and what is said of it."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from recguru.v1 import recommender_pb2 as pb

from indexer.publish import Canary, activate, end_canary, latest, try_out, versions
from model.errors import UnavailableIndexError
from server.engine import Engine
from server.run import Server
from tests.server.running import WAIT_S, Serving, recommend, search, serving
from tests.server.test_metrics import figures_of
from tests.server.three_domains import release_of

POLL_S = 0.05
REQUEST = recommend("books", {"books": ["b0001", "b0002"]})
KEYS = [f"user-{number}" for number in range(1000)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish two releases of unlike networks, to be copied; the older one is active."""
    folder = tmp_path_factory.mktemp("made")
    root = release_of(folder, "cold", seed=1)
    release_of(folder, "cold", seed=2)
    activate(root, versions(root)[0])
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """Return the two releases in a root of the test's own."""
    return shutil.copytree(published, tmp_path / "made" / "releases")


async def releases_for(
    running: Serving, keys: Sequence[str | None], version: str | None = None
) -> list[str]:
    """Ask for each key; say which release answered."""

    async def ask(key: str | None) -> str:
        metadata = [] if key is None else [("recguru-key", key)]
        metadata += [] if version is None else [("recguru-release", version)]
        answer = await running.stub.Recommend(REQUEST, metadata=metadata, timeout=WAIT_S)
        return str(answer.version.release)

    return list(await asyncio.gather(*map(ask, keys)))


async def until(server: Server, canary: str | None) -> None:
    """Wait until that release is tried out, or none is."""
    async with asyncio.timeout(WAIT_S):
        while canary != (server.current.canary and server.current.canary.version.release):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def refusals(server: Server) -> float:
    """Count the canaries refused; one that is seen half written counts too."""
    return figures_of(server).get(("recguru_reloads_total", ("canary", "refused")), 0)


async def test_the_share_of_keys_gets_the_canary_each_always_the_same(root: Path) -> None:
    old, new = versions(root)
    try_out(root, Canary(new, 0.2))
    settings: dict[str, Any] = {
        "poll_s": POLL_S,
        "max_connection_calls": 1000,
        "max_backlog": 1000,
    }
    async with serving(root, **settings) as running, serving(root, **settings) as other:
        answers = await releases_for(running, KEYS)
        again = await releases_for(running, KEYS[:100])
        elsewhere = await releases_for(other, KEYS[:100])
        nobody = await releases_for(running, [None] * 20)
        try_out(root, Canary(new, 0.5))
        async with asyncio.timeout(WAIT_S):
            while await releases_for(running, KEYS[:100]) == again:
                pass
        wider = await releases_for(running, KEYS)
    assert 150 <= answers.count(new) <= 250  # of 1,000 at 0.2: four deviations either side
    assert again == elsewhere == answers[:100]
    assert nobody == [old] * 20
    assert 436 <= wider.count(new) <= 564
    assert all(second == new for first, second in zip(answers, wider, strict=True) if first == new)


async def test_another_canary_draws_other_keys(root: Path, tmp_path: Path) -> None:
    release_of(tmp_path / "made", "cold", seed=3)
    old, second, third = versions(root)
    activate(root, old)
    chosen = []
    async with serving(root, poll_s=POLL_S) as running:
        for version in (second, third):
            try_out(root, Canary(version, 0.3))
            await until(running.server, version)
            current = running.server.current
            chosen.append({key for key in KEYS if current.lane_for(key).value == "canary"})
    both = len(chosen[0] & chosen[1])
    assert 50 <= both <= 130  # 0.09 of 1,000 where the two have nothing to do with each other


async def test_an_answer_comes_whole_from_the_release_it_names(root: Path) -> None:
    old, new = versions(root)
    async with serving(root) as running:
        by_old = await running.stub.Recommend(REQUEST, timeout=WAIT_S)
    try_out(root, Canary(new, 1.0))
    keyed = [("recguru-key", "anybody")]
    async with serving(root) as running:
        stable = await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        tried = await running.stub.Recommend(REQUEST, timeout=WAIT_S, metadata=keyed)
        batch = pb.BatchRecommendRequest(requests=[REQUEST] * 3)
        batched = await running.stub.BatchRecommend(batch, metadata=keyed)
        users = pb.EncodeUsersRequest(domain="books", users=[pb.User(histories=REQUEST.histories)])
        encoded = await running.stub.EncodeUsers(users, metadata=keyed)
        vector = search("books", encoded.preferences, exclude=["b0001", "b0002"])
        found = await running.stub.SearchItems(vector, metadata=keyed)
        told = await running.stub.GetRelease(pb.GetReleaseRequest(), metadata=keyed)
    assert [item.item_id for item in stable.items] == [item.item_id for item in by_old.items]
    assert stable.version.release == old
    said = {answer.version.release for answer in (tried, *batched.responses)}
    said |= {encoded.version.release, found.version.release, told.version.release}
    assert said == {new}
    assert [item.item_id for item in tried.items] != [item.item_id for item in stable.items]
    assert [item.item_id for item in tried.items[:3]] == [item.item_id for item in found.items]


async def test_a_release_can_be_asked_by_its_name(root: Path) -> None:
    old, new = versions(root)
    try_out(root, Canary(new, 0.0))
    async with serving(root) as running:
        assert await releases_for(running, KEYS[:20]) == [old] * 20
        assert await releases_for(running, ["a", None], version=new) == [new, new]
        assert await releases_for(running, ["a", None], version=old) == [old, old]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await releases_for(running, [None], version="tomorrow's")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert unknown.value.details() == (f'release "tomorrow\'s" is not loaded; {old}, {new} is')


async def test_a_canary_begins_ends_and_becomes_stable_while_calls_are_answered(
    root: Path,
) -> None:
    old, new = versions(root)
    answers: Counter[str] = Counter()
    async with serving(root, poll_s=POLL_S) as running:
        server = running.server

        async def ask_on() -> None:
            while True:
                answers.update(await releases_for(running, KEYS[:4]))

        asking = asyncio.create_task(ask_on())
        for _ in range(2):
            try_out(root, Canary(new, 1.0))
            await until(server, new)
            assert await releases_for(running, KEYS[:4]) == [new] * 4
            end_canary(root)
            await until(server, None)
            assert await releases_for(running, KEYS[:4]) == [old] * 4
        try_out(root, Canary(new, 0.5))
        await until(server, new)
        activate(root, new)
        await until(server, None)
        assert await releases_for(running, [*KEYS[:4], None]) == [new] * 5
        assert not asking.done()  # no call has failed
        asking.cancel()
        found = figures_of(server)
    assert set(answers) == {old, new}
    shown = {
        (labels[1], labels[3]): value
        for (name, labels), value in found.items()
        if name == "recguru_release_info"
    }
    assert shown == {("stable", old): 0, ("canary", new): 0, ("stable", new): 1}
    assert found["recguru_reloads_total", ("canary", "swapped")] == 3
    assert found["recguru_reloads_total", ("stable", "swapped")] == 1
    assert found["recguru_calls_total", ("canary", "Recommend", "OK")] >= 8
    assert found["recguru_answers_total", ("personalized", "books", "canary")] >= 8


async def test_a_broken_canary_is_refused_and_everybody_gets_the_stable_release(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = versions(root)
    try_out(root, Canary(new, 1.0))
    async with serving(root, poll_s=POLL_S) as running:
        await until(running.server, new)
        damaged = root / new / "index" / "books.faiss"
        content = damaged.read_bytes()
        damaged.unlink()  # a mapped file is never written to
        damaged.write_bytes(content[:-1])
        await until(running.server, None)
        assert latest(root).name == old
        assert await releases_for(running, KEYS[:4]) == [old] * 4
        (root / "CANARY").write_text("nonsense\n", encoding="utf-8")
        async with asyncio.timeout(WAIT_S):
            while refusals(running.server) < 2:  # noqa: ASYNC110  # no event to wait for
                await asyncio.sleep(0.02)
        assert await releases_for(running, KEYS[:4]) == [old] * 4
    refused = [record.message for record in caplog.records if "refused" in record.message]
    assert refused[0].startswith(f"canary refused, still serving release={old} reason: ")
    assert "books.faiss" in refused[0]
    assert "names 'nonsense'" in refused[-1]


async def test_a_broken_canary_keeps_no_server_from_starting(root: Path) -> None:
    (root / "CANARY").write_text("nonsense\n", encoding="utf-8")
    async with serving(root) as running:
        assert await releases_for(running, KEYS[:4]) == [versions(root)[0]] * 4


async def test_a_canary_that_cannot_be_looked_at_ends_neither_the_watch_nor_the_server(
    root: Path,
) -> None:
    _, new = versions(root)
    gone = f"{new[:-12]}{'0' * 12}"
    (root / gone).symlink_to("x" * 300)  # no name of a file: it can be neither found nor missed
    (root / "CANARY").write_text(f"{gone} 0.5\n", encoding="utf-8")
    async with serving(root, poll_s=POLL_S) as running:
        assert refusals(running.server) == 1
        try_out(root, Canary(new, 1.0))
        await until(running.server, new)
        (root / "CANARY").write_text(f"{gone} 0.5\n", encoding="utf-8")
        await until(running.server, None)
        end_canary(root)
        activate(root, new)
        async with asyncio.timeout(WAIT_S):
            while await releases_for(running, [None]) != [new]:  # noqa: ASYNC110  # the server is to be asked
                await asyncio.sleep(POLL_S)


async def test_a_canary_that_fails_fails_no_call_of_the_stable_release_in_its_pass(
    root: Path,
) -> None:
    old, new = versions(root)
    try_out(root, Canary(new, 1.0))
    async with serving(root) as running:
        tried = running.server.current.canary
        assert tried is not None
        with torch.no_grad():
            for weight in tried._inference._networks.parameters():
                weight.fill_(3e38)
        with running.stalled():
            asked = [asyncio.create_task(releases_for(running, [key])) for key in ("a", None)]
            await running.queued(2)
        by_new, by_old = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(by_new, grpc.aio.AioRpcError)
    assert by_new.code() is grpc.StatusCode.INTERNAL
    assert by_old == [old]


async def test_who_names_a_release_is_answered_by_no_other_though_it_is_replaced(
    root: Path,
) -> None:
    old, new = versions(root)
    try_out(root, Canary(new, 0.0))
    async with serving(root, poll_s=3600) as running:
        with running.stalled():
            names = (old, new)
            asked = [
                asyncio.create_task(releases_for(running, [None], version=name)) for name in names
            ]
            await running.queued(2)
            activate(root, new)
            await running.server._watcher.look()
        by_old, by_new = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(by_old, grpc.aio.AioRpcError)
    assert by_old.code() is grpc.StatusCode.NOT_FOUND
    assert by_old.details() == f"release '{old}' is not loaded; {new} is"
    assert by_new == [new]


async def test_a_refused_release_is_not_tried_again_for_a_canary_whose_index_is_silent(
    root: Path,
) -> None:
    _, new = versions(root)
    async with serving(root, poll_s=3600) as running:
        watcher = running.server._watcher

        def silent(folder: Path) -> Engine:
            raise UnavailableIndexError(f"{folder.name} is kept where nobody answers")

        watcher._load_engine = silent
        try_out(root, Canary(new, 0.5))
        (root / "LATEST").write_text("nowhere\n", encoding="utf-8")
        for _ in range(3):
            await watcher.look()
        found = figures_of(running.server)
    assert found["recguru_reloads_total", ("canary", "refused")] == 3
    assert found["recguru_reloads_total", ("stable", "refused")] == 1
