"""Building, publishing and reading a release."""

import json
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest

from indexer.build import build
from indexer.publish import versions
from indexer.release import Release, latest
from indexer.search import Query
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.errors import (
    BadArtifactError,
    BadDataError,
    BadSettingError,
    NotFoundError,
    UnavailableDeviceError,
)
from model.files import digest_of, digests_of
from tests.indexer.index_making import (
    built_in,
    listed_rows,
    silent,
    slow_answer,
    write_small_bundle,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def content(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_release_answers_from_the_bundle_it_was_built_from(bundle: Bundle, root: Path) -> None:
    built = built_in(root, bundle)

    release = Release.read(latest(root))

    assert release.folder == built.folder
    assert release.version == built.folder.name
    assert release.digest == built.digest == digest_of(digests_of(built.folder))
    assert release.dataset == bundle.dataset
    assert release.bundle.digest == bundle.digest
    assert list(release.indexes) == [tables.name for tables in bundle.domains]
    for tables in bundle.domains:
        query = Query(tables.item_table[3], k=12)
        (found,) = release.indexes[tables.name].search([query])
        assert found.rows.tolist() == slow_answer(tables, query)[0]
        assert release.indexes[tables.name].vocabulary.item_id(1) == f"{tables.name}-00001"


def test_a_release_holds_copies_of_its_own_and_outlives_the_bundle(
    bundle: Bundle, root: Path
) -> None:
    expected = content(bundle.folder)
    built_in(root, bundle)
    shutil.rmtree(bundle.folder)

    copied = latest(root) / "bundle"

    assert content(copied) == expected
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in copied.rglob("*.npy"))
    assert Release.read(latest(root)).bundle.weights().keys() == {"dummy.weight"}


def test_the_index_files_are_exact_inner_product_indexes_without_padding(
    bundle: Bundle, root: Path
) -> None:
    built_in(root, bundle)
    for tables in bundle.domains:
        index = faiss.read_index(str(latest(root) / "index" / f"{tables.name}.faiss"))
        assert isinstance(index, faiss.IndexFlatIP)
        assert index.metric_type == faiss.METRIC_INNER_PRODUCT
        stored = index.reconstruct_n(0, index.ntotal)
        np.testing.assert_array_equal(stored, tables.item_table[1:])


def test_the_same_bundle_gives_the_same_digest_under_a_later_version(
    bundle: Bundle, root: Path
) -> None:
    built = [built_in(root, bundle) for _ in range(3)]
    names = [each.folder.name for each in built]

    assert len({each.digest for each in built}) == 1
    assert names == sorted(set(names)) == versions(root)
    assert all(name.endswith(built[0].digest[:12]) for name in names)
    assert latest(root).name == names[-1]
    assert (root / "LATEST").read_text() == names[-1] + "\n"


def test_a_version_sorts_after_one_from_a_clock_that_went_ahead(bundle: Bundle, root: Path) -> None:
    ahead = built_in(root, bundle).folder
    ahead.rename(root / f"29990101T000000.999999Z-{ahead.name[-12:]}")

    later = built_in(root, bundle)

    assert later.folder.name.startswith("29990101T000001.000000Z-")


def test_candidate_sets_are_looked_up_in_every_domain(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.txt"
    both.write_text("films-00007\r\nbooks-00002\n\nfilms-00003\nnowhere\nfilms-00007", "utf-8")
    one = tmp_path / "one.txt"
    one.write_bytes("﻿films-00001\n".encode())

    built = built_in(root, bundle, both=both, one=one)
    indexes = Release.read(latest(root)).indexes

    assert [each.unknown for each in built.sets] == [1, 0]
    assert [each.ids for each in built.sets] == [4, 1]
    found_sets = indexes["films"].candidate_sets
    assert {name: listed_rows(rows).tolist() for name, rows in found_sets.items()} == {
        "both": [3, 7],
        "one": [1],
    }
    assert indexes["books"].candidate_sets.keys() == {"both"}
    (found,) = indexes["films"].search(
        [Query(None, k=9, candidates=indexes["films"].candidate_sets["both"])]
    )
    assert sorted(found.rows.tolist()) == [3, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"candidate file .*set\.txt: No such file or directory"),
        (b"", r"candidate set new: none of the 0 item ids in .*set\.txt is known in books, films"),
        (b"x\ny\n", r"candidate set new: none of the 2 item ids in .* is known in books, films"),
        (b"\xff\xfe", r"candidate file .*set\.txt is not UTF-8: .*invalid start byte"),
    ],
)
def test_a_candidate_file_of_no_use_stops_the_build(
    bundle: Bundle, root: Path, tmp_path: Path, text: bytes | None, message: str
) -> None:
    path = tmp_path / "set.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(BadDataError, match=message):
        built_in(root, bundle, new=path)
    assert versions(root) == []


def test_a_root_inside_the_bundle_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BadSettingError, match=r"the release root .* lies inside the bundle"):
        built_in(bundle.folder / "releases", bundle)
    assert not (bundle.folder / "releases").exists()


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_built(
    bundle: Bundle, root: Path
) -> None:
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(UnavailableDeviceError, match="device cuda was asked for, but"):
        build(bundle, Store(root), settings=IndexSettings(device="cuda"), advance=silent)
    assert not root.exists()


def test_auto_without_a_gpu_searches_on_the_cpu_and_warns(
    bundle: Bundle, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    built_in(root, bundle)
    Release.read(latest(root), device="auto")
    assert "the index is searched on the CPU: " in caplog.text


def test_a_failed_build_leaves_the_release_before_and_nothing_else(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    before = built_in(root, bundle)
    other = Bundle.read(write_small_bundle(tmp_path / "other", seed=2))
    (other.folder / "films" / "tables.safetensors").write_bytes(b"changed after it was read")

    with pytest.raises(BadArtifactError, match=r"films/tables\.safetensors is not the file its"):
        built_in(root, other)

    assert latest(root) == before.folder
    assert sorted(path.name for path in root.iterdir()) == [".lock", before.folder.name, "LATEST"]


def test_a_root_without_releases_and_a_pointer_to_nothing_are_told_apart(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="holds no release: there is no LATEST in it; run"):
        latest(root)
    with pytest.raises(NotFoundError, match="is not a recguru-release: there is no manifest"):
        Release.read(tmp_path)
    shutil.rmtree(built_in(root, bundle).folder)
    with pytest.raises(BadArtifactError, match=r"LATEST names '.*', which is no release in"):
        latest(root)
    (root / "LATEST").write_text("../bundle\n")
    with pytest.raises(BadArtifactError, match=r"LATEST names '\.\./bundle', which is no release"):
        latest(root)


def test_a_file_that_is_missing_or_one_too_many_is_refused_and_named(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    wanted = tmp_path / "new.txt"
    wanted.write_text("films-00001\n")
    folder = built_in(root, bundle, new=wanted).folder
    for name, held in content(folder).items():
        path, stray = folder / name, (folder / name).with_name("stray")
        path.unlink()
        named = folder if path == folder / "manifest.json" else path
        with pytest.raises((BadArtifactError, NotFoundError), match=str(named)):
            Release.read(folder)
        path.write_bytes(held)
        stray.write_bytes(b"stray")
        with pytest.raises(BadArtifactError, match=str(stray)):
            Release.read(folder)
        stray.unlink()
    assert Release.read(folder).digest == folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """Read the digest a folder's manifest states."""
    return str(json.loads((folder / "manifest.json").read_text())["digest"])


def test_every_bit_of_the_manifest_counts(bundle: Bundle, root: Path) -> None:
    folder = built_in(root, bundle).folder
    path = folder / "manifest.json"
    held = path.read_bytes()
    for bit in np.random.default_rng(4).permutation(8 * len(held))[:150].tolist():
        flipped = bytearray(held)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises((BadArtifactError, NotFoundError), match=str(folder)):
            Release.read(folder)


@pytest.mark.parametrize("key", ["files", "digest"])
def test_a_manifest_that_lists_nothing_is_refused_even_unverified(
    bundle: Bundle, root: Path, key: str
) -> None:
    path = built_in(root, bundle).folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(f'"{key}"'.encode(), b'"other"'))
    for verify in (True, False):
        with pytest.raises(BadArtifactError, match=r"manifest\.json is damaged: "):
            Release.read(latest(root), verify=verify)


def test_an_index_of_another_size_metric_or_kind_is_refused_even_unverified(
    bundle: Bundle, root: Path
) -> None:
    folder = built_in(root, bundle).folder
    path = folder / "index" / "films.faiss"
    vectors = bundle.domain("films").item_table
    wrong = {
        "holds 1501 vectors of width 8; the item table has 1500 of width 8": faiss.IndexFlatIP(8),
        "does not rank by inner product": faiss.IndexFlatL2(8),
        "is no index of kind flat": faiss.IndexHNSWFlat(8, 4, faiss.METRIC_INNER_PRODUCT),
    }
    for message, index in wrong.items():
        index.add(vectors)
        faiss.write_index(index, str(path))
        with pytest.raises(BadArtifactError, match=rf"films\.faiss {message}"):
            Release.read(folder, verify=False)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadArtifactError, match=r"films\.faiss cannot be read: "):
        Release.read(folder, verify=False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            '{"kind": "nsw"}',
            r"films\.json holds no index spec of this version: content: Input tag 'nsw' found",
        ),
        (
            '{"kind": "flat", "probes": 1}',
            r"this version: flat\.probes: Extra inputs are not permitted",
        ),
        ("", r"films\.json holds no index spec of this version: content: Invalid JSON"),
        (None, r"films\.json cannot be read: No such file or directory"),
    ],
)
def test_a_spec_this_version_does_not_know_is_refused_even_unverified(
    bundle: Bundle, root: Path, spec: str | None, message: str
) -> None:
    path = built_in(root, bundle).folder / "index" / "films.json"
    path.unlink()
    if spec is not None:
        path.write_text(spec)
    with pytest.raises(BadArtifactError, match=message):
        Release.read(latest(root), verify=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([1, 1501], np.int32), "does not hold ascending rows between 1 and 1500"),
        (np.array([0, 1], np.int32), "does not hold ascending rows between 1 and 1500"),
        (np.array([2, 2], np.int32), "does not hold ascending rows between 1 and 1500"),
        (np.array([1, 2], np.int64), "is no list of rows"),
        (np.empty(0, np.int32), "is no list of rows"),
    ],
)
def test_a_candidate_set_of_other_rows_is_refused_even_unverified(
    bundle: Bundle,
    root: Path,
    tmp_path: Path,
    rows: np.ndarray[tuple[int], np.dtype[np.int32]],
    message: str,
) -> None:
    wanted = tmp_path / "new.txt"
    wanted.write_text("films-00001\n")
    path = built_in(root, bundle, new=wanted).folder / "candidates" / "films" / "new.npy"
    np.save(path, rows)
    with pytest.raises(BadArtifactError, match=rf"films/new\.npy {message}"):
        Release.read(latest(root), verify=False)


def test_the_number_of_threads_holds_in_whichever_thread_searches(
    bundle: Bundle, root: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    built_in(root, bundle)
    release = Release.read(latest(root), threads=1)
    vector = bundle.domain("films").item_table[5]

    def search_elsewhere() -> int:
        release.indexes["films"].search([Query(vector, k=3)])
        return int(faiss.omp_get_max_threads())

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(search_elsewhere).result(timeout=20) == 1
