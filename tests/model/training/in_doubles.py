"""`recguru` in double precision, where two orders of a sum differ by next to nothing.

python -m tests.model.training.in_doubles train ...
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recguru_cli import main


@contextmanager
def doubles() -> Iterator[None]:
    """Let networks that are made in the block compute in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    with doubles():
        main()
