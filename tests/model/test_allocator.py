"""Memory that is freed stays with the process, until it is given back."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = 20
PAGES = 8 * (2 << 20) // 4096
"""Of what a round takes and frees: eight blocks of two megabytes."""
PROGRAM = f"""
import resource
import numpy as np
from model.allocator import give_back_freed_memory, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

def rounds():
    before = faults()
    for _ in range({ROUNDS}):
        blocks = [np.ones(1 << 18) for _ in range(8)]
        del blocks
    return faults() - before

free = rounds()
keep_freed_memory()
rounds()
kept, full = rounds(), held()
give_back_freed_memory()
print(free, kept, full - held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_what_a_round_frees_the_next_one_takes_without_paying_for_its_pages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    free, kept, given_back = map(int, done.stdout.split())
    assert free > 0.9 * ROUNDS * PAGES
    assert kept < PAGES / 10
    assert given_back > 0.9 * PAGES
