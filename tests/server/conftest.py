"""Releases to serve."""

from pathlib import Path

import pytest

from indexer.build import Extras, build
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.console import progress
from tests.server.item_attributes import write_table


@pytest.fixture(scope="session")
def releases(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a release root: each domain has the candidate set `every-third`, and attributes."""
    folder = tmp_path_factory.mktemp("server")
    bundle = Bundle.read(tiny_bundle)
    items = [item for domain in bundle.domains for item in list(domain.vocabulary.ids)[::3]]
    chosen = folder / "every-third.txt"
    chosen.write_text("".join(f"{item}\n" for item in items), encoding="utf-8")
    root = folder / "releases"
    with progress("index", 4) as advance:
        build(
            bundle,
            Store(root),
            settings=IndexSettings(device="cpu"),
            extras=Extras(
                candidates={"every-third": chosen},
                attributes={
                    each.name: write_table(folder, each.name, each.vocabulary.ids)
                    for each in bundle.domains
                },
            ),
            advance=advance,
        )
    return root
