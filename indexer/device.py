"""Multiplying on a GPU; the only module here that imports torch.

FAISS on a GPU silently ignores its `IDSelector`, so candidates are gathered and multiplied, from a
copy of the item table in the GPU's memory. Shapes: N rows, V items, D width; row 0 is padding.
"""

import torch

from model.bundle import Floats
from model.data.vocabulary import Rows

_GATHERED = 1 << 20  # rows multiplied at a time: 256 MB of GPU memory at width 64


def torch_sees_gpu() -> bool:
    """Say whether torch can use a CUDA device."""
    return torch.cuda.is_available()


def describe_torch() -> dict[str, str | bool | None]:
    """Say which torch this is, the CUDA it was built for, and the GPU it sees."""
    there = torch.cuda.is_available()
    return {
        "version": str(torch.__version__),
        "cuda_build": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if there else None,
    }


class DeviceTable:
    """A copy of an item table in a device's memory."""

    def __init__(self, table: Floats, device: str) -> None:
        """Copy `table` (V + 1, D) to the device of that name."""
        self._table = torch.tensor(table, device=device)

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply a query (D,) with rows (N,) -> (N,), or with all items, 1 first -> (V,)."""
        table = self._table
        query = torch.tensor(vector, device=table.device)
        chosen = None if rows is None else torch.tensor(rows, device=table.device)
        count = len(table) - 1 if chosen is None else len(chosen)
        products = torch.empty(count, device=table.device)
        for first in range(0, count, _GATHERED):
            last = min(first + _GATHERED, count)
            part = (
                table[1 + first : 1 + last]
                if chosen is None
                else table.index_select(0, chosen[first:last])
            )
            # No matrix product: it may round to TF32, beyond the bound that `search` relies on.
            products[first:last] = (part * query).sum(dim=1)
        found: Floats = products.cpu().numpy()
        return found
