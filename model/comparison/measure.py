"""What a fit costs: minutes and memory."""

import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model.allocator import give_back_freed_memory

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
_KIB_PER_MIB = 1024


@dataclass(slots=True)
class Cost:
    """Filled when what is measured is done."""

    minutes: float = 0.0
    """On the clock of the wall."""
    peak_mib: float = 0.0
    """Most memory the process held meanwhile, all libraries included."""


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what is done inside."""
    cost = Cost()
    give_back_freed_memory()
    _forget_peak()
    started = time.monotonic()
    yield cost
    cost.minutes = (time.monotonic() - started) / 60
    cost.peak_mib = _peak_kib() / _KIB_PER_MIB


def _forget_peak() -> None:
    try:
        _RESET.write_text("5", encoding="ascii")  # Linux: the peak starts again from what is held
    except OSError:
        return


def _peak_kib() -> int:
    try:
        found = _PEAK.search(_STATUS.read_text(encoding="ascii"))
    except OSError:
        found = None
    return int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
