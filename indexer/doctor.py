"""What is installed and whether it can work, for `recguru doctor`: findings, each with a fix."""

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version

from indexer.installation import REPAIR, faiss_wheels
from model.errors import RecGuruError
from model.findings import Finding

DISTRIBUTION = "recguru-service"
_OLDEST_PYTHON = (3, 11)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def examine() -> list[Finding]:
    """Look at the whole installation."""
    return [
        _python(),
        *_packages(),
        judge_faiss(faiss_wheels()),
        _faiss_module(),
        _torch_module(),
        *_gpus(),
        _milvus(),
        *_processors(),
    ]


def judge_faiss(wheels: Mapping[str, str]) -> Finding:
    """Judge the FAISS wheels found, versions by name: there must be exactly one."""
    value = ", ".join(f"{name} {number}" for name, number in wheels.items())
    if not wheels:
        fix = f"pip install '{DISTRIBUTION}[cpu]' (with an NVIDIA GPU: [gpu])"
        return Finding("faiss wheel", "none", fix)
    return Finding("faiss wheel", value, REPAIR if len(wheels) > 1 else "")


def _python() -> Finding:
    fix = "" if sys.version_info >= _OLDEST_PYTHON else "install Python 3.11 or newer"
    return Finding("python", platform.python_version(), fix)


def _packages() -> Iterator[Finding]:
    """Look at the distribution and at what it needs in every installation, extras left out."""
    try:
        needed = requires(DISTRIBUTION) or []
        yield Finding(DISTRIBUTION, version(DISTRIBUTION))
    except PackageNotFoundError:
        yield Finding(DISTRIBUTION, "missing", "make install, or pip install .")
        return
    for requirement in needed:
        found = _NAME.match(requirement)
        if found is None or "extra ==" in requirement:
            continue
        name = found.group()
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", f"pip install '{requirement}'")


def _faiss_module() -> Finding:
    try:
        from indexer import faiss_api  # noqa: PLC0415  # that it cannot be imported is a finding
    except (ImportError, OSError, RecGuruError) as error:
        return Finding("faiss", f"cannot be imported: {error}", REPAIR)
    gpus = f"{faiss_api.gpu_count()} GPUs" if faiss_api.has_gpu_build() else "built for CPU only"
    return Finding("faiss", f"{faiss_api.VERSION}, {gpus}")


def _torch_module() -> Finding:
    try:
        from indexer.device import describe_torch  # noqa: PLC0415  # that it cannot be imported is a finding
    except (ImportError, OSError) as error:
        return Finding("torch module", f"cannot be imported: {error}", "pip install torch")
    torch = describe_torch()
    cuda = f"CUDA {torch['cuda_build']}" if torch["cuda_build"] else "built for CPU only"
    return Finding("torch module", f"{torch['version']}, {cuda}, GPU: {torch['gpu'] or 'none'}")


def _gpus() -> Iterator[Finding]:
    """Count the GPUs that indexes may be put on; what cannot be imported is found above."""
    try:
        from indexer.placement import visible_gpus  # noqa: PLC0415  # FAISS may be missing

        count = visible_gpus()
    except (ImportError, OSError, RecGuruError):
        return
    yield Finding("gpus", describe_gpus(count))


def describe_gpus(count: int) -> str:
    """Say what the setting `gpus` makes of so many."""
    if count == 0:
        return "none that FAISS and torch both see: the setting gpus has no effect"
    if count == 1:
        return "1, which holds the indexes: the setting gpus has no effect"
    return f"{count}: gpus=first puts the indexes on one, replicas on each, shards a part on each"


def _milvus() -> Finding:
    try:
        return Finding("pymilvus", version("pymilvus"))
    except PackageNotFoundError:
        return Finding("pymilvus", "none: of use only where an index is kept in Milvus")


def _processors() -> Iterator[Finding]:
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # systems other than Linux do not tell
        usable = os.cpu_count() or 1
    yield Finding("cpu cores", f"{usable} of {os.cpu_count()} usable by this process")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads:
        yield Finding("OMP_NUM_THREADS", "not set: each library starts a thread for each core")
    elif re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", threads):
        yield Finding("OMP_NUM_THREADS", threads)
    else:
        yield Finding("OMP_NUM_THREADS", threads, "set it to a number from 1, or unset it")
