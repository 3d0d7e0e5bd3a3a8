"""How named candidate sets are kept in a release: listed where narrow, as bitmaps where broad."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.bitmaps import Bitmap
from indexer.release import Release, latest
from indexer.search import Query
from model.bundle import Bundle
from model.errors import BadArtifactError
from tests.indexer.index_making import SIZES, built_in, listed_rows

FILMS = SIZES["films"]
NARROWEST = (FILMS // 8 + 1) // 4 + 1
"""The smallest set whose bitmap is smaller than its rows."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def chosen(folder: Path, count: int) -> tuple[Path, list[int]]:
    """Draw some films; write their ids into a file."""
    rows = np.random.default_rng(count).permutation(FILMS)[:count] + 1
    path = folder / "chosen.txt"
    path.write_text("".join(f"films-{row:05d}\n" for row in rows))
    return path, sorted(rows.tolist())


@pytest.mark.parametrize("count", [1, NARROWEST - 1, NARROWEST, 700, FILMS])
def test_a_set_of_any_size_holds_its_items_and_no_more_bytes_than_it_must(
    bundle: Bundle, root: Path, tmp_path: Path, count: int
) -> None:
    path, rows = chosen(tmp_path, count)

    folder = built_in(root, bundle, new=path).folder

    stored = np.load(folder / "candidates" / "films" / "new.npy")
    assert stored.nbytes == min(4 * count, FILMS // 8 + 1)
    kept = Release.read(folder).indexes["films"].candidate_sets["new"]
    assert isinstance(kept, Bitmap) == (count >= NARROWEST)
    assert listed_rows(kept).tolist() == rows
    assert len(kept) == count


@pytest.mark.parametrize("count", [1, NARROWEST, 700, FILMS])
def test_rows_of_an_older_release_are_read_however_many_and_answer_alike(
    bundle: Bundle, root: Path, tmp_path: Path, count: int
) -> None:
    path, rows = chosen(tmp_path, count)
    folder = built_in(root, bundle, new=path).folder
    vectors = [None, bundle.domain("films").item_table[7]]

    def answers() -> list[list[float]]:
        index = Release.read(folder, verify=False).indexes["films"]
        among = index.candidate_sets["new"]
        assert listed_rows(among).tolist() == rows
        found = index.search([Query(vector, k=9, candidates=among) for vector in vectors])
        return [[*each.rows.tolist(), *each.scores.tolist()] for each in found]

    newer = answers()
    np.save(folder / "candidates" / "films" / "new.npy", np.array(rows, np.int32))

    assert answers() == newer


NOT_SOUND = "is no bitmap of rows between 1 and 1500"


@pytest.mark.parametrize(
    "stored",
    [
        np.zeros(FILMS // 8 + 1, np.uint8),
        np.ones(FILMS // 8 + 1, np.uint8),
        np.full(FILMS // 8 + 1, 128, np.uint8),
        np.full(FILMS // 8, 2, np.uint8),
        np.full((1, FILMS // 8 + 1), 2, np.uint8),
        np.full((), 2, np.uint8),
        np.empty(0, np.uint8),
    ],
    ids=["empty", "padding", "beyond the last", "short", "two axes", "no axis", "nothing"],
)
def test_a_bitmap_of_something_else_is_refused_even_unverified(
    bundle: Bundle, root: Path, tmp_path: Path, stored: NDArray[np.uint8]
) -> None:
    path, _ = chosen(tmp_path, 700)
    damaged = built_in(root, bundle, new=path).folder / "candidates" / "films" / "new.npy"
    np.save(damaged, stored)

    with pytest.raises(BadArtifactError, match=rf"films/new\.npy {NOT_SOUND}"):
        Release.read(latest(root), verify=False)
