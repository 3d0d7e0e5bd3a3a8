"""A real Milvus for tests: `milvus-lite` as a process of its own, which can be killed and stopped.

It speaks the protocol of a cluster and is none: one process, no users, no TLS.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.milvus_api import Milvus, MilvusSettings

READY_S = 60.0
NAP_S = 0.01


class MilvusProcess:
    """Milvus on a port of this machine; what is stored outlives its processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, **given: object) -> MilvusSettings:
        """Say where it runs."""
        content = {"uri": f"http://127.0.0.1:{self.port}", "timeout_s": 10, **given}
        return MilvusSettings.model_validate(content)

    def collections(self, prefix: str = "") -> set[str]:
        """List the collections whose names begin so."""
        return {name for name in self.client().list_collections() if name.startswith(prefix)}

    def aliased(self, alias: str) -> str:
        """Return the collection that an alias stands for."""
        return str(self.client().describe_alias(alias)["collection_name"])

    def client(self) -> Any:  # noqa: ANN401  # pymilvus is not typed
        """Return pymilvus's own client."""
        return Milvus(self.settings())._client

    def start(self) -> None:
        """Start a process and wait until it listens."""
        arguments = ["--data-dir", str(self._folder), "--host", "127.0.0.1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "milvus_lite", "server", *arguments, "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None, "milvus-lite does not start"
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(READY_S)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the process from answering, its connections open, until the block is left."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads stand still
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def milvus_in(folder: Path) -> Iterator[MilvusProcess]:
    """Run Milvus until the block is left, or skip the test where it cannot run."""
    for name in ("pymilvus", "milvus_lite"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: it has no wheel for every system")
    running = MilvusProcess(folder)
    running.start()
    try:
        with _short_naps():
            yield running
    finally:
        running.kill()


@contextmanager
def _short_naps() -> Iterator[None]:
    """Let pymilvus look often for what it waits for: it gives every index half a second."""
    from pymilvus.client import grpc_handler

    def nap(length_s: float) -> None:
        time.sleep(min(length_s, NAP_S))

    grpc_handler.time = SimpleNamespace(**{**vars(time), "sleep": nap})
    try:
        yield
    finally:
        grpc_handler.time = time
