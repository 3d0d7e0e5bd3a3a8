"""A dataset to compare on, and comparisons that have not begun."""

from pathlib import Path

import numpy as np
import pytest

from tests.model.comparison.systems_in_tests import Comparing, write_folder
from tests.model.dataset_making import random_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two unlike domains."""
    dataset = random_dataset(np.random.default_rng(1), users=60, items=50)
    return write_folder(dataset, tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture
def comparing(data: Path, tmp_path: Path) -> Comparing:
    """Give a comparison that has not begun."""
    return Comparing(data, tmp_path / "out")
