"""Updates that append to an index: what is in it afterwards, and when it is built anew instead."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest

from indexer import faiss_api
from indexer.bitmaps import Bitmap
from indexer.builders import build_index, level_of, levelled, lists_of
from indexer.engine import Proposer, Selective, open_engine
from indexer.faiss_build import hnsw_index
from indexer.faiss_changes import centres_of, change_lists
from indexer.index_file import read_index, write_index
from indexer.publish import latest
from indexer.recall import exact_top, recall
from indexer.release import Release
from indexer.search import Query
from indexer.spec import HnswSpec, IvfByteSpec, IvfSpec
from model.arrays import Floats
from tests.indexer.appending import (
    ITEMS,
    KINDS,
    RECALL,
    SPECS,
    Films,
    first_release,
    levelled_for,
    read_tables,
    reseal,
    spec_of,
    state_of,
)
from tests.indexer.index_making import (
    WIDTH,
    curved,
    index_of_kind,
    slow_allowed,
    slow_answer,
    slow_scores,
)
from tests.indexer.update_making import items, listed, paired, updated

if TYPE_CHECKING:
    from indexer.change_files import Role

STORED = {"ivf": 0, "ivf-int8": 0.01}
"""How far a number may be from what it was scaled to."""
CUT = {"ivf": 0, "ivf-int8": 0.01}
"""Share of numbers that may be farther: what is added may lie beyond what bytes were made for."""
MARGIN = 0.02
"""By how much less an index that was appended to may find than one built anew."""


def check_each_entry(root: Path, films: Films) -> None:
    """Ask for every item by its very entry, looking everywhere: it stands at its position."""
    place, tables = latest(root) / "index" / "films.faiss", read_tables(root)
    spec, vectors, state = (
        spec_of(place.with_suffix(".json")),
        tables.item_table[1:],
        state_of(root),
    )
    ids = sorted(films.vectors)
    assert list(tables.vocabulary.ids) == ids
    np.testing.assert_array_equal(vectors, np.stack([films.vectors[item] for item in ids]))
    entries = levelled_for(spec, vectors, state.level if state else level_of(vectors))
    index = read_index(place, spec, vectors, mapped=False)
    if isinstance(spec, IvfSpec | IvfByteSpec):
        check_lists(index, spec, entries)
        return
    spent = {"effort": 512} if isinstance(spec, HnswSpec) else {"probes": 20}
    found = faiss_api.propose_rows(index, entries, 24, items=len(ids), **spent)
    own = np.arange(1, len(ids) + 1)
    assert (found == own[:, np.newaxis]).any(axis=1).mean() >= (
        0.97 if spec.kind == "ivf-pq" else 1
    )
    assert found.max() <= len(ids)


def check_lists(index: Any, spec: IvfSpec | IvfByteSpec, entries: Floats) -> None:  # noqa: ANN401  # FAISS's types know only a part of it
    """Compare what each position holds, and in which list, with what it should."""
    index.make_direct_map()
    stored = index.reconstruct_n(0, len(entries))
    off = np.abs(stored - entries[:, :-1]) > STORED[spec.kind]
    assert off.mean() <= CUT[spec.kind]
    lists = lists_of(entries, centres_of(index))
    for each in range(spec.lists):
        held = faiss.rev_swig_ptr(index.invlists.get_ids(each), index.invlists.list_size(each))
        np.testing.assert_array_equal(np.sort(held), np.flatnonzero(lists == each))


def check_answers(root: Path, generator: np.random.Generator) -> None:
    """Compare a release's answers with slow ones, and what it finds with an index built anew."""
    release, tables = Release.read(latest(root), threads=1), read_tables(root)
    index, count = release.indexes["films"], len(tables.item_table) - 1
    assert tables.queries is not None
    spec = spec_of(release.folder / "index" / "films.json")
    anew = index_of_kind(tables, spec)
    found, wanted = (recall(each, tables.queries, k=10) for each in (index, anew))
    assert found >= wanted - MARGIN
    broad = np.sort(generator.permutation(count)[: count // 2] + 1).astype(np.int32)
    narrow, hits = broad[::17], 0
    for vector in tables.queries[:12]:
        excluded = exact_top(tables.item_table, vector[np.newaxis], 4)[0]
        for query in (
            Query(vector, 8, excluded=excluded),
            Query(vector, 8, candidates=Bitmap.of(broad, count), excluded=excluded),
        ):
            (answer,) = index.search([query])
            rows, scores = answer.rows.tolist(), slow_scores(tables, query)
            assert len(set(rows)) == 8
            assert set(rows) <= slow_allowed(tables, query)
            assert answer.scores.tolist() == [scores[row] for row in rows]
            assert rows == sorted(rows, key=lambda row: (-scores[row], row))
            hits += len(set(rows) & set(slow_answer(tables, query)[0]))
        query = Query(vector, 8, candidates=narrow, excluded=excluded)
        (answer,) = index.search([query])
        assert (answer.rows.tolist(), answer.scores.tolist()) == slow_answer(tables, query)
    assert hits >= RECALL * 12 * 16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("seed", "rounds"), [(1, 3), *(pytest.param(s, 12, marks=pytest.mark.slow) for s in (2, 3, 4))]
)
def test_after_updates_in_a_row_each_item_is_found_and_nothing_else(
    tmp_path: Path, kind: str, seed: int, rounds: int
) -> None:
    root = first_release(tmp_path, kind)
    films = Films.of(root, seed)
    for place in range(rounds):
        removed, added = films.generator.integers(0, 40, 2).tolist()
        made = films.updated(root, removed + 1, added, rebuild_share=1)
        assert made.domains["films"].index == "appended"
        check_each_entry(root, films)
        if place % 3 == 2:
            check_answers(root, films.generator)


@pytest.mark.parametrize("kind", KINDS)
def test_past_the_share_of_changes_an_index_is_built_anew_and_is_as_one_just_built(
    tmp_path: Path, kind: str
) -> None:
    root = first_release(tmp_path, kind)
    films = Films.of(root, 5)
    said = []
    for _ in range(3):
        done = films.updated(root, 14, 12, rebuild_share=0.1).domains["films"]
        said.append((done.index, done.why))
        state = state_of(root)
        if done.index == "appended":
            assert state is not None
            assert state.changed == 26 * len(said)
            assert state.removed == (14 * len(said) if kind == "hnsw" else 0)
    why = "78 entries were removed and added since it was built, more than index.rebuild_share"
    assert [how for how, _ in said] == ["appended", "appended", "rebuilt"]
    assert said[0][1] == ""
    assert said[2][1].startswith(why)
    assert state is None
    tables, place = read_tables(root), latest(root) / "index" / "films.faiss"
    spec = spec_of(place.with_suffix(".json"))
    write_index(build_index(spec, tables.item_table[1:]), spec, tmp_path / "whole.faiss")
    assert place.read_bytes() == (tmp_path / "whole.faiss").read_bytes()
    done = films.updated(root, 14, 12, rebuild_share=0.1).domains["films"]
    assert done.index == "appended"
    check_each_entry(root, films)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_has_the_same_digest_twice_and_one_that_changes_no_vector_copies(
    tmp_path: Path, kind: str
) -> None:
    root = first_release(tmp_path, kind)
    films = Films.of(root, 6)
    base = films.updated(root, 9, 9).folder.name
    changes: dict[str, dict[Role, Path]] = {
        "films": {
            "remove": listed(tmp_path / "gone", sorted(films.vectors)[::50]),
            "add": items(tmp_path / "new", {"item_id": "m", "like": sorted(films.vectors)[1:3]}),
        }
    }
    once, again = (updated(root, changes, version=base, recall=RECALL) for _ in range(2))
    assert once.domains["films"].index == "appended"
    assert once.digest == again.digest

    counts = paired(tmp_path / "counts", {"m": 3})
    copied = updated(root, {"films": {"popularity": counts}}, recall=RECALL)

    assert copied.domains["films"].index == "copied"
    for name in ("films.faiss", "films.json", "state/films.json"):
        files = [made.folder / "index" / name for made in (once, copied)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_longer_than_all_is_not_appended(tmp_path: Path, kind: str) -> None:
    root = first_release(tmp_path, kind)
    longest = float(np.linalg.norm(read_tables(root).item_table, axis=1).max())
    for share, how, why in (
        (0.999, "appended", ""),
        (1.01, "rebuilt", "a new vector is longer than all were when it was built"),
    ):
        vector = [0.0] * (WIDTH - 1) + [share * longest]
        added = items(tmp_path / "add", {"item_id": f"of-{share}", "vector": vector})
        done = updated(root, {"films": {"add": added}}, recall=RECALL).domains["films"]
        assert (done.index, done.why) == (how, why)


@pytest.mark.parametrize("kind", ["ivf", "ivf-int8", "ivf-pq"])
def test_entries_that_go_and_come_again_leave_an_index_with_lists_as_it_was(kind: str) -> None:
    vectors = curved(2000, WIDTH, np.random.default_rng(3))[1:]
    spec = SPECS[kind]
    index, entries, lists = build_index(spec, vectors), levelled_for(spec, vectors), None
    if isinstance(spec, IvfSpec | IvfByteSpec):
        lists = lists_of(entries, centres_of(index))
        entries = entries[:, :-1].copy()
    before = index.search(entries[::7], 30)
    gone = np.random.default_rng(1).permutation(2000)[:700].astype(np.int64)
    moved = np.arange(2000)
    moved[gone] = -1

    change_lists(index, moved, entries[gone], gone, lists[gone] if lists is not None else None)

    after = index.search(entries[::7], 30)
    np.testing.assert_array_equal(before[0], after[0])


def test_what_links_lead_through_is_not_proposed_nor_selected(tmp_path: Path) -> None:
    root = first_release(tmp_path, "hnsw")
    before = read_tables(root)
    films = Films.of(root, 7)
    for _ in range(2):
        films.updated(root, 100, 0, rebuild_share=1)
    tables, place = read_tables(root), latest(root) / "index" / "films.faiss"
    spec = spec_of(place.with_suffix(".json"))
    assert isinstance(spec, HnswSpec)
    index = read_index(place, spec, tables.item_table[1:])
    left = len(tables.item_table) - 1
    assert (index.ntotal, left) == (ITEMS, ITEMS - 200)
    engine = open_engine("cpu", spec, index, tables.item_table, threads=1)
    assert isinstance(engine, Proposer)
    assert isinstance(engine, Selective)
    everything = Bitmap.of(np.arange(1, left + 1, dtype=np.int32), left)
    for row, item in enumerate(before.vocabulary.ids, start=1):
        if item in films.gone:
            vector = before.item_table[row]
            rows = engine.propose(vector[np.newaxis], 64, effort=4)[0]
            _, selected = engine.select(vector, 64, everything, effort=4)
            for found in (rows, selected):
                assert found.min() >= 1, "less was found than there is"
                assert found.max() <= left


def test_links_of_releases_that_had_one_column_more_are_read_and_appended_to(
    tmp_path: Path,
) -> None:
    root = first_release(tmp_path, "hnsw")
    release, table = Release.read(latest(root)), read_tables(root).item_table
    place = release.folder / "index" / "films.faiss"
    spec = spec_of(place.with_suffix(".json"))
    assert isinstance(spec, HnswSpec)
    assert read_index(place, spec, table[1:], mapped=False).d == WIDTH + 8
    earlier = hnsw_index(levelled(table[1:]), links=spec.links, effort=spec.build_effort, threads=1)
    write_index(earlier, spec, place)
    reseal(release)
    check_answers(root, np.random.default_rng(4))
    films = Films.of(root, 9)

    done = films.updated(root, 20, 20).domains["films"]

    assert done.index == "appended"
    renewed = latest(root) / "index" / "films.faiss"
    vectors = read_tables(root).item_table[1:]
    assert read_index(renewed, spec, vectors, mapped=False).d == WIDTH + 1
    check_answers(root, films.generator)


def test_what_finds_too_little_once_it_was_appended_to_is_built_anew(tmp_path: Path) -> None:
    root = first_release(tmp_path, "ivf")
    spoil(root)
    films = Films.of(root, 8)

    made = films.updated(root, 5, 5)

    done = made.domains["films"]
    assert done.index == "rebuilt"
    assert done.why.startswith("the ivf index of films found ")
    assert made.folder == latest(root)
    assert Release.read(made.folder).digest == made.digest
    assert state_of(root) is None
    check_each_entry(root, films)
    assert [path.name for path in root.iterdir() if path.name.startswith(".building")] == []


def spoil(root: Path) -> None:
    """Put an index of other vectors in the place of the latest."""
    release = Release.read(latest(root))
    place, table = release.folder / "index" / "films.faiss", read_tables(root).item_table
    spec = spec_of(place.with_suffix(".json"))
    write_index(build_index(spec, table[:0:-1].copy()), spec, place)
    reseal(release)
