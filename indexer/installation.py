"""Which FAISS is installed: two wheels bring the one module `faiss`, and overwrite each other."""

import logging
from functools import cache
from importlib.metadata import PackageNotFoundError, version

log = logging.getLogger(__name__)

WHEELS = ("faiss-cpu", "faiss-gpu")
REPAIR = "pip uninstall -y faiss-cpu faiss-gpu, then pip install faiss-cpu (or faiss-gpu)"


def faiss_wheels() -> dict[str, str]:
    """Return the installed wheels that bring FAISS, by name, with their versions."""
    found = {}
    for name in WHEELS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def warn_of_two_faiss() -> None:
    """Log a warning, once a process, if both wheels are installed."""
    if len(faiss_wheels()) > 1:
        log.warning(
            "%s are both installed and overwrite each other: %s", " and ".join(WHEELS), REPAIR
        )
