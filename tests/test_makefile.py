"""What the targets run, with a stand-in for the interpreter that only notes how it is called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
_INSTALL = "-m pip install --quiet --constraint constraints.txt --editable"
_UNINSTALL = "-m pip uninstall --quiet --yes faiss-cpu faiss-gpu"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Lay out what `make install` reads, with an interpreter that writes its arguments down."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> calls\n', encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def made(checkout: Path, *arguments: str) -> list[str]:
    """Run make there; give what it asked of the interpreter."""
    calls = checkout / "calls"
    calls.write_text("", encoding="utf-8")
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    subprocess.run(command, cwd=checkout, check=True, timeout=60)
    return calls.read_text(encoding="utf-8").splitlines()


def test_the_gpu_build_stays_when_another_target_is_made(checkout: Path) -> None:
    made(checkout, "install", "FAISS=gpu")

    assert made(checkout, "test-gpu") == ["-m pytest -m gpu"]


def test_a_checkout_gets_the_cpu_build_and_removes_nothing(checkout: Path) -> None:
    calls = made(checkout, "install")

    assert f"{_INSTALL} .[cpu,milvus,plots,otel,dev]" in calls
    assert _UNINSTALL not in calls


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_the_other_build_of_faiss_goes_before_one_comes(
    checkout: Path, first: str, then: str
) -> None:
    made(checkout, "install", f"FAISS={first}")

    calls = made(checkout, "install", f"FAISS={then}")

    assert calls.index(_UNINSTALL) < calls.index(f"{_INSTALL} .[{then},milvus,plots,otel,dev]")
    assert made(checkout, "install") == []
