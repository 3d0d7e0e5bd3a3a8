"""The state of an index that was appended to: refused when it cannot be that, and its level."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer.builders import fits, level_of, levelled
from indexer.publish import Canary, canary, latest, versions
from indexer.release import Release
from indexer.spec import ByteSpec, IndexSpec
from indexer.state import read_state, state_path
from indexer.versions import activate_checked, try_out_checked
from model.errors import BadArtifactError
from tests.commands import Command
from tests.indexer.appending import (
    ITEMS,
    RECALL,
    SPECS,
    Films,
    first_release,
    read_tables,
    reseal,
    state_of,
)
from tests.indexer.update_making import listed, updated


def test_vectors_of_one_length_are_appended_whatever_rounding_did_to_them() -> None:
    generator = np.random.default_rng(4)
    vectors = generator.standard_normal((4000, 7)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    level = level_of(vectors[:50])
    assert np.vecdot(vectors, vectors).max() > np.vecdot(vectors[:50], vectors[:50]).max()
    assert fits(level, vectors)
    assert not fits(level, vectors * np.float32(1.001))
    assert not fits(level, np.full((1, 7), 3e38, np.float32))
    assert np.isfinite(levelled(vectors, level=level)).all()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_index_keeps_its_level_though_its_longest_items_go(tmp_path: Path, kind: str) -> None:
    """What it holds was scaled to it; at another level new entries would be too near or too far."""
    root = first_release(tmp_path, kind)
    built = level_of(read_tables(root).item_table[1:])
    levels = []
    for round_ in range(2):
        tables = read_tables(root)
        longest = np.argsort(np.linalg.norm(tables.item_table, axis=1))[-10:]
        gone = [tables.vocabulary.item_id(int(row)) for row in longest]
        made = updated(
            root, {"films": {"remove": listed(tmp_path / f"gone-{round_}", gone)}}, recall=RECALL
        )
        assert made.domains["films"].index == "appended"
        state = state_of(root)
        assert state is not None
        levels.append(state.level)

    assert levels == [built, built]
    assert built != level_of(read_tables(root).item_table[1:])


def damaged(state: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Give contents of a state's file, and what is said of each."""
    level = {"exponent": 1, "squared": 1e-3}
    yield "", "holds no state of an index of this version: content: Invalid JSON"
    yield json.dumps(state | {"more": 1}), "more: Extra inputs are not permitted"
    yield json.dumps(state | {"changed": -1}), "changed: Input should be greater than or equal to 0"
    yield json.dumps(state | {"removed": "9"}), "removed: Input should be a valid integer"
    yield json.dumps(state | {"level": {"exponent": 1}}), "level.squared: Field required"
    yield json.dumps(state | {"removed": 19}), "counts 19 removed entries; this hnsw index keeps at"
    yield json.dumps(state | {"removed": 8}), r"counts 8 removed entries, the item table has 600 .*"
    yield json.dumps(state | {"level": level}), "tells of another index: its level is too low"


def test_a_state_that_is_damaged_or_of_another_index_is_refused_by_name(tmp_path: Path) -> None:
    root = first_release(tmp_path, "hnsw")
    films = Films.of(root, 9)
    films.updated(root, 9, 9)
    place = state_path(latest(root) / "index" / "films.faiss")
    whole, release = place.read_text(), Release.read(latest(root))
    for content, said in damaged(json.loads(whole)):
        place.write_text(content)
        with pytest.raises(BadArtifactError, match=r"state/films\.json is damaged"):
            Release.read(latest(root))
        reseal(release)
        with pytest.raises(BadArtifactError, match=rf"state/films\.json.*{said}"):
            films.updated(root, 1, 1)
    place.unlink()
    reseal(release)
    with pytest.raises(BadArtifactError, match=r"films\.faiss holds 609 vectors"):
        Release.read(latest(root))
    assert len(versions(root)) == 2


@pytest.mark.parametrize(
    ("spec", "removed", "said"),
    [
        (SPECS["ivf"], 1, "this ivf index keeps at most 0"),
        (ByteSpec(), 0, "kind flat-int8 is never appended to"),
    ],
)
def test_a_state_beside_an_index_that_has_none_is_refused(
    tmp_path: Path, spec: IndexSpec, removed: int, said: str
) -> None:
    state = {"level": {"exponent": 1, "squared": 1.0}, "changed": 5, "removed": removed}
    place = state_path(tmp_path / "films.faiss")
    place.parent.mkdir()
    place.write_text(json.dumps(state))
    with pytest.raises(BadArtifactError, match=rf"state/films\.json.*{said}"):
        read_state(place, spec)


def test_a_release_with_a_state_is_activated_and_tried_like_any_other(tmp_path: Path) -> None:
    root = first_release(tmp_path, "ivf")
    first = latest(root).name
    made = Films.of(root, 10).updated(root, 5, 5)
    assert made.domains["films"].index == "appended"

    activate_checked(root, first)
    assert latest(root).name == first
    try_out_checked(root, Canary(made.folder.name, 0.1))
    assert canary(root) == Canary(made.folder.name, 0.1)
    activate_checked(root, made.folder.name)
    assert latest(root) == made.folder


def test_info_tells_what_has_changed_in_an_index_since_it_was_built(
    tmp_path: Path, recguru: Command
) -> None:
    root = first_release(tmp_path, "hnsw")
    config = tmp_path / "recguru.toml"
    config.write_text(f"[index]\nrebuild_share = 0.09\nrecall = {RECALL}\n")
    info = ("indexer", "info", "--releases", root, "--config", config)
    fresh = {"changed": 0, "changed_share": 0, "rebuild_share": 0.09, "tombstones": 0}
    assert json.loads(recguru(*info, "--json").output)["domains"]["films"]["since_built"] == fresh
    films = Films.of(root, 11)

    films.updated(root, 20, 10)
    films.updated(root, 12, 4)
    since = json.loads(recguru(*info, "--json").output)["domains"]["films"]["since_built"]
    told = recguru(*info).output.splitlines()

    assert ITEMS == 600
    assert since == fresh | {"changed": 46, "changed_share": 46 / 582, "tombstones": 32}
    assert (
        "  since it was built: 46 entries removed and added, 7.90% of the items (built anew past "
        "9.00%); 32 tombstones"
    ) in told
    films.updated(root, 14, 4)
    assert json.loads(recguru(*info, "--json").output)["domains"]["films"]["since_built"] == fresh
    assert "since it was built" not in recguru(*info).output
