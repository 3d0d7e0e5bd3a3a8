"""Many releases, good and damaged, one after the other: nothing is lost, mixed or left behind."""

import asyncio
import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recguru.v1 import recommender_pb2 as pb

from benchmarks.reloads import cut_short, flipped
from indexer.publish import activate, latest
from indexer.release import Release
from model.bundle import Bundle
from server.run import Server
from tests.server.running import WAIT_S, Serving, recommend, serving
from tests.server.test_release_watch import bundle_of, publish

REQUEST = recommend("books", {"books": ["b0001", "b0002"]})
NEVER_S = 3600.0  # the tests look themselves, when they want a look
ASKERS = 8
MB = 1 << 20

Version = tuple[str, str, str]
Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Root:
    """A release root with two releases of different models."""

    folder: Path
    first: Path
    """What `LATEST` names at the beginning."""
    second: Path


@pytest.fixture
def root(releases: Path, tiny_dataset: Path, tmp_path: Path) -> Root:
    """Copy the release root, and add a release whose networks differ in weights and width."""
    folder = Path(shutil.copytree(releases, tmp_path / "releases"))
    first = latest(folder)
    bundle = bundle_of(tiny_dataset, tmp_path / "bundle", lambda _: None)
    second = publish(bundle, folder)
    activate(folder, first.name)
    return Root(folder, first, second)


async def reload(running: Serving, root: Root, count: int) -> None:
    """Swap the two releases in turn, that many times; the last is in when this returns."""
    for _ in range(count):
        answering = running.server.current.engine.version.release
        other = root.second if answering == root.first.name else root.first
        activate(root.folder, other.name)
        await running.server._watcher.look()
        assert running.server.current.engine.version.release == other.name
        await running.stub.Recommend(REQUEST, timeout=WAIT_S)


def named(answer: pb.RecommendResponse) -> Version:
    """Say what an answer is of, in its own words."""
    return answer.version.release, answer.version.model, answer.version.index


def known(folder: Path) -> Version:
    """Read what every answer of a release must say."""
    release = Release.read(folder)
    return release.version, Bundle.read(folder / "bundle").digest, release.digest


def reloads(server: Server) -> dict[str, float]:
    """Count the reloads by how they ended."""
    return {
        sample.labels["result"]: sample.value
        for family in server.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "recguru_reloads_total"
    }


async def test_every_call_is_answered_by_one_release_while_releases_come_and_go(
    root: Root,
) -> None:
    stop = asyncio.Event()
    answers: list[pb.RecommendResponse] = []

    async def ask(running: Serving) -> None:
        while not stop.is_set():
            answers.append(await running.stub.Recommend(REQUEST, timeout=WAIT_S))

    async with serving(root.folder, poll_s=NEVER_S) as running:
        asking = [asyncio.create_task(ask(running)) for _ in range(ASKERS)]
        await reload(running, root, 5)
        stop.set()
        await asyncio.gather(*asking)
        counted = reloads(running.server)

    assert {named(answer) for answer in answers} == {known(root.first), known(root.second)}
    assert all(len(answer.items) == 10 for answer in answers)
    first, second = (
        [answer.items[0].score for answer in answers if answer.version.release == folder.name]
        for folder in (root.first, root.second)
    )
    assert first == pytest.approx([first[0]] * len(first), abs=1e-5)
    assert second == pytest.approx([second[0]] * len(second), abs=1e-5)
    assert first[0] != pytest.approx(second[0], abs=0.01)  # so what is mixed would be seen
    assert counted == {"swapped": 5}


def held(process: psutil.Process) -> dict[str, int]:
    """Count the threads and descriptors of this process, when what is not needed is gone."""
    gc.collect()
    return {"threads": process.num_threads(), "descriptors": process.num_fds()}


def check_nothing_left(before: dict[str, int], after: dict[str, int]) -> None:
    """Check that there are as many files, and no more threads: one may end by itself."""
    assert after["descriptors"] == before["descriptors"]
    assert after["threads"] <= before["threads"]


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
async def test_reloads_leave_no_thread_descriptor_or_memory_behind(root: Root, count: int) -> None:
    process = psutil.Process()
    async with serving(root.folder, poll_s=NEVER_S) as running:
        await reload(running, root, 2)  # what is made once is made
        before, resident = held(process), process.memory_info().rss
        await reload(running, root, count)
        after, grown = held(process), process.memory_info().rss - resident
        mapped = {Path(each.path) for each in process.memory_maps()}

    check_nothing_left(before, after)
    assert grown < 50 * MB
    assert not any(path.is_relative_to(root.second) for path in mapped)  # the first answers


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
async def test_a_reload_leaves_the_core_to_the_threads_that_answer(root: Root) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async with serving(root.folder, poll_s=NEVER_S) as running:
        loader, compute = running.server._loader, running.server._compute._executor
        at_start = loader.submit(niceness).result(WAIT_S)
        await reload(running, root, 2)
        loading = loader.submit(niceness).result(WAIT_S)
        computing = compute.submit(niceness).result(WAIT_S)

    assert at_start == computing == niceness()
    assert loading == max(10, at_start)


def damaged(source: Path, name: Path, spoil: Spoil, number: int) -> Path:
    """Copy a release beside it with one file spoilt -> its folder."""
    place = source.with_name(f"29990101T000000.{number:06d}Z-{0:012x}")
    shutil.copytree(source, place)
    (place / name).write_bytes(spoil((place / name).read_bytes()))
    return place


async def refuses(running: Serving, root: Root, count: int) -> None:
    """Publish releases with each file spoilt in turn, and see each refused."""
    health = health_pb2_grpc.HealthStub(running.channel)
    files = sorted(path for path in root.second.rglob("*") if path.is_file())
    for number in range(count):
        spoil = (cut_short, flipped)[(number + number // len(files)) % 2]
        name = files[number % len(files)].relative_to(root.second)
        place = damaged(root.second, name, spoil, number)
        activate(root.folder, place.name)
        await running.server._watcher.look()
        answer = await running.stub.Recommend(REQUEST, timeout=WAIT_S)
        state = await health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)

        assert reloads(running.server)["refused"] == number + 1, (name, spoil)
        assert answer.version.release == root.first.name
        assert state.status == health_pb2.HealthCheckResponse.SERVING
        shutil.rmtree(place)


async def test_a_release_with_any_file_damaged_is_refused(root: Root) -> None:
    files = [path for path in root.second.rglob("*") if path.is_file()]
    async with serving(root.folder, poll_s=NEVER_S) as running:
        await refuses(running, root, len(files))
        await reload(running, root, 1)  # a sound one is still taken up


@pytest.mark.slow
async def test_fifty_damaged_releases_leave_nothing_behind(root: Root) -> None:
    process = psutil.Process()
    async with serving(root.folder, poll_s=NEVER_S) as running:
        await reload(running, root, 2)  # what is made once is made
        before = held(process)
        await refuses(running, root, 50)
        check_nothing_left(before, held(process))
