"""Arrays of a safetensors file: copies, or views of the mapped file."""

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from model.errors import BadArtifactError, NotFoundError

_LENGTH_BYTES = 8  # the file begins with the length of its header, little-endian
_TYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1", "BOOL": "?"}


def read_arrays(path: Path, *, mapped: bool) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file, by name.

    Args:
        path: The file.
        mapped: Whether to map the file rather than to copy it, so that processes share its pages.
            An array may then still be written to, in this process' own memory. While it lives the
            file may be replaced by another of its name, but must not be written to or cut short.

    Raises:
        NotFoundError: If there is no such file.
        BadArtifactError: If it is none of that format.
    """
    if not path.exists():
        raise NotFoundError(f"{path} is missing")
    try:
        return _mapped(path) if mapped else load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None


def _mapped(path: Path) -> dict[str, NDArray[Any]]:
    with safe_open(path, "numpy"):  # checks the header, and that its arrays fill the file
        pass
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = _LENGTH_BYTES + length
    return {
        name: _view(content, entry, start)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _view(content: mmap.mmap, entry: dict[str, Any], start: int) -> NDArray[Any]:
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"numbers of type {entry['dtype']}")
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    first, count = entry["data_offsets"][0], int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content, dtype, count, start + first).reshape(shape)
