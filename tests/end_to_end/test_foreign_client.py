"""A standard gRPC client that knows nothing of this project gets an answer through reflection."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from client.client import RecommenderClient
from client.messages import Question
from indexer.build import build
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.console import progress
from tests.client.serving import HOST, server_in_thread

PROGRAM = Path(__file__).parent / "foreign_client"
INSTALL_S = 60
ASK_S = 30
CANDIDATES = ["b0001", "b0010", "b0011", "b0012", "nobody"]
HISTORIES = {"books": ["b0003", "b0001"], "films": ["f0007"]}


@pytest.fixture(scope="module")
def foreign_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Install the client's packages in a temporary folder; return the command that runs it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed; the foreign client is a node program")
    folder = tmp_path_factory.mktemp("foreign") / "client"
    shutil.copytree(PROGRAM, folder)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        done = subprocess.run(
            [*command, "--fetch-retries=0"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the foreign client within {INSTALL_S} s")
    if done.returncode:
        pytest.skip(f"npm cannot install the foreign client: {done.stderr.strip()[-300:]}")
    return [node, str(folder / "ask.js")]


@pytest.fixture(scope="module")
def served(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a release of the tiny bundle."""
    root = tmp_path_factory.mktemp("foreign") / "releases"
    with progress("index", 4) as advance:
        settings = IndexSettings(device="cpu")
        build(Bundle.read(tiny_bundle), Store(root), settings=settings, advance=advance)
    return root


def test_a_client_that_has_only_the_address_gets_an_answer(
    foreign_client: list[str], served: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    request = {
        "domain": "books",
        "k": 3,
        "histories": [{"domain": name, "item_ids": ids} for name, ids in HISTORIES.items()],
        "candidate_items": {"item_ids": CANDIDATES},
    }
    (tmp_path / "request.json").write_text(json.dumps(request), encoding="utf-8")
    with server_in_thread(served) as server:
        address = f"{HOST}:{server.port}"
        done = subprocess.run(
            [*foreign_client, address, str(tmp_path / "request.json")],
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with RecommenderClient(address) as client:
            expected = client.recommend(
                Question(
                    domain="books",
                    histories=HISTORIES,
                    k=3,
                    candidate_items=CANDIDATES,
                )
            )

    said = json.loads(done.stdout)
    assert "recguru.v1.Recommender" in said["services"]
    assert "grpc.health.v1.Health" in said["services"]
    answer = said["answer"]
    assert [item["item_id"] for item in answer["items"]] == [i.item_id for i in expected.items]
    assert [item["score"] for item in answer["items"]] == [i.score for i in expected.items]
    assert answer["basis"] == "BASIS_PERSONALIZED"
    assert answer["unknown_candidates"] == 1
    assert answer["version"]["model"] == Bundle.read(tiny_bundle).digest
