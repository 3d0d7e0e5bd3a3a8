"""Builds and updates on a disk that is full or may not be written to: told in one line, undone."""

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from indexer.builders import build_index
from indexer.index_file import write_index
from model.bundle import write_bundle
from model.errors import RecGuruError
from model.files import write_bytes_atomically, write_manifest
from model.tensor_files import save_array
from tests.indexer.command_making import write_material
from tests.indexer.index_making import WIDTH, clustered, tables_of
from tests.indexer.test_kind_releases import SPECS
from tests.small_disk import outcomes_of

FULL = r"/(LATEST|\S+\.(npy|json|safetensors|faiss)) cannot be written: .*No space left on device"
TABLE = clustered(900, WIDTH, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("flat", 4),
        pytest.param("flat", 100, marks=pytest.mark.slow),
        pytest.param("hnsw", 100, marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_is_full_or_read_only_keeps_the_old_release_and_is_named(
    namespace: list[str], tmp_path: Path, kind: str, levels: int
) -> None:
    write_material(tmp_path)

    outcomes = outcomes_of(namespace, "tests.indexer.full_disk", tmp_path, kind, levels)

    root = tmp_path / "disk" / "releases"
    enough = [outcome for outcome in outcomes if outcome["missing"] == 0]
    assert [(outcome["code"], outcome["new"]) for outcome in enough] == [(0, 70), (0, 71)]
    for outcome in outcomes:
        if outcome["missing"] == 0:
            continue
        full = outcome["missing"] is not None
        assert outcome["code"] == 1, outcome
        assert outcome["unchanged"], outcome
        assert outcome["old"], outcome
        said = FULL if full else r"/\.lock: Read-only file system$"
        assert re.match(re.escape(f"error: {root}") + said, outcome["error"]), outcome
    last = [each["error"] for each in outcomes if each["missing"] == 1]
    assert last == [f"error: {root}/LATEST cannot be written: No space left on device"] * 3
    assert len(outcomes) >= 2 * (levels if levels < 10 else 30) + 4


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_every_writer_names_the_file_that_does_not_fit(tmp_path: Path) -> None:
    table = np.arange(600, dtype=np.float32).reshape(-1, 6)
    whole = tmp_path / "whole.npy"
    np.save(whole, table)
    save_array(tmp_path / "same.npy", table)
    assert (tmp_path / "same.npy").read_bytes() == whole.read_bytes()

    tables = tables_of("films", table)
    array, pointer, manifest = (tmp_path / name for name in ("a.npy", "LATEST", "manifest.json"))
    with limited(whole.stat().st_size - 1):
        refused: dict[Path, Callable[[], object]] = {
            array: lambda: save_array(array, table),
            pointer: lambda: write_bytes_atomically(pointer, bytes(3000)),
            manifest: lambda: write_manifest(
                tmp_path, kind="k", format_number=1, content={"text": "x" * 3000}
            ),
            tmp_path / "films" / "tables.safetensors": lambda: write_bundle(
                tmp_path, [tables], {}, network={}, dataset="d", training={}
            ),
        }
        for path, write in refused.items():
            with pytest.raises(RecGuruError, match=r" cannot be written: .*File too large") as told:
                write()
            assert str(told.value).startswith(f"{path} ")
    assert not pointer.exists()
    assert not list(tmp_path.glob(".LATEST*"))


@pytest.mark.parametrize("kind", SPECS)
def test_an_index_of_which_the_last_byte_does_not_fit_is_refused_as_it_is_written(
    tmp_path: Path, kind: str
) -> None:
    spec = SPECS[kind]
    index = build_index(spec, TABLE[1:])
    write_index(index, spec, tmp_path / "whole.faiss")
    size = (tmp_path / "whole.faiss").stat().st_size
    path = tmp_path / "films.faiss"
    for missing in (1, 100, size // 2, size - 4):
        with (
            limited(size - missing),
            pytest.raises(RecGuruError, match=r"films\.faiss cannot be written: File too large$"),
        ):
            write_index(index, spec, path)
