"""The bundle folder: written whole, refused when damaged, readable without torch."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from model.bundle import NETWORKS, TABLES, Bundle, DomainTables, write_bundle
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError, NotFoundError

ROOT = Path(__file__).parents[2]
Arrays = dict[str, NDArray[Any]]
WEIGHT = np.arange(10, dtype=np.float32).reshape(5, 2).T  # not contiguous


def tables(name: str, ids: list[str], *, width: int = 3) -> DomainTables:
    rows = len(ids) + 1
    table = np.arange(rows * width, dtype=np.float32).reshape(width, rows).T  # not contiguous
    popularity = np.linspace(0, 1, rows, dtype=np.float32)
    return DomainTables(name, Vocabulary(StringTable.of(ids)), table, popularity)


def write(folder: Path, domains: list[DomainTables], weights: Arrays) -> str:
    folder.mkdir()
    return write_bundle(
        folder, domains, weights, network={"width": 3}, dataset="d" * 64, training={"seed": 1}
    )


@pytest.fixture
def domains() -> list[DomainTables]:
    """Give the tables of two unlike domains."""
    return [tables("toys", ["a", "ß"]), tables("books", ["x", "y", "z", "日"])]


@pytest.fixture
def folder(tmp_path: Path, domains: list[DomainTables]) -> Path:
    """Write a bundle of two domains."""
    place = tmp_path / "bundle"
    write(place, domains, {"layer.weight": WEIGHT})
    return place


@pytest.mark.parametrize("verify", [True, False])
def test_a_bundle_is_the_same_after_writing_and_reading(
    verify: bool, folder: Path, domains: list[DomainTables]
) -> None:
    bundle = Bundle.read(folder, verify=verify)
    assert [domain.name for domain in bundle.domains] == ["toys", "books"]
    for found, wanted in zip(bundle.domains, domains, strict=True):
        assert list(found.vocabulary.ids) == list(wanted.vocabulary.ids)
        np.testing.assert_array_equal(found.item_table, wanted.item_table)
        np.testing.assert_array_equal(found.popularity, wanted.popularity)
        assert found.item_table.dtype == np.float32
    np.testing.assert_array_equal(bundle.weights()["layer.weight"], WEIGHT)
    assert (bundle.dataset, bundle.network) == ("d" * 64, {"width": 3})


def test_the_same_content_has_the_same_digest_and_other_weights_another(
    folder: Path, tmp_path: Path, domains: list[DomainTables]
) -> None:
    weights: Arrays = {"layer.weight": WEIGHT.copy()}
    assert write(tmp_path / "same", domains, weights) == Bundle.read(folder).digest
    weights["layer.weight"][0, 0] = 2
    assert write(tmp_path / "other", domains, weights) != Bundle.read(folder).digest


def test_a_domain_is_found_by_its_name_and_others_are_named(folder: Path) -> None:
    bundle = Bundle.read(folder)
    assert bundle.domain("books") is bundle.domains[1]
    with pytest.raises(NotFoundError) as caught:
        bundle.domain("songs")
    assert str(caught.value) == "domain 'songs' is not in the bundle; it has toys, books"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["item_table", "popularity"])
def test_a_table_that_is_not_finite_is_not_written(
    bad: float, name: str, tmp_path: Path, domains: list[DomainTables]
) -> None:
    getattr(domains[1], name)[2] = bad
    with pytest.raises(BadArtifactError) as caught:
        write(tmp_path / "bundle", domains, {})
    expected = f"books/tables.safetensors: {name} holds a number that is not finite"
    assert str(caught.value) == expected


def test_a_weight_that_is_not_finite_is_not_written(
    tmp_path: Path, domains: list[DomainTables]
) -> None:
    with pytest.raises(BadArtifactError) as caught:
        write(tmp_path / "bundle", domains, {"bias": np.asarray([0, np.nan], np.float32)})
    expected = "networks.safetensors: bias holds a number that is not finite"
    assert str(caught.value) == expected


def rewrite_tables(folder: Path, change: Callable[[Arrays], object]) -> Path:
    path = folder / "books" / TABLES
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    return path


def test_a_table_that_is_not_finite_is_refused(folder: Path) -> None:
    path = rewrite_tables(folder, lambda arrays: arrays["item_table"].__setitem__(2, np.nan))
    with pytest.raises(BadArtifactError) as caught:
        Bundle.read(folder, verify=False)
    assert str(caught.value) == f"{path}: item_table holds a number that is not finite"


@pytest.mark.parametrize("name", ["item_table", "popularity"])
def test_a_missing_table_is_named(name: str, folder: Path) -> None:
    path = rewrite_tables(folder, lambda arrays: arrays.pop(name))
    with pytest.raises(BadArtifactError) as caught:
        Bundle.read(folder, verify=False)
    assert str(caught.value) == f"{path} holds no '{name}'"


@pytest.mark.parametrize(("name", "rows"), [("item_table", "4 and 5"), ("popularity", "5 and 4")])
def test_a_table_that_does_not_fit_its_vocabulary_is_refused(
    name: str, rows: str, folder: Path
) -> None:
    path = rewrite_tables(folder, lambda arrays: arrays.update({name: arrays[name][:-1].copy()}))
    with pytest.raises(BadArtifactError) as caught:
        Bundle.read(folder, verify=False)
    assert str(caught.value) == f"{path} holds tables of {rows} rows, not 5"


@pytest.mark.parametrize("name", [f"books/{TABLES}", f"toys/{TABLES}", NETWORKS])
@pytest.mark.parametrize("left", [0, 5, 60])
def test_a_truncated_file_is_refused_and_named(name: str, left: int, folder: Path) -> None:
    os.truncate(folder / name, left)
    with pytest.raises(BadArtifactError) as damaged:
        Bundle.read(folder)
    expected = f"{folder / name} is damaged: its SHA-256 is not the manifest's"
    assert str(damaged.value) == expected
    with pytest.raises(BadArtifactError) as unreadable:
        Bundle.read(folder, verify=False).weights()
    assert str(unreadable.value).startswith(f"{folder / name} cannot be read: ")


@pytest.mark.parametrize("name", [f"books/{TABLES}", NETWORKS])
def test_a_missing_file_is_refused_and_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(BadArtifactError) as damaged:
        Bundle.read(folder)
    assert str(damaged.value) == f"{folder / name} is missing"
    with pytest.raises(NotFoundError) as missing:
        Bundle.read(folder, verify=False).weights()
    assert str(missing.value) == f"{folder / name} is missing"


def test_a_folder_of_another_kind_is_no_bundle(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArtifactError, match=r"is a recguru-dataset, not a recguru-bundle$"):
        Bundle.read(tiny_dataset)
    with pytest.raises(NotFoundError, match=r"is not a recguru-bundle: there is no manifest\.json"):
        Bundle.read(tmp_path)


def test_a_bundle_of_real_networks_is_read_without_torch(tiny_bundle: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from model.bundle import Bundle\n"
        "bundle = Bundle.read(Path(sys.argv[1]))\n"
        "assert len(bundle.weights()) > 10\n"
        "assert bundle.domain('films').item_table.shape == (301, 16)\n"
        "print(*(name for name in ('torch', 'faiss', 'grpc', 'google') if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
