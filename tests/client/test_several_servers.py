"""Three servers behind one client, of which one is killed and comes back."""

import subprocess
import threading
import time
import urllib.request
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.client import RecommenderClient
from client.messages import Question
from model.errors import RecGuruError
from tests.client.serving import HOST, WAIT_S, free_port
from tests.server.processes import port_of, process

CALLERS = 4
QUESTION = Question(domain="books", histories={"books": ["b0001"]}, k=3)


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
