"""The networks together: those that serve, and those that training needs besides."""

from collections.abc import Mapping
from itertools import filterfalse

import torch
from torch import nn

from model.networks.autoencoder import (
    SPREAD,
    DomainEmbedding,
    GurEncoder,
    Reconstructor,
)
from model.networks.bridge import PreferenceBridge
from model.networks.critic import Critic
from model.networks.recommender import Recommender
from model.networks.settings import NetworkSettings
from model.weight_names import module_key


class ServingNetworks(nn.Module):
    """What answers a call: the shared encoder; per domain a recommender and, if any, a bridge."""

    def __init__(self, items: Mapping[str, int], settings: NetworkSettings) -> None:
        super().__init__()
        self.gur_encoder = GurEncoder(items, settings)
        self.recommenders = nn.ModuleDict(
            {module_key(domain): Recommender(count, settings) for domain, count in items.items()}
        )
        bridged = items if settings.bridge_share else ()
        self.bridges = nn.ModuleDict(
            {module_key(domain): PreferenceBridge(settings) for domain in bridged}
        )

    def recommender(self, domain: str) -> Recommender:
        """Return the recommender of one domain."""
        recommender = self.recommenders[module_key(domain)]
        assert isinstance(recommender, Recommender)  # noqa: S101  # ModuleDict forgets the type
        return recommender

    def bridge(self, domain: str) -> PreferenceBridge:
        """Return the bridge to one domain; only where the settings ask for bridges."""
        bridge = self.bridges[module_key(domain)]
        assert isinstance(bridge, PreferenceBridge)  # noqa: S101  # ModuleDict forgets the type
        return bridge


class TrainingNetworks(nn.Module):
    """All networks of the paper's figure 1."""

    def __init__(self, items: Mapping[str, int], settings: NetworkSettings) -> None:
        super().__init__()
        self.serving = ServingNetworks(items, settings)
        self.reconstructors = nn.ModuleDict(
            {module_key(domain): Reconstructor(settings) for domain in items}
        )
        self.critic = Critic(
            width=settings.width, layers=settings.critic_layers, hidden=settings.critic_hidden
        )

    def reconstructor(self, domain: str) -> Reconstructor:
        """Return the reconstructor of one domain."""
        reconstructor = self.reconstructors[module_key(domain)]
        assert isinstance(reconstructor, Reconstructor)  # noqa: S101  # ModuleDict forgets the type
        return reconstructor


def initialise(networks: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew from a generator on the CPU; padding rows and biases become zero.

    Bridges are left as they are: what else is drawn does not hang on whether there are any.
    """
    bridges = [module for module in networks.modules() if isinstance(module, PreferenceBridge)]
    left = {part for bridge in bridges for part in bridge.modules()}
    with torch.no_grad():
        for module in filterfalse(left.__contains__, networks.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=SPREAD, generator=generator)
                if module.padding_idx is not None:
                    module.weight[module.padding_idx].zero_()
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            for parameter in module.parameters(recurse=False):
                if isinstance(module, Reconstructor | Recommender | DomainEmbedding):
                    nn.init.normal_(parameter, std=SPREAD, generator=generator)
