"""A dataset in which some shared users are two users each."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model.data.dataset import Dataset
from model.data.newcomers import draw_newcomers, with_newcomers
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
    assert len(draw_newcomers(100, share=0.29, seed=0)) == 29  # 28.999999999999996 in floats


def test_only_who_is_shared_differs(dataset: Dataset, tmp_path: Path) -> None:
    places = draw_newcomers(100, share=0.2, seed=5)

    made = Dataset.read(with_newcomers(dataset, tmp_path / "out", share=0.2, seed=5))

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


def test_it_is_written_once_and_another_lies_beside_it(dataset: Dataset, tmp_path: Path) -> None:
    first = with_newcomers(dataset, tmp_path / "out", share=0.2, seed=0)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}

    again = with_newcomers(dataset, tmp_path / "out", share=0.2, seed=0)
    others = [
        with_newcomers(dataset, tmp_path / "out", share=share, seed=seed)
        for share, seed in ((0.1, 0), (0.2, 1))
    ]
    of_itself = with_newcomers(Dataset.read(first), tmp_path / "out", share=0.2, seed=0)

    assert again == first
    assert len({first, of_itself, *others}) == 4
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert [len(Dataset.read(each).shared) for each in (first, of_itself)] == [80, 64]


def test_several_may_write_it_at_once(dataset: Dataset, tmp_path: Path) -> None:
    start = threading.Barrier(6)

    def write() -> Path:
        start.wait()
        return with_newcomers(dataset, tmp_path / "out", share=0.2, seed=0)

    with ThreadPoolExecutor(6) as pool:
        folders = {each.result() for each in [pool.submit(write) for _ in range(6)]}

    (folder,) = folders
    assert len(Dataset.read(folder).shared) == 80
    assert list((tmp_path / "out").iterdir()) == [folder]


@pytest.mark.parametrize("content", ["a note", "a dataset"])
def test_what_else_is_in_its_place_stays(dataset: Dataset, tmp_path: Path, content: str) -> None:
    place = with_newcomers(dataset, tmp_path / "out", share=0.2, seed=0)
    shutil.rmtree(place)
    if content == "a note":
        place.mkdir()
        (place / "note").write_text("mine", encoding="utf-8")
    else:
        write_folder(dataset, place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}

    with pytest.raises(RecGuruError, match=rf"{place.name} exists already"):
        with_newcomers(dataset, tmp_path / "out", share=0.2, seed=0)

    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
