"""The command `recguru indexer update`."""

import json
from pathlib import Path

import numpy as np
import pytest

from indexer.publish import latest, versions
from indexer.release import Release
from indexer.search import Query
from indexer.spec import IndexSettings
from indexer.store import Store
from indexer.update import update
from model.bundle import Bundle
from model.errors import BadDataError, NotFoundError, OverloadedError
from tests.commands import Command
from tests.indexer.command_making import leftovers
from tests.indexer.index_making import built_in, silent
from tests.indexer.update_making import answer, items, listed, paired, updated


@pytest.fixture
def root(bundle: Bundle, tmp_path: Path) -> Path:
    """Publish a release."""
    built_in(tmp_path / "releases", bundle)
    return tmp_path / "releases"


def test_what_somebody_else_activates_meanwhile_is_not_undone(root: Path, tmp_path: Path) -> None:
    first = Release.read(latest(root))
    gone = listed(tmp_path / "gone", ["films-00001"])

    def meanwhile(steps: int = 1, *, note: str = "") -> None:
        silent(steps, note=note)
        if note == "films tried":
            built_in(root, first.bundle)

    with pytest.raises(OverloadedError, match=r"LATEST names .* and no longer .*; run this again"):
        update(
            first,
            Store(root),
            {"films": {"remove": gone}},
            settings=IndexSettings(device="cpu"),
            advance=meanwhile,
            replaces=first.version,
        )

    assert versions(root) == [first.version, latest(root).name]
    assert Release.read(latest(root)).bundle.digest == first.bundle.digest
    assert leftovers(root) == []


def test_people_and_programs_are_told_what_an_update_did(
    root: Path, tmp_path: Path, recguru: Command
) -> None:
    first = latest(root)
    added = items(
        tmp_path / "add",
        {"item_id": "new", "like": ["books-00001", "nobody"]},
        {"item_id": "own", "vector": [1] * 8},
    )
    gone = listed(tmp_path / "gone", ["films-00001", "films-00002", "films-00003"])
    names = paired(tmp_path / "names", {"books-00009": "nine"})
    update = ["indexer", "update", "--releases", root, "--device", "cpu"]
    options = ["--add", f"books={added}", "--remove", f"films={gone}", "--rename", f"books={names}"]

    told = recguru(*update, *options)
    assert told.code == 0
    lines = told.output.splitlines()
    assert lines[0].startswith(f"release {latest(root)} from {first.name} in ")
    rebuilt = "index flat rebuilt (flat is quick to build)"
    assert lines[1:] == [
        f"  books: 72 items, {rebuilt}; 2 added, 0 removed, 1 renamed; 1 cold",
        f"  films: 1,497 items, {rebuilt}; 0 added, 3 removed, 0 renamed; 0 cold",
    ]
    assert (
        "warning: books: 1 of the ids that items are said to be like are not known there and do "
        "not count\n"
    ) in told.errors

    second = latest(root)
    plain = recguru(*update, "--version", first.name, *options, "--no-activate", "--json")
    figures = json.loads(plain.output)
    assert latest(root) == second
    assert figures["base"] == first.name
    assert figures["release"] == versions(root)[-1]
    assert figures["bundle"] == Release.read(root / figures["release"]).bundle.digest
    assert figures["domains"]["films"] == {
        "kind": "flat",
        "index": "rebuilt",
        "why": "flat is quick to build",
        "items": 1497,
        "added": 0,
        "removed": 3,
        "renamed": 0,
        "cold": 0,
        "unknown_like": 0,
    }


@pytest.mark.parametrize("pointer", [None, "nothing\n"])
def test_a_version_that_is_named_is_updated_where_latest_names_none(
    root: Path, tmp_path: Path, recguru: Command, pointer: str | None
) -> None:
    (first,) = versions(root)
    (root / "LATEST").unlink()
    if pointer is not None:
        (root / "LATEST").write_text(pointer, encoding="utf-8")
    gone = listed(tmp_path / "gone", ["films-00001"])

    left = recguru(
        *("indexer", "update", "--releases", root, "--version", first, "--no-activate"),
        *("--device", "cpu", "--remove", f"films={gone}"),
    )

    assert left.code == 0
    assert "films-00001" in Release.read(root / first).indexes["films"].vocabulary
    assert "films-00001" not in Release.read(root / versions(root)[1]).indexes["films"].vocabulary


@pytest.mark.parametrize("networks", [False, True])
def test_a_vector_whose_scores_leave_the_range_of_float32_is_added_and_found(
    root: Path, tiny_bundle: Path, tmp_path: Path, recguru: Command, *, networks: bool
) -> None:
    if networks:  # items are read by vectors too, and the bundle holds users' queries
        root = tmp_path / "trained"
        built_in(root, Bundle.read(tiny_bundle))
    width = Release.read(latest(root)).indexes["books"].width
    vector, largest = [3e38] * width, float(np.finfo(np.float32).max)
    added = items(
        tmp_path / "add",
        {"item_id": "above", "vector": vector},
        {"item_id": "below", "vector": [-number for number in vector]},
        {"item_id": "as-far-above", "vector": vector},
    )

    told = recguru(
        *("indexer", "update", "--releases", root, "--device", "cpu", "--add", f"books={added}")
    )
    measured = recguru(
        *("indexer", "measure", "--releases", root, "--device", "cpu", "--queries", 50, "--json")
    )

    assert told.code == 0, told.errors
    assert json.loads(measured.output)["domains"]["books"]["recall"]["@10"] == 1
    index = Release.read(latest(root)).indexes["books"]
    scores = answer(index, Query(np.ones(width, np.float32), len(index)))
    assert list(scores.items())[:2] == [("above", largest), ("as-far-above", largest)]
    assert list(scores.items())[-1] == ("below", -largest)


def test_what_cannot_be_done_is_told_in_a_line_and_publishes_nothing(
    root: Path, tmp_path: Path, recguru: Command
) -> None:
    before = sorted(root.iterdir())
    update = ["indexer", "update", "--releases", root, "--device", "cpu"]
    bad = listed(tmp_path / "bad", ["films-00001", "nobody"])
    told = recguru(*update, "--remove", f"films={bad}")
    assert told.code == 1
    assert told.errors.splitlines()[-1] == (
        f"error: remove file {bad}: line 2: item 'nobody' is not in films"
    )

    for options, message in (
        ((), "give at least one of --add, --remove, --rename, --popularity"),
        (("--add", "films"), "--add 'films' is not DOMAIN=FILE"),
        (("--add", "a=b", "--add", "a=c"), "--add: the name 'a' stands twice"),
    ):
        told = recguru(*update, *options)
        assert told.code == 2
        assert message in told.errors
    assert sorted(root.iterdir()) == before


def test_a_domain_that_is_not_there_and_files_that_say_nothing_are_refused(
    root: Path, tmp_path: Path
) -> None:
    empty = listed(tmp_path / "empty", [])
    with pytest.raises(NotFoundError, match="changes of 'songs': the release has books, films"):
        updated(root, {"songs": {"remove": empty}})
    with pytest.raises(BadDataError, match="nothing is to change: no file names an item"):
        updated(root, {"films": {"remove": empty}, "books": {"rename": empty}})
    assert len(versions(root)) == 1
