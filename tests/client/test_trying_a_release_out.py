"""A release that is tried out, reached by the client: for some keys, or by name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from client.client import RecommenderClient
from client.messages import Question, VectorQuestion
from client.settings import ClientSettings
from indexer.publish import Canary, activate, try_out, versions
from model.errors import InvalidInputError, NotFoundError
from tests.client.serving import server_process
from tests.commands import Command
from tests.server.three_domains import release_of

QUESTION = Question(domain="books", histories={"books": ["b0001", "b0002"]}, k=1)
KEYS = [f"user-{number}" for number in range(60)]


@dataclass(frozen=True, slots=True)
class Trial:
    """A server that tries a release out."""

    address: str
    stable: str
    canary: str


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Serve two releases of unlike networks, the younger one to half the keys."""
    folder = tmp_path_factory.mktemp("trial")
    root = release_of(folder, "cold", seed=1)
    release_of(folder, "cold", seed=2)
    stable, canary = versions(root)
    activate(root, stable)
    try_out(root, Canary(canary, 0.5))
    with server_process(root, folder) as address:
        yield Trial(address, stable, canary)


def test_every_call_of_a_key_is_answered_by_one_release_and_calls_without_by_the_stable_one(
    trial: Trial,
) -> None:
    with RecommenderClient(trial.address) as client:
        first = {key: client.recommend(QUESTION, key=key).version.release for key in KEYS}
        dimension = client.get_release().dimension
        vector = VectorQuestion(domain="books", vector=np.ones(dimension, np.float32), k=1)
        for key, release in first.items():
            (batch,) = client.batch_recommend([QUESTION], key=key)
            encoded = client.encode_users("books", [QUESTION.histories], key=key)
            found = client.search_items(vector, key=key)
            assert {each.version.release for each in (batch, encoded, found)} == {release}
        without = {client.recommend(QUESTION).version.release for _ in range(10)}

    assert {*first.values()} == {trial.stable, trial.canary}
    assert without == {trial.stable}


def test_a_release_that_is_named_answers_all_calls(trial: Trial) -> None:
    settings = ClientSettings(release=trial.canary)
    with RecommenderClient(trial.address, settings) as client:
        assert client.get_release().version.release == trial.canary
        assert {client.recommend(QUESTION, key=key).version.release for key in KEYS[:10]} == {
            trial.canary
        }


def test_a_release_that_is_not_loaded_is_not_found(trial: Trial) -> None:
    settings = ClientSettings(release="20200101T000000.000000Z-0123456789ab")
    with (
        RecommenderClient(trial.address, settings) as client,
        pytest.raises(NotFoundError, match="20200101T000000"),
    ):
        client.recommend(QUESTION)


@pytest.mark.parametrize("key", ["", "two words", "käthe", "x" * 513, "line\n"])
def test_a_key_that_no_header_holds_is_refused(key: str, trial: Trial) -> None:
    with (
        RecommenderClient(trial.address) as client,
        pytest.raises(InvalidInputError, match=r"^a key is 1 to 512 printable ASCII characters"),
    ):
        client.recommend(QUESTION, key=key)


def test_the_command_asks_the_release_it_names(recguru: Command, trial: Trial) -> None:
    ask = ["recommend", "--server", trial.address, "--domain", "books", "--json"]

    stable, canary = recguru(*ask), recguru(*ask, "--release", trial.canary)

    assert [json.loads(done.output)["version"]["release"] for done in (stable, canary)] == [
        trial.stable,
        trial.canary,
    ]


def test_an_evaluation_asks_the_release_it_names(
    recguru: Command, trial: Trial, tiny_dataset: Path, tmp_path: Path
) -> None:
    done = recguru(
        "evaluate", "--data", tiny_dataset, "--server", trial.address,
        "--out", tmp_path / "report.json", "--release", "nowhere",
    )  # fmt: skip

    assert done.code == 1
    assert "nowhere" in done.errors
