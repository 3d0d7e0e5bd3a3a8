"""Small real artifacts that several packages test with."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from model.console import THREADS
from model.data.dataset import DomainData, Sequences, write_dataset
from model.data.vocabulary import StringTable, Vocabulary
from model.files import publishing
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.export import export_bundle
from tests.authority import Authority
from tests.commands import Command

TINY = NetworkSettings(
    width=16,
    heads=2,
    layers=2,
    feed_forward=32,
    max_history=12,
    recent=12,
    dropout=0.0,
    neighbours=3,
)
# A loaded machine must not fail a property that holds; the same examples on every run, everywhere.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis-notes"))  # not in the checkout

# Two test processes share two cores: more threads than one each would fight.
torch.set_num_threads(1)

SIZES = {"books": (60, 40), "films": (50, 300)}  # users, items


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real interaction data, or skip."""
    import os

    root = Path(os.environ.get("RECGURU_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data is absent: no folder {root}; set RECGURU_DATA")
    return root


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dataset of two unlike domains; 20 users are shared, some sequences are very short."""
    generator = np.random.default_rng(7)
    domains = tuple(
        _domain(name, users, items, generator) for name, (users, items) in SIZES.items()
    )
    first, second = domains
    places = {user: place for place, user in enumerate(second.users)}
    pairs = [(i, places[user]) for i, user in enumerate(first.users) if user in places]
    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    with publishing(folder) as place:
        write_dataset(
            place, (first, second), np.asarray(pairs, np.int32), made={"by": "tests"}, report={}
        )
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle with networks drawn at random, that reads and scores items differently."""
    from model.data.dataset import Dataset
    from model.training.neighbours import likest_items

    dataset = Dataset.read(tiny_dataset)
    items = {domain.name: len(domain.vocabulary) for domain in dataset.domains}
    networks = ServingNetworks(items, TINY)
    initialise(networks, torch.Generator().manual_seed(3))
    for domain in dataset.domains:
        found, shares = likest_items(domain.sequences, items[domain.name], TINY.neighbours)
        embedding = networks.recommender(domain.name).embedding
        embedding.mix_neighbours(torch.from_numpy(found), torch.from_numpy(shares))
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export_bundle(folder, dataset, networks, TINY, training={"by": "tests"})
    return folder


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that tests trust."""
    return Authority.make(tmp_path_factory.mktemp("tls") / "good")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that nobody trusts."""
    return Authority.make(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture
def logging_ends() -> Iterator[None]:
    """Let the logging that a test sets up end with it."""
    root = logging.getLogger()
    level, before = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in before and type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture
def recguru(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logging_ends: None,  # noqa: ARG001  # a fixture cannot ask for another but so
) -> Command:
    """Run `recguru` command lines; their logging and environment end with the test."""
    for name in THREADS:
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    return Command(monkeypatch, capsys)


def _domain(name: str, users: int, items: int, generator: np.random.Generator) -> DomainData:
    ids = [f"{name[0]}{item:04d}" for item in range(items)]
    vocabulary = Vocabulary(StringTable.of(ids), StringTable.of(f"{name} no. {i}" for i in ids))
    popular = 1 / np.arange(1, items + 1)
    lists = [
        generator.choice(items, length, replace=False, p=popular / popular.sum()) + 1
        for length in generator.integers(1, 16, users)
    ]
    shared = [f"u{user:03d}" for user in range(20)]
    own = [f"{name[0]}-{user:03d}" for user in range(users - len(shared))]
    names = sorted(shared + own)
    return DomainData(
        name,
        vocabulary,
        StringTable.of(names),
        Sequences.of([rows.astype(np.int32) for rows in lists]),
    )


@pytest.fixture
def namespace() -> list[str]:
    """Give the words before a command that may mount; skip where nobody may."""
    found = shutil.which("unshare")
    if found is None:
        pytest.skip("there is no unshare to make a mount namespace with")
    words = [found, "--map-root-user", "--mount"]
    probe = [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace may be made here: {done.stderr.strip()}")
    return words
