"""The whole pass on one device: histories in, encoded, preferences out, items found.

Once the preferences go to FAISS as they are, in the device's memory, and once through the host's,
as the server does it. Networks are drawn at random, at the size of the preset: how quick they are
does not depend on what they have learned. Shapes: B users, T steps, D width, V items.
"""

import importlib
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.devices import wait
from indexer.builders import build_index
from indexer.faiss_gpu import GpuCopy, copy_to_gpus
from indexer.spec import FlatSpec
from model.arrays import Floats
from model.inference import show_gurs
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.presets import RECGURU

DOMAIN = "items"
STEPS = 20


@dataclass(frozen=True, slots=True)
class Passed:
    """Medians of whole passes, in turns."""

    items: int
    batch: int
    networks_ms: float
    """Of it the networks alone."""
    on_device_ms: float
    through_host_ms: float
    same: bool
    """Whether both found the same items."""


def networks_of(items: int, width: int, device: torch.device) -> ServingNetworks:
    """Draw networks that read the GUR of the domain itself."""
    size = {"memory": "own", "bridge_share": 0.0, "width": width, "feed_forward": 2 * width}
    settings = NetworkSettings.model_validate({**RECGURU["network"], **size})
    networks = ServingNetworks({DOMAIN: items}, settings)
    initialise(networks, torch.Generator().manual_seed(1))
    return networks.to(device).requires_grad_(requires_grad=False).eval()


def preferences(networks: ServingNetworks, rows: Tensor) -> Tensor:
    """Encode histories (B, T) and recommend -> (B, D), on the device of both."""
    with torch.inference_mode():
        gurs = networks.gur_encoder(DOMAIN, rows)
        there = torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device)
        shown = show_gurs(there, steps=rows.shape[1] + 1)
        states: Tensor = networks.recommender(DOMAIN)(rows, gurs[:, None], shown, last=1)
        return states[:, -1].contiguous()


class WholePass:
    """Networks and an exact index of a table (V + 1, D) on one device."""

    def __init__(self, table: Floats, device: torch.device, k: int) -> None:
        # From here on FAISS takes tensors, and its searches take no parameters any more.
        importlib.import_module("faiss.contrib.torch_utils")
        exact = build_index(FlatSpec(), table[1:])
        self._copy = copy_to_gpus(exact, [0]) if device.type == "cuda" else GpuCopy(exact)
        self._index: Any = self._copy.index
        self._networks = networks_of(len(table) - 1, table.shape[1], device)
        self._items = len(table) - 1
        self._device = device
        self._k = k

    def on_device(self, histories: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leave the preferences where they are -> positions (B, k)."""
        _, found = self._index.search(self._preferences(histories), self._k)
        positions: NDArray[np.int64] = found.cpu().numpy()
        return positions

    def through_host(self, histories: NDArray[np.int64]) -> NDArray[np.int64]:
        """Copy the preferences to the host, from where FAISS copies them back."""
        vectors = self._preferences(histories).cpu().numpy()
        _, found = self._index.search(vectors, self._k)
        positions: NDArray[np.int64] = found
        return positions

    def measured(self, batch: int, *, rounds: int) -> Passed:
        """Take turns, as many as told, and compare the medians."""
        generator = np.random.default_rng(batch)
        histories = generator.integers(1, self._items + 1, (batch, STEPS))
        ways = (self._preferences, self.on_device, self.through_host)
        same = bool((self.on_device(histories) == self.through_host(histories)).all())
        taken: list[list[float]] = [[], [], []]
        for _ in range(rounds):
            for way, times in zip(ways, taken, strict=True):
                wait(self._device)
                begun = time.perf_counter()
                way(histories)
                wait(self._device)
                times.append(1e3 * (time.perf_counter() - begun))
        networks_ms, on_device_ms, through_host_ms = map(statistics.median, taken)
        return Passed(self._items, batch, networks_ms, on_device_ms, through_host_ms, same)

    def _preferences(self, histories: NDArray[np.int64]) -> Tensor:
        return preferences(self._networks, torch.from_numpy(histories).to(self._device))
