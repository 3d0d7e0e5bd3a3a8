"""Arrays of a safetensors file, copied or mapped, against what the library itself reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.errors import BadArtifactError, NotFoundError
from model.tensor_files import read_arrays

ARRAYS: dict[str, NDArray[Any]] = {
    "table": np.arange(12, dtype=np.float32).reshape(4, 3),
    "counts": np.asarray([7, 1 << 40], np.int64),
    "flags": np.asarray([True, False, True]),
    "one": np.asarray(2.5),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write the arrays with the library."""
    path = tmp_path / "arrays.safetensors"
    save_file(ARRAYS, path, metadata={"by": "a test"})
    return path


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_come_back_as_they_were(path: Path, mapped: bool) -> None:
    found = read_arrays(path, mapped=mapped)
    assert found.keys() == ARRAYS.keys()
    for name, array in found.items():
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_what_is_written_to_a_mapped_array_stays_in_this_process(path: Path) -> None:
    before = path.read_bytes()
    read_arrays(path, mapped=True)["table"][:] = 0
    assert path.read_bytes() == before
    assert read_arrays(path, mapped=True)["table"][3, 2] == 11


def test_a_mapped_file_may_be_replaced_and_its_arrays_live_on(path: Path) -> None:
    found = read_arrays(path, mapped=True)
    other = path.with_name("other")
    save_file({"table": np.zeros(1)}, other)
    other.replace(path)
    np.testing.assert_array_equal(found["table"], ARRAYS["table"])


def test_a_mapped_array_takes_memory_only_where_it_is_read(tmp_path: Path) -> None:
    def resident() -> int:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * 4096

    path = tmp_path / "large.safetensors"
    save_file({"table": np.ones((1 << 22, 16), np.float32)}, path)  # 256 MB
    before = resident()
    table = read_arrays(path, mapped=True)["table"]
    assert table[12345, 3] == 1
    assert resident() - before < 32 << 20


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_file_cut_short_is_refused(path: Path, mapped: bool, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BadArtifactError, match=r"arrays\.safetensors cannot be read"):
        read_arrays(path, mapped=mapped)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_missing_file_is_not_found(tmp_path: Path, mapped: bool) -> None:
    with pytest.raises(NotFoundError, match="nothing is missing"):
        read_arrays(tmp_path / "nothing", mapped=mapped)


def test_numbers_that_cannot_be_mapped_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "halves.safetensors"
    save_file({"half": np.ones(3, np.float16)}, path)
    with pytest.raises(BadArtifactError, match="cannot be read: numbers of type F16"):
        read_arrays(path, mapped=True)
