"""A release of the tiny bundle, and a server process that serves it."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from client.client import RecommenderClient
from indexer.build import Extras, build
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.console import progress
from tests.client.serving import server_process

COLOURS = ("red", "dark green|red", "", "blue")
"""What one book after the other has, over and over."""


@pytest.fixture(scope="session")
def release_root(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a release root: each domain has the candidate set `first`, books have a colour."""
    folder = tmp_path_factory.mktemp("client")
    bundle = Bundle.read(tiny_bundle)
    chosen = folder / "first.txt"
    items = [item for domain in bundle.domains for item in domain.vocabulary.ids[:5]]
    chosen.write_text("".join(f"{item}\n" for item in items), encoding="utf-8")
    table = folder / "books.tsv"
    lines = [
        f"{item}\t{colour}\n"
        for item, colour in zip(bundle.domain("books").vocabulary.ids, cycle(COLOURS), strict=False)
    ]
    table.write_text("item_id\tcolour\n" + "".join(lines), encoding="utf-8")
    with progress("index", 4) as advance:
        build(
            bundle,
            Store(folder / "releases"),
            settings=IndexSettings(device="cpu"),
            extras=Extras(candidates={"first": chosen}, attributes={"books": table}),
            advance=advance,
        )
    return folder / "releases"


@pytest.fixture(scope="session")
def address(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the release by the real command, in a process of its own."""
    with server_process(release_root, tmp_path_factory.mktemp("serve")) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[RecommenderClient]:
    """Connect to that server."""
    with RecommenderClient(address) as connected:
        yield connected
