"""A server and its bundle come to the same figures, and what may not be evaluated is refused."""

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from client.client import RecommenderClient
from client.evaluation import OverTheWire, evaluate, over_the_wire, rank_as_answered
from client.messages import Basis, ItemRank, Recommendation, ScoredItem, Version
from indexer.build import build
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.console import progress
from model.data.dataset import Dataset, write_dataset
from model.errors import BadArtifactError, RemoteError
from model.files import publishing
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.export import export_bundle
from tests.client.serving import HOST, WAIT_S, free_port, server_in_thread
from tests.commands import Command


@pytest.fixture(scope="module")
def other_dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny dataset with its domains the other way round."""
    dataset = Dataset.read(tiny_dataset)
    folder = tmp_path_factory.mktemp("other") / "dataset"
    with publishing(folder) as place:
        first, second = dataset.domains
        write_dataset(place, (second, first), dataset.shared[:, ::-1], made={}, report={})
    return folder


def answer(*, rank: int, shown: list[str]) -> Recommendation:
    return Recommendation(
        items=tuple(ScoredItem(item_id, 1.0) for item_id in shown),
        basis=Basis.PERSONALIZED,
        version=Version("release", "model", "index"),
        unknown_history_items=0,
        unknown_candidates=0,
        ranks=(ItemRank("target", 1.0, rank),),
    )


@pytest.mark.parametrize(
    ("rank", "shown", "counts"),
    [
        (3, ["a", "target"], 3),
        (3, ["a", "b"], 0),  # an index that is not exact left it out
        (20, ["a", "b"], 0),
        (21, ["a", "b"], 21),  # it need not be shown
        (21, ["a", "target"], 21),  # ties count against it
        (0, ["a", "b"], 0),
    ],
)
def test_a_target_that_the_index_missed_is_a_miss(rank: int, shown: list[str], counts: int) -> None:
    assert rank_as_answered(answer(rank=rank, shown=shown)) == counts


@pytest.fixture(scope="module")
def bridged_bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle that answers users new to a domain from the other GUR, and over a bridge."""
    size = NetworkSettings(
        width=16,
        heads=2,
        layers=1,
        feed_forward=32,
        max_history=12,
        recent=12,
        memory="cold",
        bridge_share=0.5,
    )
    dataset = Dataset.read(tiny_dataset)
    generator = torch.Generator().manual_seed(5)
    items = {domain.name: len(domain.vocabulary) for domain in dataset.domains}
    networks = ServingNetworks(items, size)
    initialise(networks, generator)
    for name in items:
        networks.bridge(name).perceptron.draw(generator, out_spread=0.1)
    folder = tmp_path_factory.mktemp("bridged") / "bundle"
    export_bundle(folder, dataset, networks, size, training={"by": "tests"})
    return folder


@pytest.fixture(scope="module")
def bridged_address(
    bridged_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    root = tmp_path_factory.mktemp("bridged") / "releases"
    with progress("index", 4) as advance:
        settings = IndexSettings(device="cpu")
        build(Bundle.read(bridged_bundle), Store(root), settings=settings, advance=advance)
    with server_in_thread(root) as server:
        yield f"{HOST}:{server.port}"


@pytest.mark.parametrize("kind", ["tiny", "bridged"])
@pytest.mark.parametrize(
    "options", [("--split", "test"), ("--split", "validation", "--batch", "7", "--seed", "5")]
)
def test_a_server_and_its_bundle_come_to_the_same_figures(
    recguru: Command,
    request: pytest.FixtureRequest,
    tiny_dataset: Path,
    tmp_path: Path,
    kind: str,
    options: tuple[str, ...],
) -> None:
    names = {"tiny": ("tiny_bundle", "address"), "bridged": ("bridged_bundle", "bridged_address")}
    folder, address = (request.getfixturevalue(name) for name in names[kind])
    reports: dict[str, dict[str, Any]] = {}
    for name, place in {"server": address, "bundle": str(folder)}.items():
        out = tmp_path / f"{name}.json"
        asked = ("--data", tiny_dataset, f"--{name}", place, "--out", out, "--json", *options)
        done = recguru("evaluate", *asked)
        assert done.code == 0, done.errors
        reports[name] = json.loads(out.read_text(encoding="utf-8"))
        assert json.loads(done.output) == reports[name]

    assert list(flat(reports["server"])) == list(flat(reports["bundle"]))
    assert dict(flat(reports["server"])) == pytest.approx(dict(flat(reports["bundle"])), abs=5e-7)
    parts = reports["server"]["domains"]
    assert {name: part["users"] for name, part in parts.items()} == {"books": 53, "films": 46}
    for part in parts.values():
        shared, cold = part["slices"]["shared"], part["slices"]["cold"]
        assert shared["users"] == cold["users"] > 10
        assert shared["full"] != cold["full"]
    bundle = Bundle.read(folder)
    assert {report["model"] for report in reports.values()} == {bundle.digest}
    assert {report["dataset"] for report in reports.values()} == {bundle.dataset}
    with RecommenderClient(address) as client:
        assert reports["server"]["release"] == client.get_release().version.release
    assert reports["bundle"]["release"] is None


def flat(report: dict[str, Any]) -> list[tuple[str, float]]:
    """List the figures of a report with their path."""

    def walk(path: str, value: Any) -> list[tuple[str, float]]:  # noqa: ANN401  # JSON
        if isinstance(value, dict):
            return [pair for key, part in value.items() for pair in walk(f"{path}/{key}", part)]
        return [(path, value)]

    return walk("", report["domains"])


def test_popularity_is_what_counting_by_hand_comes_to(
    recguru: Command, tiny_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"

    done = recguru("evaluate", "--data", tiny_dataset, "--baseline", "popularity", "--out", out)

    assert done.code == 0, done.errors
    assert f"report in {out}" in done.output
    domain = Dataset.read(tiny_dataset).domain("books")
    sequences = [domain.sequences[user].tolist() for user in range(len(domain.users))]
    counts = Counter(row for rows in sequences for row in (rows[:-2] if len(rows) > 2 else rows))
    gains = []
    for rows in sequences:
        if len(rows) > 2:
            others = set(range(1, len(domain.vocabulary) + 1)) - set(rows)
            rank = 1 + sum(counts[row] >= counts[rows[-1]] for row in others)
            gains.append(1 / math.log2(1 + rank) if rank <= 10 else 0)
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["system"] == "popularity"
    full = report["domains"]["books"]["full"]
    assert full["ndcg@10"] == pytest.approx(sum(gains) / len(gains), abs=1e-12)


def test_a_server_of_another_dataset_is_refused(other_dataset: Path, address: str) -> None:
    dataset = Dataset.read(other_dataset)

    with RecommenderClient(address) as client:
        release = client.get_release()
        with pytest.raises(BadArtifactError) as refused:
            OverTheWire(client, dataset)

    assert str(refused.value) == (
        f"the model of release {release.version.release} at {address} was trained on dataset "
        f"{release.dataset[:12]}, not on {dataset.digest[:12]}; "
        "evaluate it with the dataset it was trained on"
    )


def test_a_bundle_of_another_dataset_is_refused(
    recguru: Command, other_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"

    done = recguru("evaluate", "--data", other_dataset, "--bundle", tiny_bundle, "--out", out)

    trained_on = Bundle.read(tiny_bundle).dataset[:12]
    assert done.code == 1
    assert done.errors == (
        f"error: bundle {tiny_bundle} was trained on dataset {trained_on}, not on "
        f"{Dataset.read(other_dataset).digest[:12]}; "
        "evaluate it with the dataset it was trained on\n"
    )
    assert not out.exists()


def test_figures_of_two_releases_are_never_mixed(
    release_root: Path, tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    shutil.copytree(release_root, root)
    dataset = Dataset.read(tiny_dataset)
    with (
        server_in_thread(root, poll_s=0.05) as server,
        RecommenderClient(f"{HOST}:{server.port}") as client,
    ):
        system = over_the_wire(client, dataset)
        with progress("index", 4) as advance:
            settings = IndexSettings(device="cpu")
            build(Bundle.read(tiny_bundle), Store(root), settings=settings, advance=advance)
        until_s = time.monotonic() + WAIT_S
        while (now := client.get_release().version.release) == system.release:
            assert time.monotonic() < until_s, "the release was not swapped"
            time.sleep(0.05)
        with pytest.raises(RemoteError) as swapped:
            evaluate(system, dataset, split="test", seed=0, batch=64)

    assert str(swapped.value) == (
        f"{client.address} swapped release {system.release} for {now} during the evaluation; "
        "run it again"
    )


@pytest.mark.parametrize("given", [[], ["--server", "localhost:1", "--baseline", "popularity"]])
def test_exactly_one_system_is_evaluated(
    recguru: Command, tiny_dataset: Path, tmp_path: Path, given: list[str]
) -> None:
    done = recguru("evaluate", "--data", tiny_dataset, "--out", tmp_path / "report.json", *given)

    assert done.code == 2
    assert "--server, --bundle, --baseline: give exactly one" in done.errors


def test_a_server_that_is_not_there_ends_the_command_with_one_line(
    recguru: Command, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{HOST}:{free_port()}"
    monkeypatch.setenv("RECGURU_CLIENT_ATTEMPTS", "1")

    done = recguru(
        "evaluate", "--data", tiny_dataset, "--server", address, "--out", tmp_path / "report.json"
    )

    assert done.code == 1
    assert done.errors.startswith(f"error: no server answers at {address}, tried once; ")
    assert done.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("folder", "it is a folder; name a file"),
        ("file/report.json", "File exists"),
        ("/proc/nowhere/report.json", "No such file or directory"),
    ],
)
def test_a_place_that_no_report_can_be_written_to_is_refused_before_the_work(
    recguru: Command, tiny_dataset: Path, tmp_path: Path, name: str, why: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / name

    done = recguru("evaluate", "--data", tiny_dataset, "--baseline", "popularity", "--out", out)

    assert done.code == 1
    assert done.errors == f"error: {out} cannot be written: {why}\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]
