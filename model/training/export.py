"""From networks and dataset to a bundle folder.

Shapes: U users of a domain, Q of them, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.arrays import Floats
from model.bundle import DomainTables, write_bundle
from model.data.dataset import Dataset
from model.data.popularity import popularity_shares
from model.data.training_data import TrainingData
from model.files import publishing
from model.inference import Inference
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks
from model.weight_names import item_table_name

QUERIES = 2_000
"""Users of a domain whose preference vectors a bundle holds, at most."""
_SEED = 0


def export_bundle(
    folder: Path,
    dataset: Dataset,
    networks: ServingNetworks,
    settings: NetworkSettings,
    *,
    training: Mapping[str, Any],
) -> str:
    """Write the bundle of trained networks, replacing one that is there; return its digest.

    Args:
        folder: Where the bundle is to appear.
        dataset: What the networks were trained on.
        networks: The networks that serve.
        settings: Their size.
        training: How they were trained, as plain values, for the manifest.

    Raises:
        BadArtifactError: If a weight is not finite.
    """
    weights = {
        name: weight.detach().cpu().numpy() for name, weight in networks.state_dict().items()
    }
    if not settings.neighbours:  # items are read as they are scored, by the domain's item table
        for domain in dataset.domains:
            del weights[item_table_name(domain.name)]
    data = TrainingData.of(dataset)
    domains = [
        DomainTables(
            domain.name,
            domain.vocabulary,
            networks.recommender(domain.name).embedding.item_table().cpu().numpy(),
            popularity_shares(domain),
            user_queries(data, place, networks, settings),
        )
        for place, domain in enumerate(dataset.domains)
    ]
    with publishing(folder, replace=True) as place:
        return write_bundle(
            place,
            domains,
            weights,
            network=settings.model_dump(),
            dataset=dataset.digest,
            training=training,
        )


def user_queries(
    data: TrainingData, place: int, networks: ServingNetworks, settings: NetworkSettings
) -> Floats | None:
    """Compute what some users prefer in a domain, for those who tune an index for such queries.

    The users are drawn among those with a validation row, the same for the same dataset, in an
    order without meaning; as in validation they are known by their training rows, in both domains.

    Args:
        data: What may be learned from.
        place: 0 or 1, the domain.
        networks: The networks that serve.
        settings: Their size.

    Returns:
        (Q, D), finite, at most `QUERIES`; None where no user has a validation row.
    """
    domain = data.domains[place]
    asked = np.flatnonzero(domain.validation)
    if not len(asked):
        return None
    generator = np.random.default_rng([_SEED, place])
    users = generator.permutation(asked)[:QUERIES].tolist()
    histories = [data.history(domain, user) for user in users]
    names = [each.name for each in data.domains]
    device = next(networks.parameters()).device
    trains = networks.training
    networks.eval()
    inference = Inference(networks, names, settings, device)
    found = inference.prefer_all(domain.name, histories).preferences
    networks.train(trains)
    # Networks that overflow are refused where they are asked; no index is tuned for them.
    found = found[np.isfinite(found).all(axis=1)]
    return found if len(found) else None
