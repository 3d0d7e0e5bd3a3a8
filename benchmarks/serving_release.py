"""Something to serve, and questions to ask: of a prepared dataset, or of a made-up catalogue.

How quick a model answers does not depend on what it has learned, so networks are drawn at random,
at the size of the preset; catalogue and histories are what matters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.search import structured_table
from indexer.build import build
from indexer.spec import IndexSettings, Kind
from indexer.store import Store
from model.bundle import Bundle, DomainTables, write_bundle
from model.console import progress
from model.data.dataset import Dataset
from model.data.vocabulary import StringTable, Vocabulary
from model.files import publishing
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.presets import RECGURU
from model.weight_names import item_table_name

ASKED = 4096
K = 10
LONGEST = 200

History = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is served, and who asks for it."""

    vocabularies: Mapping[str, Vocabulary]
    domain: str
    """Whose items are asked for."""
    histories: list[History]
    """Of the users who ask, oldest item first, by domain."""
    width: int


def of_dataset(folder: Path) -> Catalogue:
    """Take the catalogues of a dataset, and the training rows of random users of its first domain.

    Shared users bring their history in the other domain along.
    """
    dataset = Dataset.read(folder)
    own, other = dataset.domains
    partners = dict(dataset.shared.tolist())
    generator = np.random.default_rng(0)
    histories: list[History] = []
    for user in generator.integers(len(own.users), size=ASKED).tolist():
        history = {own.name: own.training()[user]}
        if user in partners:
            history[other.name] = other.training()[partners[user]]
        histories.append(
            {
                name: [dataset.domain(name).vocabulary.item_id(int(row)) for row in rows]
                for name, rows in history.items()
            }
        )
    vocabularies = {domain.name: domain.vocabulary for domain in dataset.domains}
    return Catalogue(vocabularies, own.name, histories, int(RECGURU["network"]["width"]))


def simulated(items: int, *, width: int = 64) -> Catalogue:
    """Make up a domain of that many items, and one of a fifth; histories of 8 items on average."""
    generator = np.random.default_rng(0)
    names = {"video": items, "music": max(items // 5, 1)}
    vocabularies = {
        name: Vocabulary(StringTable.of(f"{name}-{item:08d}" for item in range(count)))
        for name, count in names.items()
    }
    histories: list[History] = []
    for length in np.minimum(generator.geometric(1 / 8, ASKED), LONGEST).tolist():
        rows = generator.integers(items, size=length)
        histories.append({"video": [f"video-{row:08d}" for row in rows.tolist()]})
    return Catalogue(vocabularies, "video", histories, width)


def release_of(catalogue: Catalogue, folder: Path, *, seed: int = 1, kind: Kind = "flat") -> Path:
    """Write a bundle of random networks and a release of it into a folder -> the release root.

    Another seed gives another bundle, and the root one more release. A `flat` index is the same
    work for every catalogue.
    """
    settings = NetworkSettings.model_validate(
        {**RECGURU["network"], "width": catalogue.width, "feed_forward": 2 * catalogue.width}
    )
    items = {name: len(known) for name, known in catalogue.vocabularies.items()}
    networks = ServingNetworks(items, settings)
    initialise(networks, torch.Generator().manual_seed(seed))
    weights = {name: value.numpy() for name, value in networks.state_dict().items()}
    domains = []
    for name, known in catalogue.vocabularies.items():
        table = structured_table(len(known), catalogue.width, np.random.default_rng(seed))
        weights[item_table_name(name)] = table
        popularity = np.zeros(len(known) + 1, np.float32)
        popularity[1:] = 1 / np.arange(1, len(known) + 1)
        domains.append(DomainTables(name, known, table, popularity / popularity.sum()))
    with publishing(folder / f"bundle-{seed}") as place:
        write_bundle(
            place,
            domains,
            weights,
            network=settings.model_dump(mode="json"),
            dataset="made up",
            training={},
        )
    bundle, root = Bundle.read(folder / f"bundle-{seed}"), folder / "releases"
    with progress("index", 2 * len(domains), quiet=True) as advance:
        settings_of_index = IndexSettings(kind=kind, device="cpu")
        build(bundle, Store(root), settings=settings_of_index, advance=advance)
    return root
