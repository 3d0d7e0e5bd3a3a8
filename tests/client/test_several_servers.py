"""Several servers behind one client: none is ready, one is, one is killed and comes back."""

import re
import subprocess
import threading
import time
import urllib.request
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.client import RecommenderClient
from client.messages import Question
from client.settings import ClientSettings
from model.errors import NotReadyError, RecGuruError, RemoteError
from server.releases import Current
from tests.client.serving import (
    HOST,
    WAIT_S,
    free_port,
    server_in_thread,
    service_in_thread,
)
from tests.server.processes import port_of, process

CALLERS = 4
QUESTION = Question(domain="books", histories={"books": ["b0001"]}, k=3)
ONCE = ClientSettings(attempts=1)
KINDS = ["dns:///localhost:{0}", "ipv4:127.0.0.1:{0},127.0.0.1:{1}", "ipv6:[::ffff:127.0.0.1]:{0}"]


class Asking:
    """Callers in threads who ask without a pause, and what they got."""

    def __init__(self, client: RecommenderClient) -> None:
        self.answers = 0
        self.failures: list[RecGuruError] = []
        self._client = client
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def go_on(self, answers: int) -> None:
        """Wait for that many more answers."""
        until_s, enough = time.monotonic() + WAIT_S, self.answers + answers
        while self.answers < enough:
            assert time.monotonic() < until_s, self.failures
            time.sleep(0.01)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.recommend(QUESTION)
                self.answers += 1
            except RecGuruError as error:
                self.failures.append(error)


def answered(metrics_port: int) -> float:
    """Count the recommendations that a server has answered."""
    with urllib.request.urlopen(f"http://{HOST}:{metrics_port}/metrics", timeout=WAIT_S) as said:
        families = text_string_to_metric_families(said.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "recguru_calls_total" and sample.labels["status"] == "OK"
    )


def connections_to(port: int) -> int:
    """Count the connections that this process has opened to a port."""
    opened = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port for each in opened)


@pytest.mark.parametrize("kind", KINDS)
def test_servers_that_are_not_ready_are_told_from_none(kind: str) -> None:
    with service_in_thread(Current(), serving=False) as address:
        several = kind.format(address.rpartition(":")[2], free_port())
        with RecommenderClient(several, ONCE) as client:
            assert not client.is_serving()
            with pytest.raises(NotReadyError) as refused:
                client.recommend(QUESTION)

    nobody = kind.format(free_port(), free_port())
    with RecommenderClient(nobody, ONCE) as client:
        for ask in (client.is_serving, client.get_release):
            with pytest.raises(RemoteError, match=rf"^no server answers at {re.escape(nobody)}, "):
                ask()

    assert str(refused.value).startswith(f"{several} is not ready to answer Recommend: ")


def test_of_several_servers_one_that_serves_is_enough(release_root: Path) -> None:
    with (
        server_in_thread(release_root) as server,
        service_in_thread(Current(), serving=False) as other,
        RecommenderClient(f"ipv4:{HOST}:{server.port},{other}", ONCE) as client,
    ):
        assert all(client.is_serving() for _ in range(6))
        assert all(client.recommend(QUESTION).items for _ in range(6))


def test_a_client_of_several_servers_is_closed_whole() -> None:
    with service_in_thread(Current(), serving=False) as address:
        port = int(address.rpartition(":")[2])
        client = RecommenderClient(f"ipv4:{address}", ONCE)
        with pytest.raises(NotReadyError):
            client.get_release()
        assert connections_to(port)
        client.close()
        until_s = time.monotonic() + WAIT_S
        while connections_to(port):
            assert time.monotonic() < until_s, "a connection stays"
            time.sleep(0.02)


@pytest.mark.slow
def test_one_of_three_servers_dies_and_comes_back_and_no_call_fails(
    release_root: Path, tmp_path: Path
) -> None:
    places = [(free_port(), free_port()) for _ in range(3)]

    def serve(place: int) -> AbstractContextManager[subprocess.Popen[str]]:
        port, metrics_port = places[place]
        ports = ["--port", str(port), "--metrics-port", str(metrics_port)]
        told = tmp_path / f"port-{place}"
        return process("--releases", release_root, "--device", "cpu", *ports, "--port-file", told)

    def wait_for(place: int, running: subprocess.Popen[str]) -> None:
        port_of(running, tmp_path / f"port-{place}")

    def until_all_answer() -> None:
        counts = [answered(metrics_port) for _, metrics_port in places]
        until_s = time.monotonic() + WAIT_S
        while any(
            answered(metrics_port) == before
            for (_, metrics_port), before in zip(places, counts, strict=True)
        ):
            assert time.monotonic() < until_s
            time.sleep(0.05)

    with ExitStack() as stack:
        servers = [stack.enter_context(serve(place)) for place in range(3)]
        for place, running in enumerate(servers):
            wait_for(place, running)
        address = f"ipv4:{','.join(f'{HOST}:{port}' for port, _ in places)}"
        client = stack.enter_context(RecommenderClient(address))
        with Asking(client) as asking:
            until_all_answer()
            servers[1].kill()
            asking.go_on(200)
            (tmp_path / "port-1").unlink()
            wait_for(1, stack.enter_context(serve(1)))
            until_all_answer()
            asking.go_on(50)
    assert not asking.failures
