"""Arrays of safetensors and npy files: copies, or views of the mapped file."""

import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from model.errors import BadArtifactError, NotFoundError, RecGuruError
from model.files import writing

_LENGTH_BYTES = 8  # the file begins with the length of its header, little-endian
_REASON_CHARACTERS = 200  # numpy quotes a header in full
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
    try:
        if not path.exists():
            raise NotFoundError(f"{path} is missing")
        return _mapped(path) if mapped else load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None


def map_array(path: str | Path) -> NDArray[Any]:
    """Map the array of an npy file, for reading.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no array of numbers.
    """
    try:
        array: NDArray[Any] = open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:
        # A damaged header is parsed as Python, which fails in many ways besides a ValueError.
        reason = shorten(str(error), _REASON_CHARACTERS, placeholder="…")
        raise ValueError(reason or type(error).__name__) from error
    return array


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file, the one that `numpy.save` writes.

    Raises:
        RecGuruError: If the disk is full.
    """
    # Into a file open for writing alone numpy writes past Python, and then says of a full disk how
    # many numbers it took and not why it took no more.
    with writing(path), path.open("w+b") as file:
        np.save(file, array)


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Name the safetensors file that is being written where that fails.

    Raises:
        RecGuruError: In place of a SafetensorError, which names no file.
    """
    try:
        yield
    except SafetensorError as error:
        raise RecGuruError(f"{path} cannot be written: {error}") from None


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
