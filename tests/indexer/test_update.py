"""Releases with other items: searched like a slow double, and never half there."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer.build import Extras, build
from indexer.builders import build_index
from indexer.index_file import write_index
from indexer.publish import latest, versions
from indexer.release import FORMAT, KIND, Release
from indexer.search import DomainIndex, Query
from indexer.spec import KINDS, IndexSettings, IvfSpec, read_spec
from indexer.store import Store
from model.arrays import Floats
from model.bundle import Bundle, write_bundle
from model.derived import cold_items
from model.errors import BadArtifactError
from model.files import publishing, write_manifest
from tests.indexer.index_making import (
    WIDTH,
    built_as,
    built_in,
    clustered,
    curved,
    listed_rows,
    silent,
    skewed_popularity,
    slow_answer,
    tables_of,
)
from tests.indexer.update_making import (
    ATTRIBUTE,
    COLOURS,
    SET,
    Double,
    answer,
    items,
    listed,
    paired,
    updated,
    write_colours,
)

ITEMS = 1200
RECALL = 0.9

_ASK = """
import sys
from pathlib import Path
import numpy as np
from indexer.release import Release, latest
from indexer.search import Query

index = Release.read(latest(Path(sys.argv[1]))).indexes["films"]
everything = Query(np.ones(index.width, np.float32), len(index))
print(*(index.vocabulary.item_id(row) for row in index.search([everything])[0].rows.tolist()))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
def surface(tmp_path: Path) -> Bundle:
    """Return a bundle: films on a bent surface with users' vectors, and a few books."""
    generator = np.random.default_rng(2)
    table = curved(ITEMS, WIDTH, generator)
    near = generator.integers(1, ITEMS, (200, 3))
    films = tables_of(
        "films",
        table,
        skewed_popularity(ITEMS, generator),
        table[near].mean(axis=1, dtype=np.float32),
    )
    books = tables_of("books", clustered(50, WIDTH, generator))
    place = tmp_path / "surface"
    with publishing(place) as folder:
        write_bundle(folder, [books, films], {}, network={}, dataset="da" * 32, training={})
    return Bundle.read(place)


def first_release(bundle: Bundle, root: Path, kind: str = "flat") -> Path:
    """Build a release with a candidate set and an attribute of films."""
    ids = list(bundle.domain("films").vocabulary.ids)
    settings = IndexSettings.model_validate({"device": "cpu", "kind": kind, "recall": 0.95})
    return build(
        bundle,
        Store(root),
        settings=settings,
        extras=Extras(
            candidates={SET: listed(root.with_name("chosen"), ids[::3])},
            attributes={"films": write_colours(root.with_name("colours"), ids)},
        ),
        advance=silent,
    ).folder


def content(folder: Path) -> dict[str, str]:
    """Digest every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def check(index: DomainIndex, double: Double, vectors: list[Floats]) -> None:
    """Compare an index with the double: all items, what calls name, popularity."""
    assert set(index.vocabulary.ids) == set(double.vectors)
    found = 0
    for vector in vectors:
        truth, given = double.best(vector, 10), answer(index, Query(vector, 10))
        assert not given.keys() & double.gone
        assert len(given) == 10
        assert given.items() <= double.best(vector, len(double.vectors)).items()
        found += len(given.keys() & truth.keys())
        if index.kind == "flat":
            assert list(given.items()) == list(truth.items())
    assert found >= RECALL * 10 * len(vectors)
    everything = answer(index, Query(vectors[0], len(index)))
    assert list(everything.items()) == list(double.best(vectors[0], len(index)).items())
    chosen = index.candidate_sets[SET]
    ids = {index.vocabulary.item_id(row) for row in listed_rows(chosen).tolist()}
    assert ids == double.chosen
    narrow = answer(index, Query(vectors[0], 10_000, candidates=chosen))
    assert narrow == double.best(vectors[0], 10_000, double.chosen)
    for colour in COLOURS:
        having = index.attributes[ATTRIBUTE].having([colour]).rows().tolist()
        ids = {index.vocabulary.item_id(row) for row in having}
        assert ids == {item for item, own in double.colours.items() if own == colour}
    popular = answer(index, Query(None, len(index)))
    assert popular == pytest.approx(double.shares, abs=1e-6)


def updates(bundle: Bundle, root: Path, kind: str, rounds: int, folder: Path) -> Double:
    """Update a release again and again, beside its double."""
    first = first_release(bundle, root, kind)
    generator = np.random.default_rng(5)
    queries = bundle.domain("films").queries
    assert queries is not None
    double = Double.of(Release.read(first).indexes["films"])
    for place in range(rounds):
        files = double.change(folder, generator, f"{place:02d}")
        made = updated(root, {"films": files}, recall=RECALL)
        index = Release.read(made.folder).indexes["films"]
        assert index.kind == kind
        check(index, double, list(queries[place::20]))
    return double


@pytest.mark.parametrize("kind", KINDS)
def test_after_updates_any_kind_answers_like_the_double(
    surface: Bundle, root: Path, tmp_path: Path, kind: str
) -> None:
    updates(surface, root, kind, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_after_twenty_updates_any_kind_answers_like_the_double(
    surface: Bundle, root: Path, tmp_path: Path, kind: str
) -> None:
    double = updates(surface, root, kind, 20, tmp_path)

    command = [sys.executable, "-c", _ASK, str(root)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == set(double.vectors)


def test_what_is_removed_is_not_answered_in_another_process(
    surface: Bundle, root: Path, tmp_path: Path
) -> None:
    first_release(surface, root)
    gone = list(surface.domain("films").vocabulary.ids)[5:900:7]
    updated(root, {"films": {"remove": listed(tmp_path / "gone", gone)}})

    command = [sys.executable, "-c", _ASK, str(root)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )

    left = set(surface.domain("films").vocabulary.ids) - set(gone)
    assert set(done.stdout.split()) == left


def test_the_updated_release_stays_as_it_was_to_the_byte(
    surface: Bundle, root: Path, tmp_path: Path
) -> None:
    first = first_release(surface, root)
    before = content(first)
    double = Double.of(Release.read(first).indexes["films"])
    files = double.change(tmp_path, np.random.default_rng(1), "x")

    made = updated(root, {"films": files}, activate=False)

    assert content(first) == before
    assert latest(root) == first
    assert all(path.stat().st_nlink == 1 for path in made.folder.rglob("*") if path.is_file())
    read = Release.read(first).indexes["films"]
    assert set(read.vocabulary.ids) == set(surface.domain("films").vocabulary.ids)
    again = updated(root, {"films": files}, version=first.name)
    assert again.digest == made.digest
    assert latest(root) == again.folder


def test_a_domain_that_is_not_changed_keeps_its_files(
    surface: Bundle, root: Path, tmp_path: Path
) -> None:
    first = first_release(surface, root, "ivf")
    place, table = first / "index" / "films.faiss", surface.domain("films").item_table
    spec = read_spec(place.with_suffix(".json"))
    assert isinstance(spec, IvfSpec)
    write_index(build_index(spec, table[1:] * np.float32(1.01)), spec, place)  # not so anew
    told = {"bundle": surface.digest, "dataset": surface.dataset}
    write_manifest(first, kind=KIND, format_number=FORMAT, content=told)
    counts = paired(tmp_path / "counts", {"films-00003": 3, "films-00001": 1})

    made = updated(root, {"films": {"popularity": counts}}, recall=RECALL)

    before, after = content(first), content(made.folder)
    assert {name for name in before if before[name] != after[name]} == {
        "manifest.json",
        "bundle/manifest.json",
        "bundle/films/tables.safetensors",
    }
    shares = answer(Release.read(made.folder).indexes["films"], Query(None, 3))
    assert shares == {"films-00003": 0.75, "films-00001": 0.25, "films-00002": 0.0}


def test_popularity_counts_ids_as_they_are_after_the_update(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    built_in(root, bundle)
    counts = {"books-new": 6, "books-name": 2, "books-00004": 8}
    made = updated(
        root,
        {
            "books": {
                "add": items(tmp_path / "a", {"item_id": "books-new", "like": ["books-00001"]}),
                "rename": paired(tmp_path / "b", {"books-00002": "books-name"}),
                "popularity": paired(tmp_path / "c", counts),
            }
        },
    )
    shares = answer(Release.read(made.folder).indexes["books"], Query(None, 3))
    assert list(shares.items()) == [
        ("books-00004", 0.5),
        ("books-new", 0.375),
        ("books-name", 0.125),
    ]


def test_where_all_that_was_popular_is_removed_the_rest_is_equally_popular(
    tmp_path: Path, root: Path
) -> None:
    popularity = np.array([0, 0, 1, 0, 0], np.float32)
    table = clustered(4, 3, np.random.default_rng(1))
    with publishing(tmp_path / "bundle") as folder:
        tables = tables_of("books", table, popularity)
        write_bundle(folder, [tables], {}, network={}, dataset="da" * 32, training={})
    built_in(root, Bundle.read(tmp_path / "bundle"))

    made = updated(root, {"books": {"remove": listed(tmp_path / "gone", ["books-00002"])}})

    shares = answer(Release.read(made.folder).indexes["books"], Query(None, 9))
    assert shares == pytest.approx(
        dict.fromkeys(["books-00001", "books-00003", "books-00004"], 1 / 3)
    )


def test_a_cold_item_is_found_where_what_it_is_like_is_found_and_is_counted_until_it_goes(
    surface: Bundle, root: Path, tmp_path: Path
) -> None:
    first_release(surface, root)
    like = {f"new-{place}": [f"films-{place:05d}"] for place in (7, 70, 700)}
    added = [{"item_id": item, "like": ids} for item, ids in like.items()]
    own = {"item_id": "own", "vector": [0.5] * WIDTH}
    made = updated(root, {"films": {"add": items(tmp_path / "add", *added, own)}})

    release = Release.read(made.folder)
    index = release.indexes["films"]
    assert made.domains["films"].cold == 3
    assert cold_items(release.bundle) == {"books": [], "films": ["new-7", "new-70", "new-700"]}
    rows = {item: int(index.vocabulary.rows([item])[0]) for item in ["own", *like]}
    for item, (other,) in like.items():
        (row,) = index.vocabulary.rows([other]).tolist()
        assert index.item_table[rows[item]].tolist() == index.item_table[row].tolist()
        found = list(answer(index, Query(index.item_table[row], len(index))).keys())
        assert found.index(item) == found.index(other) + 1  # equal scores stand by id
    assert index.item_table[rows["own"]].tolist() == [0.5] * WIDTH

    next_one = updated(
        root,
        {
            "films": {
                "remove": listed(tmp_path / "gone", ["new-70"]),
                "rename": paired(tmp_path / "names", {"new-7": "seven"}),
            }
        },
    )
    bundle = Release.read(next_one.folder).bundle
    assert cold_items(bundle)["films"] == ["new-700", "seven"]
    manifest = json.loads((bundle.folder / "manifest.json").read_bytes())
    assert manifest["derived"]["from"] == release.bundle.digest


def test_titles_follow_their_items_and_a_rename_keeps_title_and_vector(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    built_in(root, bundle)
    added = items(tmp_path / "add", {"item_id": "b", "title": "Bé", "like": ["books-00009"]})
    updated(root, {"books": {"add": added}})

    made = updated(root, {"books": {"rename": paired(tmp_path / "names", {"b": "zzz"})}})

    tables = Release.read(made.folder).bundle.domain("books")
    (row,) = tables.vocabulary.rows(["zzz"]).tolist()
    assert tables.vocabulary.title(row) == "Bé"
    assert tables.vocabulary.title(1) == ""
    assert tables.item_table[row].tolist() == bundle.domain("books").item_table[9].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_ids_change_places_in_one_update_with_all_that_is_known_of_them(
    surface: Bundle, root: Path, tmp_path: Path, kind: str
) -> None:
    first = first_release(surface, root, kind)
    double = Double.of(Release.read(first).indexes["films"])
    a, b, c, d, e = sorted(double.vectors)[3:1000:211]
    double.rename({a: b, b: a, c: d, d: e, e: "films-new"})
    names = paired(tmp_path / "names", {a: b, b: a, c: d, d: e, e: "films-new"})

    made = updated(root, {"films": {"rename": names}}, recall=RECALL)

    assert made.domains["films"].renamed == 5
    queries = surface.domain("films").queries
    assert queries is not None
    check(Release.read(made.folder).indexes["films"], double, list(queries[:10]))


def test_a_candidate_set_without_an_item_left_is_told_and_gone(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    ids = ["books-00001", "films-00001"]
    built_in(root, bundle, few=listed(tmp_path / "few", ids))

    made = updated(root, {"books": {"remove": listed(tmp_path / "gone", ids[:1])}})

    indexes = Release.read(made.folder).indexes
    assert made.emptied == (("books", "few"),)
    assert [list(indexes[name].candidate_sets) for name in ("books", "films")] == [[], ["few"]]


@pytest.mark.parametrize("kind", ["ivf", "ivf-int8", "ivf-pq"])
def test_lists_are_no_more_than_the_items_that_are_left(
    surface: Bundle, root: Path, tmp_path: Path, kind: str
) -> None:
    first_release(surface, root, kind)
    gone = list(surface.domain("films").vocabulary.ids)[5:]

    made = updated(root, {"films": {"remove": listed(tmp_path / "gone", gone)}})

    release = Release.read(made.folder)
    tables = release.bundle.domain("films")
    query = Query(tables.item_table[2], 9)
    assert (
        release.indexes["films"].search([query])[0].rows.tolist() == slow_answer(tables, query)[0]
    )


def test_an_index_that_finds_too_little_after_an_update_is_not_published(
    surface: Bundle, root: Path, tmp_path: Path
) -> None:
    built_as(surface, root, kind="ivf", recall=0.01, ivf={"lists": 100, "probes": 1})
    before = content(root)

    with pytest.raises(BadArtifactError, match=r"the ivf index of films found .*; not published"):
        updated(root, {"films": {"remove": listed(tmp_path / "gone", ["films-00001"])}})

    assert content(root) == before
    assert len(versions(root)) == 1
