"""A bundle for each test of the indexer."""

from pathlib import Path

import pytest

from model.bundle import Bundle
from tests.indexer.index_making import write_small_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a small bundle of two domains."""
    return Bundle.read(write_small_bundle(tmp_path / "bundle"))
