"""A dataset in which some shared users are two users each."""

from pathlib import Path

import numpy as np
import pytest

from model.data.dataset import Dataset
from model.data.newcomers import draw_newcomers, untied
from model.errors import RecGuruError
from tests.model.comparison.systems_in_tests import write_folder
from tests.model.dataset_making import random_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return domains that share 100 of their 200 users, from disk."""
    made = random_dataset(np.random.default_rng(1), users=200, items=60)
    return Dataset.read(write_folder(made, tmp_path / "data"))


def test_those_of_a_lower_share_are_among_those_of_a_higher_one() -> None:
    few, many = (set(draw_newcomers(50, share=share, seed=3)) for share in (0.1, 0.5))

    assert (len(few), len(many)) == (5, 25)
    assert few < many < set(range(50))
    assert set(draw_newcomers(50, share=0.1, seed=4)) != few
    assert len(draw_newcomers(4, share=0.2, seed=0)) == 0


def test_only_who_is_shared_differs(dataset: Dataset, tmp_path: Path) -> None:
    places = draw_newcomers(100, share=0.2, seed=5)

    made = Dataset.read(untied(dataset, tmp_path / "out", share=0.2, seed=5))

    gone = {tuple(pair) for pair in dataset.shared[places].tolist()}
    left = {tuple(pair) for pair in made.shared.tolist()}
    assert (len(gone), len(left)) == (20, 80)
    assert gone | left == {tuple(pair) for pair in dataset.shared.tolist()}
    for before, after in zip(dataset.domains, made.domains, strict=True):
        assert list(after.users) == list(before.users)
        assert list(after.vocabulary.ids) == list(before.vocabulary.ids)
        assert (after.sequences.rows == before.sequences.rows).all()
        assert (after.sequences.ends == before.sequences.ends).all()
        assert made.report["domains"][after.name]["shared_share"] == 80 / 200
    assert made.report["shared_users"] == 80


def test_it_is_written_once_and_again_for_other_users(dataset: Dataset, tmp_path: Path) -> None:
    def shared(seed: int) -> tuple[list[int], int]:
        made = Dataset.read(untied(dataset, tmp_path / "out", share=0.2, seed=seed))
        return made.shared[:, 0].tolist(), (tmp_path / "out").stat().st_ino

    first = shared(0)

    assert shared(0) == first
    assert shared(1)[0] != first[0]
    assert shared(0)[0] == first[0]


@pytest.mark.parametrize("content", ["a note", "a dataset"])
def test_what_else_is_there_stays(dataset: Dataset, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    if content == "a note":
        out.mkdir()
        (out / "note").write_text("mine", encoding="utf-8")
    else:
        write_folder(dataset, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    with pytest.raises(RecGuruError, match=r"out"):
        untied(dataset, out, share=0.2, seed=0)

    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
