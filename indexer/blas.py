"""How many threads numpy's matrix products use.

numpy has no call for it: the library it multiplies with is asked itself. An environment variable
(`OPENBLAS_NUM_THREADS`) would have to be set before numpy is first imported.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

_PREFIXES = ("scipy_openblas", "openblas")
_SUFFIXES = ("64_", "")


@cache
def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Find the calls that tell and set the number of threads of numpy's OpenBLAS."""
    for path in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        library = ctypes.CDLL(str(path))
        for prefix in _PREFIXES:
            for suffix in _SUFFIXES:
                names = [f"{prefix}_{verb}_num_threads{suffix}" for verb in ("get", "set")]
                if all(hasattr(library, name) for name in names):
                    return getattr(library, names[0]), getattr(library, names[1])
    return None


def can_limit() -> bool:
    """Say whether the number of threads can be set: whether this numpy multiplies by OpenBLAS."""
    return _controls() is not None


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Multiply with `count` threads for a while; None, or another library, leaves it as it is.

    The number is the process's: other threads that multiply meanwhile use it too.
    """
    controls = _controls()
    if count is None or controls is None:
        yield
        return
    tell, change = controls
    before = tell()
    change(count)
    try:
        yield
    finally:
        change(before)
