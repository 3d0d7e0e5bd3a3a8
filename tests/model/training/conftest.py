"""Trainings small enough for a test."""

import pytest

from model.data.dataset import Dataset
from model.training.context import Context
from model.training.settings import TrainSettings
from tests.model.training.context_making import QUICK, chained_dataset, context_of


@pytest.fixture(scope="session")
def quick() -> TrainSettings:
    """Give settings that train in about a second, with sampled negatives in one domain of two."""
    return QUICK


@pytest.fixture
def chained() -> Dataset:
    """Give two ring-shaped domains, every other user shared."""
    return chained_dataset()


@pytest.fixture
def context(chained: Dataset, quick: TrainSettings) -> Context:
    """Give freshly drawn networks over the chained domains, on the CPU."""
    return context_of(chained, quick)
