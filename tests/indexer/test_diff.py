"""Two releases beside each other: what they hold, and how much of what users get is the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from indexer.diff import DiffSettings, diff, diff_lines
from indexer.release import Release
from model.bundle import Bundle, DomainTables, write_bundle
from model.files import publishing
from tests.commands import Command
from tests.indexer.index_making import built_in, clustered, silent, tables_of
from tests.indexer.update_making import items, listed, paired, updated

WIDTH = 4
SHARES = {"books-00001": 0.5, "books-00003": 0.25, "books-00004": 0.25}


def release_of(
    folder: Path, domains: list[DomainTables], *, dataset: str = "da" * 32, root: str = "releases"
) -> Release:
    """Publish domains in a root of this name."""
    place = folder / f"bundle-{len(list(folder.iterdir()))}"
    with publishing(place) as bundle:
        write_bundle(bundle, domains, {}, network={}, dataset=dataset, training={})
    return Release.read(built_in(folder / root, Bundle.read(place)).folder)


def books(
    items: int = 40, seed: int = 1, users: int | None = 60, width: int = WIDTH
) -> DomainTables:
    """Make a domain with preference vectors of some users."""
    generator = np.random.default_rng(seed)
    table = clustered(items, width, generator)
    drawn = generator.standard_normal((users or 0, width)).astype(np.float32)
    return tables_of("books", table, queries=drawn if users is not None else None)


def slow_overlap(old: DomainTables, new: DomainTables, k: int) -> float:
    """Sort all scores of every other user, and count the ids that both best lists hold."""
    tops: list[list[set[str]]] = []
    for tables in (old, new):
        assert tables.queries is not None
        ids = list(tables.vocabulary.ids)
        scores = tables.queries[1::2].astype(np.float64) @ tables.item_table[1:].T
        tops.append([{ids[at] for at in np.argsort(-row, kind="stable")[:k]} for row in scores])
    return float(np.mean([len(one & other) / k for one, other in zip(*tops, strict=True)]))


def compared(old: Release, new: Release, **settings: int) -> dict[str, object]:
    """Compare the books."""
    chosen = DiffSettings.model_validate(settings)
    return diff(old, new, chosen, advance=silent)["books"]


def test_an_updated_release_is_told_from_what_it_was_made_of(tmp_path: Path) -> None:
    before = books()
    old = release_of(tmp_path, [before])
    counts = {"books-00001": 2, "books-00003": 1, "books-00004": 1}
    added = items(tmp_path / "a", {"item_id": "new", "vector": [9, 9, -9, 9]})
    gone = listed(tmp_path / "r", ["books-00010", "books-00020"])
    names = paired(tmp_path / "n", {"books-00030": "another"})
    popular = paired(tmp_path / "p", counts)
    made = updated(
        old.folder.parent,
        {"books": {"add": added, "remove": gone, "rename": names, "popularity": popular}},
    )
    new = Release.read(made.folder)

    found = compared(old, new, k=5)

    change = 37 * (1 / 40) + sum(share - 1 / 40 for share in SHARES.values())
    assert found == {
        "items": {"old": 40, "new": 39},
        "kind": {"old": "flat", "new": "flat"},
        "added": 2,
        "removed": 3,
        "popularity": pytest.approx(change, abs=1e-6),
        "overlap": {
            "mean": pytest.approx(slow_overlap(before, new.bundle.domain("books"), 5)),
            "users": 30,
        },
    }
    assert slow_overlap(before, new.bundle.domain("books"), 5) < 1


def test_a_release_beside_itself_differs_in_nothing(tmp_path: Path) -> None:
    old = release_of(tmp_path, [books()])
    found = compared(old, old)
    assert (found["added"], found["removed"], found["popularity"]) == (0, 0, 0)
    assert found["overlap"] == {"mean": 1, "users": 30}


def test_users_of_one_dataset_are_compared_across_models_of_any_width(tmp_path: Path) -> None:
    before, after = books(), books(50, seed=2, width=7)
    old, new = (release_of(tmp_path, [each]) for each in (before, after))

    found = compared(old, new, k=10, users=20)

    overlap = found["overlap"]
    assert isinstance(overlap, dict)
    assert overlap["users"] == 20
    cut = [
        tables_of("books", each.item_table, queries=each.queries[:40])
        for each in (before, after)
        if each.queries is not None
    ]
    assert overlap["mean"] == pytest.approx(slow_overlap(cut[0], cut[1], 10))


@pytest.mark.parametrize(
    ("after", "dataset", "reason"),
    [
        (books(users=None), "da" * 32, "a release keeps no users' preference vectors"),
        (books(users=58), "da" * 32, "the releases keep preference vectors of different users"),
        (books(), "0a" * 32, "the releases keep preference vectors of different users"),
    ],
)
def test_where_users_are_not_the_same_the_reason_is_given(
    tmp_path: Path, after: DomainTables, dataset: str, reason: str
) -> None:
    old, new = release_of(tmp_path, [books()]), release_of(tmp_path, [after], dataset=dataset)
    assert compared(old, new)["overlap"] == {"unknown": reason}


def test_answers_shorter_than_k_are_compared_as_they_are(tmp_path: Path) -> None:
    few = books(3)
    old = release_of(tmp_path, [few])
    gone = listed(tmp_path / "gone", ["books-00002"])
    new = Release.read(updated(old.folder.parent, {"books": {"remove": gone}}).folder)
    assert compared(old, new)["overlap"] == {"mean": pytest.approx(2 / 3), "users": 30}


def test_people_see_one_table_and_programs_the_same(tmp_path: Path, recguru: Command) -> None:
    other = tables_of("films", clustered(5, WIDTH, np.random.default_rng(3)))
    songs = tables_of("songs", clustered(6, WIDTH, np.random.default_rng(3)))
    old = release_of(tmp_path, [books(), other])
    new = release_of(tmp_path, [books(41, users=None), songs])

    root = ["--releases", old.folder.parent]
    shown = recguru("indexer", "diff", old.version, new.version, *root)
    plain = recguru("indexer", "diff", old.folder, new.folder, "--json", "--k", 3)

    assert (shown.code, plain.code) == (0, 0)
    lines = shown.output.splitlines()
    assert lines[:2] == [f"old {old.version}", f"new {new.version}"]
    assert lines[2].split()[:6] == ["domain", "items", "old", "new", "added", "removed"]
    assert lines[3].split() == ["books", "40", "41", "1", "0", "flat", "flat", "?", "0", "0.0488"]
    assert lines[4:] == [
        "books: a release keeps no users' preference vectors: how many items stay cannot be told",
        "songs: only in the new release",
        "films: only in the old release",
    ]
    figures = json.loads(plain.output)
    assert figures["settings"] == {"k": 3, "users": 1000}
    assert figures["domains"] == diff(old, new, DiffSettings(k=3), advance=silent)
    assert diff_lines(figures)[2].startswith("domain")
    config = tmp_path / "recguru.toml"
    config.write_text("[diff]\nk = 2\nusers = 7\n")
    configured = recguru(
        "indexer", "diff", old.folder, new.folder, "--json", "--users", 9, "--config", config
    )
    assert json.loads(configured.output)["settings"] == {"k": 2, "users": 9}
    unknown = recguru("indexer", "diff", old.version, "20260101", *root)
    assert unknown.code == 1
    assert "holds no version '20260101'" in unknown.errors
