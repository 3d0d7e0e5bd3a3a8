"""The benchmark of search on GPUs, as far as it runs without one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu_floor import Rates, Work, floor_s, work_of
from indexer.builders import build_index
from indexer.placement import Gpus
from indexer.spec import ByteSpec, FlatSpec, HalfSpec, IvfByteSpec, IvfSpec
from tests.indexer.index_making import clustered

RATES = Rates(bytes_per_s=1000, operations_per_s=500, half_operations_per_s=2000)


def test_without_a_gpu_a_line_says_why_and_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("nothing is measured: device cuda was asked for, but ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("kind", gpu.KINDS)
def test_each_kind_is_measured_with_each_batch(kind: gpu.GpuKind) -> None:
    lines = list(gpu.measured(gpu.tables_for(700), kind, "cpu", gpu.SMOKE, RATES))
    assert [(line.kind, line.items, line.batch) for line in lines] == [
        (kind, 700, 1),
        (kind, 700, 8),
    ]
    for line in lines:
        assert line.recall >= 0.98
        assert line.found_ms == pytest.approx(1e3 * line.batch / line.found_per_s)
        assert line.answered_per_s > 0


def test_a_floor_is_the_longer_of_reading_and_computing() -> None:
    one, shards, replicas = Gpus(), Gpus((0, 1), shards=True), Gpus((0, 1))
    reading, computing = Work(2000, 500), Work(100, 4000)
    assert floor_s(reading, RATES, one) == 2
    assert floor_s(reading, RATES, shards) == 1
    assert floor_s(reading, RATES, replicas) == 2, "each replica reads all of it"
    assert floor_s(computing, RATES, one) == 8
    assert floor_s(computing, RATES, shards) == floor_s(computing, RATES, replicas) == 4
    assert floor_s(Work(100, 4000, half=True), RATES, one) == 2


def test_the_work_of_a_batch_is_counted_by_what_it_looks_at() -> None:
    table = clustered(600, 8, np.random.default_rng(1))
    vectors = table[[3, 4, 500]]
    flat = work_of(FlatSpec(), build_index(FlatSpec(), table[1:]), vectors)
    assert flat == Work(600 * 8 * 4, 2 * 3 * 600 * 8)
    half = work_of(HalfSpec(), build_index(HalfSpec(), table[1:]), vectors)
    assert half == Work(600 * 8 * 2, 2 * 3 * 600 * 8, half=True)
    for spec, code in ((IvfSpec(lists=9, probes=2), 4), (IvfByteSpec(lists=9, probes=2), 1)):
        index: Any = build_index(spec, table[1:])
        centres = index.quantizer.reconstruct_n(0, 9)
        near = [set(np.argsort(-(centres @ vector))[:2].tolist()) for vector in vectors]
        sizes = [index.invlists.list_size(place) for place in range(9)]
        compared = sum(sizes[place] for each in near for place in each)
        read = sum(sizes[place] for place in set.union(*near))
        assert work_of(spec, index, vectors) == Work(
            9 * 8 * 4 + read * 8 * code, 2 * 8 * (3 * 9 + compared)
        )


def test_a_kind_that_never_goes_to_a_gpu_has_no_floor() -> None:
    index = build_index(ByteSpec(), clustered(60, 8, np.random.default_rng(1))[1:])
    with pytest.raises(ValueError, match="no floor is known for flat-int8"):
        work_of(ByteSpec(), index, np.ones((1, 8), np.float32))


@pytest.mark.slow
def test_the_whole_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    # In a process of its own: FAISS's door to torch changes FAISS for all that comes after.
    place = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--smoke"]
    done = subprocess.run(
        [*command, "--json", str(place)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(place.read_text())
    assert figures["device"] == "cpu"
    assert len(figures["search"]) == len(gpu.KINDS) * 2
    assert [each["same"] for each in figures["pass"]] == [True, True]
