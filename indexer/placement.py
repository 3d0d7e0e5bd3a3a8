"""Which device an index is searched on: what was asked for, what there is, and what it means."""

import logging
from dataclasses import dataclass
from typing import Literal

from indexer import faiss_api
from indexer.spec import GpuUse
from model.errors import UnavailableDeviceError
from model.settings import DeviceChoice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that hold an index."""

    numbers: tuple[int, ...] = (0,)
    """As FAISS and torch count those that `CUDA_VISIBLE_DEVICES` leaves, from 0."""
    shards: bool = False
    """Whether each holds a part; otherwise each holds all, and gets a part of every batch."""

    def __str__(self) -> str:
        if len(self.numbers) == 1:
            return "one GPU"
        return f"{len(self.numbers)} GPUs as {'shards' if self.shards else 'replicas'}"


Device = Literal["cpu"] | Gpus


def index_device(choice: DeviceChoice, gpus: GpuUse = "first") -> Device:
    """Turn what was asked for into where the index goes.

    `auto` warns where that is not a GPU, and so does a use of several GPUs where there are none.

    Args:
        choice: `auto`, `cpu` or `cuda`.
        gpus: What is made of several GPUs.

    Raises:
        UnavailableDeviceError: If `cuda` is asked for and cannot be used; the message says why.
    """
    if choice == "cpu":
        return _on_cpu(gpus)
    obstacle = _obstacle()
    if obstacle is not None:
        if choice == "cuda":
            raise UnavailableDeviceError(f"device cuda was asked for, but {obstacle}")
        log.warning("the index is searched on the CPU: %s", obstacle)
        return _on_cpu(gpus)
    return use_of(gpus, visible_gpus())


def use_of(gpus: GpuUse, count: int) -> Gpus:
    """Say which of so many GPUs, from 1, hold an index; warn where one is all there is to use."""
    if gpus == "first":
        return Gpus()
    if count == 1:
        log.warning("gpus=%s means no more than gpus=first: there is one GPU", gpus)
        return Gpus()
    return Gpus(tuple(range(count)), shards=gpus == "shards")


def visible_gpus() -> int:
    """Count the GPUs that FAISS and torch both see; 0 for builds without GPU support."""
    count = faiss_api.gpu_count()
    if not count:
        return 0
    from indexer.device import gpus_of_torch  # noqa: PLC0415  # torch: seconds, of no use on a CPU

    return min(count, gpus_of_torch())


def _on_cpu(gpus: GpuUse) -> Device:
    if gpus != "first":
        log.warning("gpus=%s has no effect: the index is searched on the CPU", gpus)
    return "cpu"


def _obstacle() -> str | None:
    if not faiss_api.has_gpu_build():
        return "this FAISS is built without GPU support (the extra [gpu] brings one that has it)"
    if faiss_api.gpu_count() == 0:
        return "FAISS sees no CUDA device"
    return None if visible_gpus() else "torch sees no CUDA device (is it a CPU-only build?)"
