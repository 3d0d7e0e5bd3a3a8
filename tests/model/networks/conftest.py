"""Networks small enough to test with, drawn so that every part of them matters."""

import pytest
import torch

from model.networks.settings import NetworkSettings
from model.networks.system import TrainingNetworks, initialise

ITEMS = {"books": 7, "films": 11}


@pytest.fixture(params=["inner", "cosine"])
def settings(request: pytest.FixtureRequest) -> NetworkSettings:
    """Give the size of the networks, no two numbers alike, with either way of scoring."""
    return NetworkSettings(
        width=12,
        heads=3,
        layers=2,
        feed_forward=20,
        max_history=9,
        recent=8,
        dropout=0.0,
        scoring=request.param,
        recent_decay=0.6 if request.param == "cosine" else 0.0,
    )


@pytest.fixture
def networks(settings: NetworkSettings) -> TrainingNetworks:
    """Draw all networks of two unlike domains, not training."""
    networks = TrainingNetworks(ITEMS, settings)
    initialise(networks, torch.Generator().manual_seed(1))
    return networks.eval()


@pytest.fixture
def roomier(networks: TrainingNetworks, settings: NetworkSettings) -> TrainingNetworks:
    """Give the same networks with room for longer histories."""
    more = NetworkSettings.model_validate(settings.model_dump() | {"max_history": 14, "recent": 13})
    state = networks.state_dict()
    for name, weight in state.items():
        if name.endswith("positions.weight"):
            extra = torch.full((5, weight.shape[1]), 7.0)  # what no history this short may read
            state[name] = torch.cat([weight, extra])
    grown = TrainingNetworks(ITEMS, more)
    grown.load_state_dict(state)
    return grown.eval()
