"""Releases come and go under a server that keeps answering."""

import asyncio
import errno
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2 as pb
from torch import nn

from indexer.build import build
from indexer.publish import LATEST, latest
from indexer.spec import IndexSettings
from indexer.store import Store
from model import files
from model.bundle import Bundle
from model.console import progress
from model.data.dataset import Dataset
from model.errors import BadArtifactError
from model.files import write_bytes_atomically
from model.networks.settings import Memory, NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.export import export_bundle
from server.call import Lane
from server.engine import Engine
from server.messages import EncodeQuestion
from server.run import Server
from tests.server.running import WAIT_S, Serving, recommend, serving, settings_of

REQUEST = recommend("books", {"books": ["b0001", "b0002"]})
POLL_S = 0.05


@pytest.fixture
def root(releases: Path, tmp_path: Path) -> Path:
    """Copy the release root: what a test does to it stays in the test."""
    return Path(shutil.copytree(releases, tmp_path / "releases"))


@pytest.fixture(scope="module")
def other_bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle whose networks differ from the tiny bundle's in weights and width."""
    return bundle_of(tiny_dataset, tmp_path_factory.mktemp("other") / "bundle", lambda _: None)


@pytest.fixture(scope="module")
def hollow_bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle that is finite and complete, but whose networks overflow."""
    return bundle_of(tiny_dataset, tmp_path_factory.mktemp("hollow") / "bundle", overflow)


def overflow(network: nn.Module) -> None:
    """Set weights that are finite, but whose products are not."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "items" not in name:
                weight.fill_(3e38)


def bundle_of(
    dataset: Path,
    folder: Path,
    change: Callable[[ServingNetworks], None],
    memory: Memory = "both",
) -> Path:
    data = Dataset.read(dataset)
    settings = NetworkSettings(
        width=24,
        heads=2,
        layers=1,
        feed_forward=32,
        max_history=8,
        recent=8,
        dropout=0.0,
        memory=memory,
    )
    items = {domain.name: len(domain.vocabulary) for domain in data.domains}
    networks = ServingNetworks(items, settings)
    initialise(networks, torch.Generator().manual_seed(11))
    change(networks)
    export_bundle(folder, data, networks, settings, training={"by": "tests"})
    return folder


def publish(bundle: Path, root: Path) -> Path:
    with progress("index", 4) as advance:
        return build(
            Bundle.read(bundle), Store(root), settings=IndexSettings(device="cpu"), advance=advance
        ).folder


def point(root: Path, version: Path) -> None:
    write_bytes_atomically(root / LATEST, f"{version.name}\n".encode())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    write_bytes_atomically(path, bytes(content))


async def version(running: Serving) -> str:
    info = await running.stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)
    return info.version.release


async def serves(running: Serving, folder: Path) -> None:
    """Wait until a release answers."""
    async with asyncio.timeout(WAIT_S):
        while await version(running) != folder.name:  # noqa: ASYNC110  # the server is to be asked
            await asyncio.sleep(POLL_S)


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_new_release_is_swapped_in_whole_while_calls_go_on(
    root: Path, other_bundle: Path
) -> None:
    before = latest(root)
    stop = asyncio.Event()
    answers: list[pb.RecommendResponse] = []

    async def ask(running: Serving) -> None:
        while not stop.is_set():
            answers.append(await running.stub.Recommend(REQUEST, timeout=WAIT_S))

    async with serving(root, poll_s=POLL_S) as running:
        asking = [asyncio.create_task(ask(running)) for _ in range(4)]
        after = await asyncio.to_thread(publish, other_bundle, root)
        await serves(running, after)
        last = await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        info = await running.stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)
        stop.set()
        await asyncio.gather(*asking)

    pairs = {(answer.version.release, answer.version.model) for answer in answers}
    assert pairs <= {
        (before.name, Bundle.read(before / "bundle").digest),
        (after.name, Bundle.read(other_bundle).digest),
    }
    assert last.version.release == after.name
    assert [item.item_id for item in last.items] != [item.item_id for item in answers[0].items]
    assert (info.dimension, info.max_history) == (24, 8)


@pytest.mark.parametrize("missing", ["manifest.json", "index/films.faiss"])
async def test_a_file_that_is_missing_is_damage_which_is_refused_once(
    root: Path,
    other_bundle: Path,
    missing: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk may do better the next time; a file that was never written does not come."""
    monkeypatch.setattr("server.releases._FIRST_PAUSE_S", 0.0)
    async with serving(root, poll_s=3600) as running:
        bad = await asyncio.to_thread(publish, other_bundle, root)
        (bad / missing).unlink()
        for _ in range(5):
            await running.server._watcher.look()

        (refusal,) = refusals(caplog)
        assert missing in refusal


@pytest.mark.parametrize("damaged", ["bundle/networks.safetensors", "index/films.faiss"])
async def test_a_damaged_release_is_refused_once_and_the_old_one_goes_on_serving(
    root: Path, other_bundle: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = latest(root)
    async with serving(root, poll_s=3600) as running:
        bad = await asyncio.to_thread(publish, other_bundle, root)
        flip(bad / damaged)
        for _ in range(5):
            await running.server._watcher.look()
        health = await health_pb2_grpc.HealthStub(running.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=WAIT_S
        )
        answer = await running.stub.Recommend(REQUEST, timeout=WAIT_S)

        assert answer.version.release == before.name
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        (refusal,) = refusals(caplog)
        assert refusal == (
            f"release refused, still serving release={before.name} reason: "
            f"{bad / damaged} is damaged: its SHA-256 is not the manifest's"
        )

        flip(bad / damaged)
        await running.server._watcher.look()
        assert await version(running) == bad.name


async def test_a_release_that_the_disk_kept_from_being_read_is_read_again(
    root: Path,
    other_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hidden = BadArtifactError("a file cannot be read: I/O error")
    hidden.__context__ = OSError(errno.EIO, "I/O error")
    failures: list[Exception] = [OSError(errno.ESTALE, "Stale file handle"), MemoryError(), hidden]
    sha256_of = files.sha256_of

    def unreliable(path: Path) -> str:
        if failures:
            raise failures.pop(0)
        return sha256_of(path)

    monkeypatch.setattr("server.releases._LONGEST_PAUSE_S", 15.0)
    async with serving(root, poll_s=3600) as running:
        watcher = running.server._watcher
        good = await asyncio.to_thread(publish, other_bundle, root)
        monkeypatch.setattr(files, "sha256_of", unreliable)
        for _ in range(2):
            await watcher.look()
            assert len(failures) == 2, "a pause comes first"
        for left, longest_s in ((1, 5), (0, 10), (0, 15)):  # twice as long, up to the longest
            pause = watcher._pauses[Lane.STABLE]
            assert longest_s - 2.5 < pause._until_s - time.monotonic() <= longest_s
            pause._until_s = 0
            await watcher.look()
            assert len(failures) == left

        assert await version(running) == good.name
        assert not watcher._pauses
    assert [refusal.rpartition(" reason: ")[2] for refusal in refusals(caplog)] == [
        "[Errno 116] Stale file handle",
        "MemoryError",
        "a file cannot be read: I/O error",
    ]


async def test_a_release_that_answers_its_probe_with_nonsense_is_refused(
    root: Path, hollow_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = latest(root)
    async with serving(root, poll_s=3600) as running:
        bad = await asyncio.to_thread(publish, hollow_bundle, root)
        await running.server._watcher.look()

        assert await version(running) == before.name
        (refusal,) = refusals(caplog)
        assert refusal.endswith(f"release {bad.name}: its networks give numbers not finite")


def test_gurs_that_are_not_finite_are_nobodys_answer(tiny_dataset: Path, tmp_path: Path) -> None:
    """A release whose recommenders read no GUR answers its probe all the same."""
    bundle = bundle_of(
        tiny_dataset,
        tmp_path / "bundle",
        lambda networks: overflow(networks.gur_encoder),
        memory="none",
    )
    folder = publish(bundle, tmp_path / "releases")
    engine = Engine.load(folder, device="cpu")
    engine.probe()

    question = EncodeQuestion(domain="books", users=[{"books": ["b0001", "b0002"]}], first=0)
    with pytest.raises(BadArtifactError, match=r"its networks give numbers not finite$"):
        engine.encode(question)


async def test_a_pointer_that_comes_back_loads_nothing_again(
    root: Path, other_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = latest(root)
    async with serving(root, poll_s=3600) as running:
        engine = running.server.current.engine
        bad = await asyncio.to_thread(publish, other_bundle, root)
        flip(bad / "manifest.json")
        await running.server._watcher.look()
        point(root, before)
        await running.server._watcher.look()
        assert running.server.current.engine is engine
        point(root, bad)
        await running.server._watcher.look()

        assert running.server.current.engine is engine
        assert len(refusals(caplog)) == 2


@pytest.mark.parametrize("content", [None, "", "nowhere\n", "../elsewhere\n"])
async def test_a_pointer_to_nothing_is_refused_once(
    root: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = latest(root)
    async with serving(root, poll_s=3600) as running:
        if content is None:
            (root / LATEST).unlink()
        else:
            (root / LATEST).write_text(content)
        for _ in range(3):
            await running.server._watcher.look()

        assert await version(running) == before.name
        assert len(refusals(caplog)) == 1


async def test_an_older_release_is_served_again_when_the_pointer_says_so(
    root: Path, other_bundle: Path
) -> None:
    before = latest(root)
    async with serving(root, poll_s=POLL_S) as running:
        first = await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        await serves(running, await asyncio.to_thread(publish, other_bundle, root))
        point(root, before)
        await serves(running, before)
        again = await running.stub.Recommend(REQUEST, timeout=WAIT_S)

    assert again == first


async def test_a_server_does_not_start_on_a_damaged_release(root: Path) -> None:
    flip(latest(root) / "index" / "books.faiss")
    server = Server(settings_of(root))

    with pytest.raises(BadArtifactError, match=r"index/books\.faiss is damaged"):
        await asyncio.wait_for(server.start(), WAIT_S)
    await server.stop()


async def test_vectors_of_one_call_are_of_one_release(root: Path, other_bundle: Path) -> None:
    users = [pb.User(histories=REQUEST.histories)] * 3
    async with serving(root, poll_s=3600, queue={"max_pass_users": 1}) as running:
        with running.stalled():
            call = asyncio.ensure_future(
                running.stub.EncodeUsers(
                    pb.EncodeUsersRequest(domain="books", users=users), timeout=WAIT_S
                )
            )
            await running.queued(1, of="encode_passes")
            await asyncio.to_thread(publish, other_bundle, root)
            await running.server._watcher.look()
        answer = await call

    vectors = np.frombuffer(answer.preferences, "<f4").reshape(3, answer.dimension)
    assert answer.dimension == 16
    assert vectors[1:] == pytest.approx(vectors[:2], abs=1e-6)


async def test_answers_of_one_batch_are_of_one_release(root: Path, other_bundle: Path) -> None:
    before = latest(root)
    async with serving(root, poll_s=3600, queue={"max_pass_users": 1}) as running:
        with running.stalled():
            call = asyncio.ensure_future(
                running.stub.BatchRecommend(
                    pb.BatchRecommendRequest(requests=[REQUEST] * 3), timeout=WAIT_S
                )
            )
            await running.queued(1, of="recommend_passes")
            after = await asyncio.to_thread(publish, other_bundle, root)
            await running.server._watcher.look()
        answer = await call
        assert await version(running) == after.name

    assert [each.version.release for each in answer.responses] == [before.name] * 3
