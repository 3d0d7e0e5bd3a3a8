"""`recguru serve` as a process: ready, signals, exit codes, one line for a failure."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from indexer.publish import LATEST
from tests.server.processes import CHECKOUT, EXIT_S, READY_S, command, failure, port_of, process
from tests.server.running import WAIT_S, recommend

ELSEWHERE = "192.0.2.7"  # no machine has it: RFC 5737


def test_it_says_where_it_serves_what_and_leaves_on_ctrl_c(releases: Path, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    port_file.write_text("1\n")
    with process("--releases", releases, "--port", "0", "--port-file", port_file) as running:
        deadline_s = time.monotonic() + READY_S
        while not port_file.exists() or port_file.read_text() == "1\n":
            assert running.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        port = port_of(running, port_file)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            info = pb_grpc.RecommenderStub(channel).GetRelease(
                pb.GetReleaseRequest(), timeout=WAIT_S
            )
        running.send_signal(signal.SIGINT)
        _, logged = running.communicate(timeout=EXIT_S)

    assert running.returncode == 0
    assert f"serving on 127.0.0.1:{port} release={info.version.release}" in logged
    assert re.search(r"draining.*\n.*stopped\n$", logged)
    assert not port_file.exists()


def test_sigterm_answers_what_is_in_flight_and_exits_within_ten_seconds(
    releases: Path, tmp_path: Path
) -> None:
    port_file = tmp_path / "port"
    batch = pb.BatchRecommendRequest(
        requests=[recommend("films", {"films": ["f0001", "f0002", "f0003"]})] * 256
    )
    with (
        process(
            "--releases", releases, "--port", "0", "--port-file", port_file, "--device", "cpu"
        ) as running,
        grpc.insecure_channel(f"127.0.0.1:{port_of(running, port_file)}") as channel,
    ):
        stub = pb_grpc.RecommenderStub(channel)
        stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)
        calls = [stub.BatchRecommend.future(batch, timeout=WAIT_S) for _ in range(6)]
        calls[0].result(timeout=WAIT_S)
        began_s = time.monotonic()
        running.send_signal(signal.SIGTERM)
        unanswered = not calls[-1].done()
        answers = [call.result(timeout=WAIT_S) for call in calls]
        _, logged = running.communicate(timeout=EXIT_S)
        took_s = time.monotonic() - began_s

    assert unanswered
    assert running.returncode == 0, logged
    assert took_s < EXIT_S
    assert [len(answer.responses) for answer in answers] == [256] * 6


def test_a_taken_port_is_one_line_and_exit_code_1(releases: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, said = failure("--releases", releases, "--port", str(port))

    assert code == 1
    assert said == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another --host or --port\n"
    )


def test_a_port_file_that_cannot_be_written_is_said_before_anything_is_served(
    releases: Path,
) -> None:
    code, said = failure("--releases", releases, "--port", "0", "--port-file", releases)

    assert code == 1
    assert said == f"error: {releases} cannot be written: it is a folder; name a file\n"


def test_no_release_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    code, said = failure("--releases", tmp_path, "--port", "0")

    assert code == 1
    assert said == (
        f"error: {tmp_path} holds no release: there is no LATEST in it; run recguru indexer build\n"
    )


def test_no_release_root_is_wrong_usage() -> None:
    code, said = failure("--port", "0")

    assert code == 2
    assert "--releases" in said


def test_a_setting_comes_from_file_environment_and_flag_in_that_order(
    releases: Path, tmp_path: Path
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text(f'[serve]\nreleases = "{releases}"\nport = 70000\n')

    code, said = failure("--config", config)
    assert (code, said) == (
        1,
        "error: setting serve.port: Input should be less than or equal to 65535 (got 70000)\n",
    )

    code, said = failure("--config", config, "--port", "0", RECGURU_SERVE_REQUESTS__MAX_K="5000")
    assert code == 1
    assert said == (
        "error: setting serve.requests.max_k: "
        "Input should be less than or equal to 2048 (got '5000')\n"
    )


def test_threads_are_limited_before_anything_heavy_is_imported() -> None:
    script = (
        "import sys, recguru_cli; "
        "sys.exit(str({'torch', 'numpy', 'faiss', 'grpc', 'polars'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )

    assert done.stderr == "set()\n"


def test_check_says_what_would_be_served_and_opens_nothing(releases: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        python, *words = command(
            "--releases", releases, "--port", str(port), "--device", "cpu", "--check"
        )
        done = subprocess.run(
            [python, "-X", "importtime", *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )

    version = (releases / "LATEST").read_text(encoding="utf-8").strip()
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[:2] == [f"address: 127.0.0.1:{port}, no TLS", "tokens: none"]
    assert lines[2].startswith(f"LATEST: {version}, model ")
    assert lines[2].endswith(", books (40 items), films (300 items)")
    assert len(lines) == 3
    assert "torch" in done.stderr
    assert "torch._dynamo" not in done.stderr, "two seconds of every start, for nothing"


def test_check_finds_what_would_keep_the_server_from_starting(
    releases: Path, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    shutil.copytree(releases, root)
    version = (root / "LATEST").read_text(encoding="utf-8").strip()
    damaged = root / version / "index" / "films.faiss"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    code, said = failure("--releases", root, "--device", "cpu", "--check")
    assert code == 1
    assert said.startswith("error: ")
    assert "films.faiss" in said
    everywhere = "0.0.0.0"  # noqa: S104  # what is to be refused
    code, said = failure("--releases", releases, "--host", everywhere, "--check")
    assert code == 1
    assert "without TLS" in said
    code, said = failure("--releases", releases, "--host", ELSEWHERE, "--insecure", "--check")
    assert code == 1
    assert f"error: cannot listen on {ELSEWHERE}:0: " in said


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_server_is_there_ends_the_process(
    ended_by: signal.Signals, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / LATEST)  # reading it waits for a writer
    with process("--releases", tmp_path, "--port", "0") as running:
        writer = os.open(tmp_path / LATEST, os.O_WRONLY)
        running.send_signal(ended_by)
        _, said = running.communicate(timeout=EXIT_S)
        os.close(writer)
    assert (running.returncode, said) == (0, "")


COUNTING = """
import asyncio, gc, os, signal, sys
from pathlib import Path
from server.config import ServeSettings
from server.run import serve

def ready(port):
    print(len(gc.get_objects()), gc.get_freeze_count())
    os.kill(os.getpid(), signal.SIGTERM)

asyncio.run(serve(ServeSettings(releases=Path(sys.argv[1]), port=0), ready=ready))
"""


def test_a_full_collection_does_not_look_through_what_imports_have_made(releases: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(releases)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=True,
    )
    looked_through, passed_over = map(int, done.stdout.split())
    assert looked_through < passed_over / 10
