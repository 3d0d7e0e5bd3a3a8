"""The least time that a search can take on a device: what it reads and computes over the rates.

Both rates are measured by torch in the same run. Shapes: B queries, V items, D width, L lists.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.devices import wait
from indexer.faiss_api import FaissIndex
from indexer.placement import Gpus
from indexer.spec import FlatSpec, HalfSpec, IndexSpec, IvfByteSpec, IvfSpec
from model.arrays import Floats

_ROUNDS = 9
_NUMBER, _HALF = 4, 2  # bytes


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does in a second."""

    bytes_per_s: float
    """Read and written, by a copy in the device's own memory."""
    operations_per_s: float
    """In float32, a product and a sum being two, without TF32."""
    half_operations_per_s: float
    """The same of float16 numbers."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch cannot do without, if each byte is read once."""

    bytes: float
    operations: float
    half: bool = False


def median_s(device: torch.device, work: Callable[[], object], *, rounds: int = _ROUNDS) -> float:
    """Do it once for what is loaded lazily, then so many times -> the median of the seconds."""
    work()
    taken = []
    for _ in range(rounds):
        wait(device)
        begun = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def measured_rates(device: torch.device, *, megabytes: int, side: int) -> Rates:
    """Copy so many megabytes, and multiply square matrices of that side."""
    numbers = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(numbers)
    copied = 2 * _NUMBER * len(numbers) / median_s(device, lambda: target.copy_(numbers))
    torch.backends.cuda.matmul.allow_tf32 = False
    matrix = torch.rand(side, side, device=device)
    half = matrix.half() if device.type == "cuda" else matrix  # a CPU has no rate of float16
    operations = 2 * side**3
    return Rates(
        copied,
        operations / median_s(device, lambda: matrix @ matrix),
        operations / median_s(device, lambda: half @ half),
    )


def work_of(spec: IndexSpec, index: FaissIndex, vectors: Floats) -> Work:
    """Say what a search for a batch (B, D) reads and computes; not what it keeps in between."""
    items, width = index.ntotal, vectors.shape[1]
    match spec:
        case FlatSpec() | HalfSpec():
            half = isinstance(spec, HalfSpec)
            read = items * width * (_HALF if half else _NUMBER)
            return Work(read, 2 * len(vectors) * items * width, half=half)
        case IvfSpec(probes=probes) | IvfByteSpec(probes=probes):
            listed: Any = index
            _, lists = listed.quantizer.search(np.ascontiguousarray(vectors), probes)
            looked, times = np.unique(lists, return_counts=True)
            sizes = np.array([listed.invlists.list_size(int(each)) for each in looked])
            centres = listed.nlist * width
            code = width * (_NUMBER if isinstance(spec, IvfSpec) else 1)
            compared = len(vectors) * listed.nlist + int(sizes @ times)
            return Work(centres * _NUMBER + int(sizes.sum()) * code, 2 * compared * width)
    raise ValueError(f"no floor is known for {spec.kind}")


def floor_s(work: Work, rates: Rates, gpus: Gpus) -> float:
    """Say how long it takes at least: shards part what is read, replicas only the queries."""
    shares = len(gpus.numbers)
    rate = rates.half_operations_per_s if work.half else rates.operations_per_s
    read = work.bytes / (shares if gpus.shards else 1) / rates.bytes_per_s
    return max(read, work.operations / shares / rate)
