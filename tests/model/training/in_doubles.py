"""`recguru` in double precision, where two orders of a sum differ by next to nothing.

python -m tests.model.training.in_doubles PORT train ... [, PORT train ...]

Starting takes longer than a small training, so one start may run several commands. Processes that
torchrun started meet at that port of this machine, another for each command.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

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


def _each() -> Iterator[list[str]]:
    """Give port and arguments of each command."""
    arguments = iter(sys.argv[1:])
    while command := list(takewhile(lambda argument: argument != ",", arguments)):
        yield command


if __name__ == "__main__":
    commands = list(_each())
    with doubles():
        for command in commands:
            os.environ |= {"MASTER_PORT": command[0], "TORCHELASTIC_USE_AGENT_STORE": "False"}
            sys.argv[1:] = command[1:]
            try:
                main()
            except SystemExit as end:
                if end.code:
                    raise
