"""Releases whose index is kept in Milvus: built whole or not at all, refused, switched, removed."""

import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.build import Built, build
from indexer.milvus_api import MilvusSettings
from indexer.milvus_build import forget, specs_in
from indexer.publish import latest, prune, versions
from indexer.release import Release
from indexer.search import Query
from indexer.spec import IndexSettings, MilvusSpec, read_spec, write_spec
from indexer.store import Store
from indexer.update import update
from indexer.versions import activate_checked
from model.bundle import Bundle
from model.console import Advance
from model.errors import (
    BadArtifactError,
    BadSettingError,
    RecGuruError,
    UnavailableIndexError,
)
from model.settings import load_settings
from tests.commands import Command
from tests.indexer.index_making import SIZES, silent, slow_answer, write_small_bundle
from tests.indexer.update_making import items as added_items
from tests.indexer.update_making import listed
from tests.milvus_process import MilvusProcess, milvus_in

ROOT = Path(__file__).parents[2]
QUICK: dict[str, object] = {"queries": 20, "milvus": {"structure": "flat"}}
"""Nothing is tuned; what is found matters to few tests."""

DYING = """
import os, signal, sys
from pathlib import Path
from indexer.build import build
from indexer.milvus_api import MilvusSettings
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

build(Bundle.read(Path(sys.argv[1])),
      Store(Path(sys.argv[2]), MilvusSettings(uri=sys.argv[3], prefix=sys.argv[4])),
      settings=IndexSettings(kind="milvus", device="cpu", queries=30), advance=die)
"""


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    with milvus_in(tmp_path_factory.mktemp("milvus")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.read(write_small_bundle(tmp_path_factory.mktemp("bundles") / "bundle"))


class Place:
    """A release root, and its part of Milvus."""

    def __init__(self, root: Path, milvus: MilvusProcess, prefix: str) -> None:
        self.root = root
        self.milvus = milvus
        self.prefix = prefix
        self.settings: MilvusSettings = milvus.settings(prefix=prefix)

    def built(
        self, bundle: Bundle, *, activate: bool = True, advance: Advance = silent, **given: object
    ) -> Built:
        """Build a release into the root, on the CPU."""
        chosen = IndexSettings.model_validate({"device": "cpu", "kind": "milvus", **QUICK, **given})
        return build(
            bundle,
            Store(self.root, self.settings),
            settings=chosen,
            advance=advance,
            activate=activate,
        )

    def collections(self) -> set[str]:
        """List what this root has in Milvus."""
        return self.milvus.collections(self.prefix)

    def alias(self, domain: str) -> str:
        """Return the collection that the alias of a domain stands for."""
        return self.milvus.aliased(f"{self.prefix}_{domain}")

    def collection(self, folder: Path, domain: str) -> str:
        """Return the collection that a release names."""
        spec = read_spec(folder / "index" / f"{domain}.json")
        assert isinstance(spec, MilvusSpec)
        return spec.collection


@pytest.fixture
def place(milvus: MilvusProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Return a root of this test's own; builds of several roots share a Milvus by prefixes."""
    return Place(tmp_path / "releases", milvus, f"t{zlib.crc32(request.node.name.encode())}")


@pytest.mark.parametrize("structure", ["hnsw", "flat"])
def test_a_build_fills_collections_and_its_release_answers_from_them(
    place: Place, bundle: Bundle, structure: str
) -> None:
    built = place.built(bundle, milvus={"structure": structure})

    assert built.kinds == dict.fromkeys(SIZES, "milvus")
    assert not list(built.folder.rglob("*.faiss"))
    for path in built.folder.rglob("*.json"):
        assert str(place.milvus.port) not in path.read_text(encoding="utf-8"), "says where it runs"
    assert len(place.collections()) == len(SIZES)
    for name in SIZES:
        assert place.alias(name) == place.collection(built.folder, name)
    index = Release.read(built.folder, milvus=place.settings).indexes["films"]
    tables = bundle.domain("films")
    for vector in tables.item_table[5::300]:
        query = Query(vector, 10)
        (found,) = index.search([query])
        assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)


def test_aliases_follow_latest_and_pruned_versions_leave_nothing(
    place: Place, bundle: Bundle
) -> None:
    first = place.built(bundle).folder
    second = place.built(bundle).folder
    tried = place.built(bundle, activate=False).folder
    own = {each: place.collection(each, "films") for each in (first, second, tried)}
    assert len(set(own.values())) == 3, "each release has its own"
    assert place.alias("films") == own[second]

    activate_checked(place.root, first.name, place.settings)
    assert place.alias("films") == own[first]
    place.milvus.client().drop_collection(own[second])
    with pytest.raises(BadArtifactError, match=f"{own[second]}, which Milvus does not have"):
        activate_checked(place.root, second.name, place.settings)
    assert latest(place.root) == first
    assert place.alias("films") == own[first]
    activate_checked(place.root, tried.name, place.settings)
    assert place.alias("films") == own[tried]

    removed = prune(place.root, keep=1, forget=partial(forget, settings=place.settings))

    assert removed == [first.name, second.name]
    assert place.collections() == {spec.collection for spec in specs_in(tried)}
    Release.read(tried, milvus=place.settings)


def pointed(folder: Path, copy: Path, **changes: object) -> Path:
    """Copy a release; the spec of films says something else."""
    shutil.copytree(folder, copy)
    path = copy / "index" / "films.json"
    spec = read_spec(path)
    assert isinstance(spec, MilvusSpec)
    write_spec(spec.model_copy(update=changes), path)
    return copy


def test_a_collection_that_is_not_what_its_release_says_is_refused(
    place: Place, bundle: Bundle, tmp_path: Path
) -> None:
    folder = place.built(bundle).folder
    other = Bundle.read(write_small_bundle(tmp_path / "other", seed=2))
    books = place.collection(folder, "books")
    films = place.collection(folder, "films")
    others = place.collection(place.built(other, activate=False).folder, "films")

    def refusal(read: Path) -> str:
        with pytest.raises(BadArtifactError) as refused:
            Release.read(read, verify=False, milvus=place.settings)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    said = refusal(pointed(folder, tmp_path / "1", collection=books))
    assert f"{books}, which has recguru.domain books, not films" in said
    said = refusal(pointed(folder, tmp_path / "2", collection=others))
    assert f"{others}, which has recguru.bundle {other.digest}, not {bundle.digest}" in said
    said = refusal(pointed(folder, tmp_path / "3", items=3))
    assert "films.json speaks of 3 items; the item table has 1500" in said
    place.milvus.client().delete(films, ids=[7])
    assert f"names the collection {films}, which holds 1499 vectors, not 1500" in refusal(folder)
    place.milvus.client().drop_collection(films)
    assert f"names the collection {films}, which Milvus does not have" in refusal(folder)


def test_a_build_that_finds_too_little_leaves_all_as_it_was(place: Place, bundle: Bundle) -> None:
    before = place.built(bundle).folder
    there = place.collections()

    with pytest.raises(BadArtifactError, match=r"index of (books|films) found .* not published"):
        place.built(
            bundle,
            recall=1,
            queries=200,
            milvus={"links": 2, "build_effort": 1, "effort": 1, "rerank": 1},
        )

    assert versions(place.root) == [before.name]
    assert place.collections() == there
    assert place.alias("films") == place.collection(before, "films")


def test_a_build_during_which_milvus_dies_leaves_all_as_it_was(
    place: Place, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    before = place.built(bundle).folder
    there = place.collections()

    def kill(*_: object, **__: object) -> None:
        place.milvus.kill()

    with pytest.raises(UnavailableIndexError) as failed:
        place.built(bundle, advance=kill)
    place.milvus.start()

    assert "cannot make the collection" in str(failed.value)
    assert versions(place.root) == [before.name]
    assert place.alias("films") == place.collection(before, "films")
    (stray,) = place.collections() - there
    assert f"left in Milvus, drop it there: {stray}" in caplog.text
    place.milvus.client().drop_collection(stray)


def test_what_a_killed_build_left_in_milvus_is_removed_by_the_next(
    place: Place, bundle: Bundle
) -> None:
    arguments = [str(bundle.folder), str(place.root), str(place.settings.uri), place.prefix]
    died = subprocess.run(
        [sys.executable, "-c", DYING, *arguments], cwd=ROOT, timeout=120, check=False
    )
    assert died.returncode < 0
    (stray,) = place.collections()

    built = place.built(bundle)

    assert place.collections() == {spec.collection for spec in specs_in(built.folder)}
    assert stray not in place.collections()


def test_an_update_gets_collections_of_its_own(
    place: Place, bundle: Bundle, tmp_path: Path
) -> None:
    base = Release.read(place.built(bundle).folder, milvus=place.settings)
    vector = np.linspace(1, 2, 8).tolist()
    changes = {
        "films": {
            "add": added_items(tmp_path / "add", {"item_id": "new", "vector": vector}),
            "remove": listed(tmp_path / "gone", ["films-00003"]),
        }
    }

    made = update(
        base,
        Store(place.root, place.settings),
        changes,  # type: ignore[arg-type]  # roles, spelled out
        settings=IndexSettings(device="cpu", queries=30),
        advance=silent,
        replaces=base.version,
    )

    assert place.alias("films") == place.collection(made.folder, "films")
    new = Release.read(made.folder, milvus=place.settings)
    tables = new.bundle.domain("films")
    assert "new" in tables.vocabulary.ids
    query = Query(np.array(vector, np.float32), 10)
    (found,) = new.indexes["films"].search([query])
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)
    Release.read(base.folder, milvus=place.settings)


def test_milvus_is_searched_by_the_commands_that_read_a_release(
    place: Place, bundle: Bundle, recguru: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, root = str(place.settings.uri), place.root
    monkeypatch.setenv("RECGURU_MILVUS_PREFIX", place.prefix)

    built = recguru(
        *("indexer", "build", "--bundle", bundle.folder, "--out", root),
        *("--index", "milvus", "--uri", uri, "--device", "cpu"),
    )
    untold = recguru("indexer", "info", "--releases", root)
    told = recguru("indexer", "info", "--releases", root, "--uri", uri)
    measured = recguru(
        "indexer", "measure", "--releases", root, "--uri", uri, "--queries", "20", "--device", "cpu"
    )
    pruned = recguru("releases", "prune", "--releases", root, "--uri", uri)

    assert built.code == 0, built.errors
    assert "films: 1,500 items, index milvus" in built.output
    assert untold.code == 1
    assert untold.errors.count("\n") == 1
    assert "setting milvus.uri: say where Milvus runs" in untold.errors
    assert told.code == 0, told.errors
    assert measured.code == 0, measured.errors
    assert "kept outside the release" in measured.output
    assert pruned.output == "0 versions removed\n"
    assert place.alias("films")


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"uri": None}, "setting milvus.uri: say where Milvus runs"),
        ({"uri": "http://127.0.0.1:1"}, "Milvus at http://127.0.0.1:1 cannot connect: "),
    ],
)
def test_a_build_without_milvus_is_refused_in_one_line(
    bundle: Bundle, tmp_path: Path, given: dict[str, Any], refusal: str
) -> None:
    pytest.importorskip("pymilvus")
    root = tmp_path / "releases"
    with pytest.raises(RecGuruError) as refused:
        build(
            bundle,
            Store(root, MilvusSettings(**given)),
            settings=IndexSettings(kind="milvus", device="cpu"),
            advance=silent,
        )

    assert refusal in str(refused.value)
    assert "\n" not in str(refused.value)
    assert versions(root) == []
    assert [path.name for path in root.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@milvus:19530",
        "milvus:19530",
        "milvus.db",
        "http://milvus/base",
        "http://milvus:port",
    ],
)
def test_an_address_that_is_none_or_tells_a_secret_is_refused(uri: str) -> None:
    with pytest.raises(BadSettingError, match=r"^setting milvus\.uri: ") as refused:
        load_settings(MilvusSettings, table="milvus", flags={"uri": uri})

    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_token_comes_from_a_file_or_the_environment_and_is_never_told(
    milvus: MilvusProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer.milvus_api import Milvus, _token

    file = tmp_path / "token"
    file.write_text("root:hidden\n", encoding="ascii")
    by_file = milvus.settings(token_file=file)
    assert _token(by_file) == "root:hidden"
    Milvus(by_file)
    assert "hidden" not in repr(by_file)

    monkeypatch.setenv("RECGURU_MILVUS_TOKEN", "root:other")
    assert _token(milvus.settings()) == "root:other"
    with pytest.raises(BadSettingError, match="RECGURU_MILVUS_TOKEN is set, too") as refused:
        Milvus(by_file)
    assert "hidden" not in str(refused.value)
    monkeypatch.delenv("RECGURU_MILVUS_TOKEN")
    with pytest.raises(BadSettingError, match="token file"):
        Milvus(milvus.settings(token_file=tmp_path / "none"))


def test_a_missing_extra_is_named() -> None:
    code = """
import sys
sys.modules["pymilvus"] = None
from indexer.milvus_api import Milvus, MilvusSettings
Milvus(MilvusSettings(uri="http://127.0.0.1:1"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "pip install 'recguru-service[milvus]'" in done.stderr.splitlines()[-1]
