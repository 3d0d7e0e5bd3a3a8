"""What `recguru doctor` finds."""

import logging
from pathlib import Path

import pytest

from indexer import doctor
from indexer.doctor import examine, judge_faiss
from indexer.installation import REPAIR, WHEELS, faiss_wheels, warn_of_two_faiss


@pytest.fixture
def both_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the metadata of both wheels on the path, as installing one over the other does."""
    for name in WHEELS:
        folder = tmp_path / f"{name.replace('-', '_')}-1.15.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.15.1\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_this_installation_is_found_whole() -> None:
    findings = {finding.name: finding for finding in examine()}

    assert [finding for finding in findings.values() if finding.broken] == []
    assert {"python", "recguru-service", "numpy", "torch", "faiss", "cpu cores"} <= findings.keys()
    assert "hypothesis" not in findings, "extras are no part of every installation"


def test_both_faiss_wheels_are_flagged_with_a_fix(both_wheels: None) -> None:
    del both_wheels
    finding = judge_faiss(faiss_wheels())

    assert finding.broken
    assert finding.value == "faiss-cpu 1.15.1, faiss-gpu 1.15.1"
    assert finding.fix == REPAIR


def test_both_faiss_wheels_are_warned_of_once_when_a_release_is_read(
    both_wheels: None, caplog: pytest.LogCaptureFixture
) -> None:
    del both_wheels
    warn_of_two_faiss.cache_clear()
    with caplog.at_level(logging.WARNING):
        warn_of_two_faiss()
        warn_of_two_faiss()
    warn_of_two_faiss.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        f"faiss-cpu and faiss-gpu are both installed and overwrite each other: {REPAIR}"
    ]


def test_no_faiss_wheel_is_flagged_with_a_fix() -> None:
    finding = judge_faiss({})
    assert finding.broken
    assert finding.fix == "pip install 'recguru-service[cpu]' (with an NVIDIA GPU: [gpu])"


def test_one_faiss_wheel_is_fine() -> None:
    assert not judge_faiss({"faiss-gpu": "1.15.1"}).broken


def test_a_library_that_is_missing_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=2.1", "no-such-library>=3", 'faiss-cpu; extra == "cpu"']
    monkeypatch.setattr(doctor, "requires", lambda _: needed)

    broken = [finding for finding in examine() if finding.broken]

    assert [(finding.name, finding.value, finding.fix) for finding in broken] == [
        ("no-such-library", "missing", "pip install 'no-such-library>=3'")
    ]


@pytest.mark.parametrize("threads", ["0", "many", "-1"])
def test_a_thread_number_that_is_none_is_flagged(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    (broken,) = [finding for finding in examine() if finding.broken]
    assert (broken.name, broken.fix) == (
        "OMP_NUM_THREADS",
        "set it to a number from 1, or unset it",
    )
