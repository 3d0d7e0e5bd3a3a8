"""From networks and dataset to a bundle folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.baselines.popularity import popularity_shares
from model.bundle import DomainTables, write_bundle
from model.data.dataset import Dataset
from model.files import publishing
from model.inference import item_table_name
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks


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
    domains = [
        DomainTables(
            domain.name,
            domain.vocabulary,
            networks.recommender(domain.name).embedding.item_table().cpu().numpy(),
            popularity_shares(domain),
        )
        for domain in dataset.domains
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
