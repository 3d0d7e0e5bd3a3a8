"""Multiplying on a GPU; the only module here that imports torch.

FAISS on a GPU silently ignores its `IDSelector`, so candidates are gathered and multiplied, from a
copy of the item table in the GPUs' memory. Shapes: N rows, V items, D width, P rows of a part; row
0 is padding.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.arrays import Floats, Rows

_GATHERED = 1 << 20  # rows multiplied at a time: 256 MB of GPU memory at width 64


def gpus_of_torch() -> int:
    """Count the CUDA devices that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def describe_torch() -> dict[str, str | bool | None]:
    """Say which torch this is, the CUDA it was built for, and the GPU it sees."""
    there = torch.cuda.is_available()
    return {
        "version": str(torch.__version__),
        "cuda_build": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if there else None,
    }


class DeviceTable:
    """A copy of an item table in the memory of devices, of several each a run of its rows."""

    def __init__(self, table: Floats, devices: Sequence[str]) -> None:
        """Copy `table` (V + 1, D) to the devices of these names, at least one."""
        ends = [len(table) * (place + 1) // len(devices) for place in range(len(devices))]
        self._firsts = [0, *ends[:-1]]
        self._parts = [
            torch.tensor(table[first:end], device=device)
            for first, end, device in zip(self._firsts, ends, devices, strict=True)
        ]

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply a query (D,) with rows (N,) -> (N,), or with all items, 1 first -> (V,)."""
        if rows is None:
            # All are set to work before any is waited for.
            whole = [_multiplied(part, vector, None) for part in self._parts]
            return np.concatenate([part.cpu().numpy() for part in whole])[1:]
        if len(self._parts) == 1:
            found: Floats = _multiplied(self._parts[0], vector, rows).cpu().numpy()
            return found
        owners = np.searchsorted(self._firsts, rows, side="right") - 1
        places = [np.flatnonzero(owners == number) for number in range(len(self._parts))]
        gathered = [
            _multiplied(part, vector, rows[own] - first)
            for part, first, own in zip(self._parts, self._firsts, places, strict=True)
        ]
        products = np.empty(len(rows), np.float32)
        for own, part in zip(places, gathered, strict=True):
            products[own] = part.cpu().numpy()
        return products


def _multiplied(table: Tensor, vector: Floats, rows: Rows | None) -> Tensor:
    """Multiply a query (D,) with rows (N,) of a part of a table (P, D), or all -> (N,) or (P,)."""
    query = torch.tensor(vector, device=table.device)
    chosen = None if rows is None else torch.tensor(rows, device=table.device)
    count = len(table) if chosen is None else len(chosen)
    products = torch.empty(count, device=table.device)
    for first in range(0, count, _GATHERED):
        last = min(first + _GATHERED, count)
        part = table[first:last] if chosen is None else table.index_select(0, chosen[first:last])
        # No matrix product: it may round to TF32, beyond the bound that `search` relies on.
        products[first:last] = (part * query).sum(dim=1)
    return products
