"""Settings, data and networks of trainings small enough for a test."""

import numpy as np
import torch

from model.data.dataset import Dataset, DomainData, Sequences
from model.data.training_data import TrainingData
from model.data.vocabulary import StringTable, Vocabulary
from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks, initialise
from model.training.context import Context
from model.training.parallel import Team
from model.training.settings import TrainSettings

QUICK = TrainSettings.model_validate(
    {
        "seed": 5,
        "checkpoint_steps": 3,
        "network": NetworkSettings(
            width=16, heads=2, layers=1, feed_forward=32, max_history=10, recent=10, dropout=0.1
        ),
        "pre_training": {"epochs": 8, "batch_users": 16, "warmup_steps": 10, "negatives": 20},
        "adversarial": {"steps": 24, "batch_users": 16, "critic_steps": 2, "negatives": 20},
        "fine_tuning": {"epochs": 8, "batch_users": 16, "validation_steps": 5, "negatives": 20},
    }
)


def chained_domain(
    name: str, users: int, items: int, seed: int, *, shortest: int = 5
) -> DomainData:
    """Make a domain where each item is followed by the next one in a ring: the answer is known.

    Histories have from `shortest` to nine items.
    """
    generator = np.random.default_rng(seed)
    lists = [
        ((first + np.arange(length)) % items + 1).astype(np.int32)
        for first, length in zip(
            generator.integers(items, size=users),
            generator.integers(shortest, 10, users),
            strict=True,
        )
    ]
    names = [f"{name[0]}{user:04d}" if user % 2 else f"u{user:04d}" for user in range(users)]
    order = np.argsort(names)
    ids = StringTable.of(f"{name}-{item:03d}" for item in range(items))
    return DomainData(
        name,
        Vocabulary(ids),
        StringTable.of(sorted(names)),
        Sequences.of([lists[place] for place in order]),
    )


def chained_dataset(*, shortest: int = 5) -> Dataset:
    """Make two ring-shaped domains, every other user shared."""
    first = chained_domain("north", 80, 30, 1, shortest=shortest)
    second = chained_domain("south", 60, 50, 2, shortest=shortest)
    places = {user: place for place, user in enumerate(second.users)}
    shared = [(place, places[user]) for place, user in enumerate(first.users) if user in places]
    return Dataset((first, second), np.asarray(shared, np.int32), "digest", {})


def context_of(dataset: Dataset, settings: TrainSettings) -> Context:
    """Draw networks over a dataset, on the CPU."""
    data = TrainingData.of(dataset)
    items = {domain.name: domain.items for domain in data.domains}
    networks = TrainingNetworks(items, settings.network)
    initialise(networks, torch.Generator().manual_seed(1))
    return Context.of(data, networks, settings, Team(torch.device("cpu")))
