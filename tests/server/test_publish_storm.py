"""Releases published over a served, mapped one: every call gets one that was published."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from indexer.build import build
from indexer.publish import latest, prune
from indexer.release import Release
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from server.engine import Engine
from server.messages import Choice, RecommendQuestion
from tests.indexer.index_making import silent
from tests.indexer.update_making import items, listed, updated
from tests.server.processes import EXIT_S, port_of, process
from tests.server.running import WAIT_S, recommend

ASKERS = 2
WARM = 4
COUNTS = 20
"""Publishes after which the server holds all that it is going to."""
HISTORY = {"films": ["f0005", "f0002"]}
REQUEST = recommend("films", HISTORY, k=40)

Answer = tuple[str, tuple[str, ...]]
"""The release that answered, and the ids."""


class Asker:
    """Asks without a pause, over several connections; a call that fails ends the test."""

    def __init__(self, port: int) -> None:
        self._place = f"127.0.0.1:{port}"
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(ASKERS)
        self._asking = [self._pool.submit(self._ask) for _ in range(ASKERS)]
        self.latest = ""

    def wait_for(self, version: str) -> None:
        """Wait until a release answers."""
        deadline_s = time.monotonic() + WAIT_S
        while self.latest != version:
            assert time.monotonic() < deadline_s, f"{version} is not taken up"
            assert not any(each.done() for each in self._asking)
            time.sleep(0.005)

    def stop(self) -> list[Answer]:
        """Ask no more; give all answers."""
        self._stop.set()
        return [answer for asking in self._asking for answer in asking.result(WAIT_S)]

    def _ask(self) -> list[Answer]:
        answers: list[Answer] = []
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._place, options) as channel:
            stub = pb_grpc.RecommenderStub(channel)
            while not self._stop.is_set():
                answer: pb.RecommendResponse = stub.Recommend(REQUEST, timeout=WAIT_S)
                self.latest = answer.version.release
                answers.append((self.latest, tuple(item.item_id for item in answer.items)))
        return answers


@contextmanager
def asking(port: int) -> Iterator[Asker]:
    asker = Asker(port)
    try:
        yield asker
    finally:
        asker._stop.set()
        asker._pool.shutdown()


def published(root: Path, bundle: Bundle, folder: Path, number: int) -> Path:
    """Publish once more: builds of two kinds, and updates that add and remove a film each."""
    if number % 4 < 2:
        kind = ("flat", "ivf")[number % 4]
        chosen = {"device": "cpu", "kind": kind, "ivf": {"lists": 4, "probes": 4}}
        settings = IndexSettings.model_validate(chosen)
        return build(bundle, Store(root), settings=settings, advance=silent).folder
    there = list(Release.read(latest(root)).indexes["films"].vocabulary.ids)
    added = items(folder / "added", {"item_id": f"f0005-{number:03d}", "like": ["f0005"]})
    gone = listed(folder / "gone", [there[-1]])
    return updated(root, {"films": {"add": added, "remove": gone}}).folder


def ids_of(folder: Path) -> tuple[str, ...]:
    """Ask a release itself."""
    question = RecommendQuestion(domain="films", histories=HISTORY, choice=Choice(k=40))
    (answer,) = Engine.load(folder, device="cpu").recommend([question])
    assert not isinstance(answer, Exception)
    return tuple(answer.ranking.item_ids)


def mapped(server: psutil.Process, root: Path) -> set[Path]:
    """List what a server has mapped of a release root; gone files have other names."""
    paths = (each.path for each in server.memory_maps())
    return {Path(path) for path in paths if path.startswith(str(root))}


def settled(server: psutil.Process, version: Path) -> int:
    """Wait until a server holds nothing but one version; count the descriptors it keeps.

    Now and then it has one more, as it looks at `LATEST`: the least of some counts is what stays.
    """
    deadline_s = time.monotonic() + WAIT_S
    while not all(path.is_relative_to(version) for path in mapped(server, version.parent)):
        assert time.monotonic() < deadline_s, mapped(server, version.parent)
        time.sleep(0.05)
    assert mapped(server, version.parent)
    counts = []
    for _ in range(COUNTS):
        counts.append(int(server.num_fds()))
        time.sleep(0.01)
    return min(counts)


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_publishing_over_a_served_release_fails_no_call_and_leaves_nothing_behind(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("RECGURU_SERVE_POLL_S", "0.02")
    root, port_file = tmp_path / "releases", tmp_path / "port"
    bundle = Bundle.read(tiny_bundle)
    first = published(root, bundle, tmp_path, 0)
    expected = {first.name: ids_of(first)}
    held = 0
    options = ("--releases", root, "--port", "0", "--port-file", port_file, "--device", "cpu")
    with process(*options) as running:
        server = psutil.Process(running.pid)
        with asking(port_of(running, port_file)) as asker:
            for number in range(1, count + 1):
                place = published(root, bundle, tmp_path, number)
                expected[place.name] = ids_of(place)
                asker.wait_for(place.name)
                prune(root, keep=2)
                if number == WARM:
                    held = settled(server, place)
            assert settled(server, place) <= held
            answers = asker.stop()
        running.terminate()
        assert running.wait(EXIT_S) == 0
        assert running.stderr is not None
        log = running.stderr.read()

    assert {version for version, _ in answers} == expected.keys()
    wrong = [(version, ids) for version, ids in answers if ids != expected[version]]
    assert not wrong
    assert len(set(expected.values())) > count / 4  # so that a mixture would be seen
    assert log.count("release swapped") == count
    assert "refused" not in log
