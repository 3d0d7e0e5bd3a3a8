"""Several server processes on one port: who answers and is counted, replaces the dead, stays."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from prometheus_client import generate_latest
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from server.metrics import WorkerMetrics
from server.supervisor import Worker
from tests.server.processes import EXIT_S, READY_S, failure, port_of, process
from tests.server.running import WAIT_S, recommend, settings_of
from tests.server.test_metrics import Figures, read

QUESTION = recommend("films", {"films": ["f0001", "f0002", "f0003"]})
COUNT_AND_DIE = """
import os, signal
from server.metrics import Metrics
metrics = Metrics()
metrics.answered("films", "popularity", "stable", unknown=2)
metrics.pass_ended("recommend", [0.25, 0.5], 0.1, users=3, waiting=5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def until(holds: Callable[[], bool], limit_s: float = READY_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def ask(port: int) -> pb.RecommendResponse:
    """Ask over a connection of its own, which the kernel gives to one of the workers."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        return stub.Recommend(QUESTION, timeout=WAIT_S, wait_for_ready=True)


def connections(worker: psutil.Process) -> int:
    return sum(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections("tcp"))


def metrics_place(supervisor: psutil.Process) -> str:
    """Return where a supervisor tells figures: it listens nowhere else."""
    connected = supervisor.net_connections("tcp")
    (port,) = {each.laddr.port for each in connected if each.status == psutil.CONN_LISTEN}
    return f"http://127.0.0.1:{port}/metrics"


def figures_at(place: str) -> Figures:
    with urllib.request.urlopen(place, timeout=WAIT_S) as answer:  # noqa: S310  # ours
        return read(answer.read().decode())


def loaded_by(found: Figures) -> float:
    """Count the workers that say of themselves that they have a release loaded."""
    return sum(value for (name, _), value in found.items() if name == "recguru_release_info")


def test_who_takes_a_dead_worker_s_place_counts_on_in_its_files(tmp_path: Path) -> None:
    workers = WorkerMetrics(tmp_path)

    def count_and_die(place: int) -> None:
        environment = {**os.environ, **workers.environment(place)}
        command = [sys.executable, "-c", COUNT_AND_DIE]
        done = subprocess.run(command, env=environment, timeout=WAIT_S, check=False)
        assert done.returncode == -signal.SIGKILL

    count_and_die(0)
    count_and_die(1)
    files = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    for _ in range(2):
        workers.worker_gone(1)
        found = read(generate_latest(workers.registry).decode())
        assert found["recguru_queue_waiting", ("recommend",)] == 5  # of the one at place 0
        count_and_die(1)
    found = read(generate_latest(workers.registry).decode())

    assert found["recguru_answers_total", ("popularity", "films", "stable")] == 4
    assert found["recguru_unknown_history_items_total", ("films",)] == 8
    assert found["recguru_queue_wait_seconds_sum", ("recommend",)] == 3
    assert found["recguru_pass_items_bucket", ("4.0", "recommend")] == 4
    assert found["recguru_queue_waiting", ("recommend",)] == 10
    assert found["recguru_worker_exits_total", ()] == 2
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == files


def test_workers_share_the_calls_are_counted_together_and_the_dead_are_replaced(
    releases: Path, tmp_path: Path
) -> None:
    port_file = tmp_path / "port"
    options = ("--port", "0", "--port-file", port_file, "--device", "cpu", "--workers", "2")
    with process("--releases", releases, *options, "--metrics-port", "0") as running:
        port = port_of(running, port_file)
        supervisor = psutil.Process(running.pid)
        before = supervisor.children()
        assert len(before) == 2
        channels = [
            grpc.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(24)
        ]
        answers = [
            pb_grpc.RecommenderStub(channel).Recommend(QUESTION, timeout=WAIT_S)
            for channel in channels
        ]
        shares = [connections(worker) for worker in before]
        for channel in channels:
            channel.close()
        assert sum(shares) == 24
        assert min(shares) > 0
        assert len({answer.SerializeToString() for answer in answers}) == 1

        place = metrics_place(supervisor)
        found = figures_at(place)
        assert found["recguru_calls_total", ("stable", "Recommend", "OK")] == 24
        assert found["recguru_worker_exits_total", ()] == 0
        assert loaded_by(found) == 2
        folder = Path(before[0].environ()["PROMETHEUS_MULTIPROC_DIR"])
        files = {path.name for path in folder.iterdir()}

        before[0].kill()
        until(lambda: figures_at(place)["recguru_worker_exits_total", ()] == 1)
        assert loaded_by(figures_at(place)) == 1
        until(lambda: not before[0].is_running() and len(supervisor.children()) == 2)
        successor = next(each for each in supervisor.children() if each not in before)
        assert ask(port) == answers[0]
        until(lambda: any(each.laddr.port == port for each in successor.net_connections("tcp")))
        assert all(ask(port) == answers[0] for _ in range(12))
        found = figures_at(place)
        assert found["recguru_worker_exits_total", ()] == 1
        assert found["recguru_calls_total", ("stable", "Recommend", "OK")] == 24 + 1 + 12
        assert loaded_by(found) == 2
        assert {path.name for path in folder.iterdir()} == files

        workers = supervisor.children()
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=EXIT_S)
    assert running.returncode == 0, logged
    assert f"process {before[0].pid} was ended by SIGKILL; another starts in 0.5 s" in logged
    assert f"2 workers serve on 127.0.0.1:{port}" in logged
    assert f"metrics on {place}" in logged
    assert not any(worker.is_running() for worker in workers)
    assert not port_file.exists()


def test_workers_do_not_outlive_their_supervisor(releases: Path, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    options = ("--port", "0", "--port-file", port_file, "--device", "cpu", "--workers", "2")
    with process("--releases", releases, *options) as running:
        port_of(running, port_file)
        workers = psutil.Process(running.pid).children()
        running.kill()
        running.wait()
        until(lambda: not any(worker.is_running() for worker in workers), EXIT_S)


def test_a_signal_while_workers_start_ends_them(releases: Path) -> None:
    with process("--releases", releases, "--port", "0", "--workers", "2") as running:
        supervisor = psutil.Process(running.pid)
        until(lambda: len(supervisor.children()) == 2)
        workers = supervisor.children()
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=EXIT_S)
    assert running.returncode == 0, logged
    assert not any(worker.is_running() for worker in workers)


async def test_a_worker_that_is_stopped_while_it_is_started_does_not_stay(
    releases: Path, tmp_path: Path
) -> None:
    worker = Worker(0, settings_of(releases), WorkerMetrics(tmp_path))
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)  # it has begun to start a process, and has none yet
    await worker.stop()
    await asyncio.wait_for(running, EXIT_S)
    assert not worker.ready.is_set()


async def test_another_worker_that_cannot_be_started_is_tried_again(
    releases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start = asyncio.create_subprocess_exec
    failures = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]

    async def unable(  # the next process cannot be had
        *arguments: str,
        **options: Any,  # noqa: ANN401  # what asyncio takes
    ) -> asyncio.subprocess.Process:
        if failures:
            raise failures.pop()
        return await start(*arguments, **options)

    worker = Worker(0, settings_of(releases), WorkerMetrics(tmp_path))
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(worker.ready.wait(), READY_S)
    first = worker._process
    assert first is not None
    monkeypatch.setattr(asyncio, "create_subprocess_exec", unable)
    first.kill()
    async with asyncio.timeout(READY_S):
        while worker._process in {first, None}:  # noqa: ASYNC110  # no event to wait for
            await asyncio.sleep(0.05)
    await worker.stop()
    await asyncio.wait_for(running, EXIT_S)

    said = "worker 0 is gone: cannot be started: Resource temporarily unavailable; another starts"
    assert said in caplog.text


def test_what_keeps_workers_from_starting_is_said_once(releases: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "releases"
    version = (releases / "LATEST").read_text(encoding="utf-8").strip()
    for path in (releases / version).rglob("*"):
        if path.is_file():
            place = damaged / path.relative_to(releases)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    (damaged / "LATEST").write_text(version, encoding="utf-8")
    index = damaged / version / "index" / "films.faiss"
    index.write_bytes(index.read_bytes()[:-1])

    code, said = failure("--releases", damaged, "--port", "0", "--workers", "2")

    assert code == 1
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert said.endswith(f"error: {index} is damaged: its SHA-256 is not the manifest's\n")


def test_workers_do_not_take_a_port_that_a_server_of_others_shares(releases: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, said = failure("--releases", releases, "--port", str(port), "--workers", "2")

    assert code == 1
    assert said == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another --host or --port\n"
    )
