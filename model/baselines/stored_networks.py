"""How networks of both domains become tensors by name, and are taken back."""

from collections.abc import Mapping

import torch
from torch import nn

from model.baselines.system import Tensors
from model.baselines.tensors import stored


def tensors_of(networks: Mapping[str, nn.Module]) -> Tensors:
    """Return the weights of networks by the name of their domain, then their own."""
    return {
        f"{domain}.{name}": weight.detach().numpy()
        for domain, network in networks.items()
        for name, weight in network.state_dict().items()
    }


def take_back(network: nn.Module, domain: str, tensors: Tensors) -> None:
    """Set all weights of the network of a domain to those that `tensors_of` returned.

    Raises:
        BadArtifactError: If one is absent, of another shape, or not finite.
    """
    state = {
        name: torch.tensor(stored(tensors, f"{domain}.{name}", tuple(weight.shape)))
        for name, weight in network.state_dict().items()
    }
    network.load_state_dict(state)
