"""Memory that is freed stays with the process, until it is given back."""

import ctypes
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
WAIT_S = 60
ROUNDS = 20
BYTES = 8 * (2 << 20)
"""What a round takes and frees: eight blocks of two megabytes."""
PAGES = BYTES // resource.getpagesize()
BEGIN = f"""
import resource
import numpy as np
from model.allocator import keep_freed_memory
from model.comparison.measure import measured

def rounds():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        blocks = [np.ones(1 << 18) for _ in range(8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""

pytestmark = [
    pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library"),
    pytest.mark.skipif(
        HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(),
        reason="pages are huge here, and hardly cost anything",
    ),
]


def printed(program: str) -> list[float]:
    """Run a program in a process of its own -> the numbers it prints."""
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


def test_what_a_round_frees_the_next_one_takes_without_paying_for_its_pages() -> None:
    free, kept = printed("""
free = rounds()
keep_freed_memory()
rounds()
print(free, rounds())
""")
    assert free > 0.9 * ROUNDS * PAGES
    assert kept < PAGES / 10


def test_what_was_kept_before_is_not_counted_as_memory_of_a_fit() -> None:
    before, counted = printed("""
with measured() as before:
    pass
keep_freed_memory()
blocks = [np.ones(1 << 18) for _ in range(80)]
del blocks
with measured() as cost:
    pass
print(before.peak_mib, cost.peak_mib)
""")
    assert counted - before < BYTES / 2**20


@pytest.mark.parametrize("command", ["model.cli:train", "model.comparison.cli:compare"])
def test_trainings_and_comparisons_keep_what_they_free(command: str, tmp_path: Path) -> None:
    """They end at once here, for want of data, but have said so to the C library by then."""
    module, name = command.split(":")
    (kept,) = printed(f"""
from contextlib import suppress
from pathlib import Path
from model.errors import RecGuruError
from {module} import {name}
with suppress(RecGuruError):
    {name}(data=Path({str(tmp_path / "absent")!r}), out=Path({str(tmp_path / "run")!r}))
rounds()
print(rounds())
""")
    assert kept < PAGES / 10
