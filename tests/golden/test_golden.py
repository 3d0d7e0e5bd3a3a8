"""Folders of past formats: today's code reads each as the code that wrote it did."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.bitmaps import Bitmap
from indexer.publish import LATEST
from indexer.release import FORMAT as RELEASE_FORMAT
from indexer.release import Release
from indexer.spec import KINDS
from model.data.dataset import FORMAT as DATASET_FORMAT
from model.derived import cold_items
from model.errors import RecGuruError
from model.files import digest_of, digests_of
from tests.golden.asked import (
    COLD,
    EXPECTED,
    FEW,
    HERE,
    HISTORIES,
    QUESTIONS,
    THIRD,
    answers_of,
    content_of,
)
from tests.golden.make import make_all
from tests.server.running import WAIT_S, recommend, serving

CLOSE = 1e-5
RELEASES = [path for path in sorted(HERE.glob("release-*/*")) if path.is_dir()]
DATASETS = [path for path in sorted(HERE.glob("dataset-*/*")) if path.is_dir()]


def named(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def expected(folder: Path) -> Any:  # noqa: ANN401  # JSON
    """Read what a folder was answered with when it was made."""
    return json.loads((folder.parent / EXPECTED).read_bytes())[folder.name]


def close(numbers: object) -> object:
    return pytest.approx(np.asarray(numbers), abs=CLOSE, rel=CLOSE)


def test_there_is_a_golden_folder_of_each_format_that_is_written() -> None:
    kinds = {
        folder.name for folder in RELEASES if folder.parent.name.endswith(f"-{RELEASE_FORMAT}")
    }
    assert kinds == {*KINDS, "updated"}
    assert HERE / f"dataset-{DATASET_FORMAT}" / "dataset" in DATASETS


@pytest.mark.parametrize("folder", RELEASES, ids=named)
def test_a_release_of_the_past_answers_as_it_did(folder: Path) -> None:
    wanted, found = expected(folder), answers_of(folder)

    assert found["digest"] == wanted["digest"] == digest_of(digests_of(folder))
    assert [found[key] for key in ("bundle", "kinds", "items")] == [
        wanted[key] for key in ("bundle", "kinds", "items")
    ]
    assert found["recommended"].keys() == wanted["recommended"].keys()
    for question, answer in wanted["recommended"].items():
        given = found["recommended"][question]
        assert given["item_ids"] == answer["item_ids"], question
        assert given["scores"] == close(answer["scores"]), question
        assert [rank[:2] for rank in given["ranks"]] == [rank[:2] for rank in answer["ranks"]]
        assert [rank[2] for rank in given["ranks"]] == close([rank[2] for rank in answer["ranks"]])
        for key in ("basis", "unknown_history_items", "unknown_candidates"):
            assert given[key] == answer[key], question
    for domain, encoded in wanted["encoded"].items():
        given = found["encoded"][domain]
        assert given["bases"] == encoded["bases"]
        assert np.asarray(given["gurs"]) == close(encoded["gurs"])
        assert np.asarray(given["preferences"]) == close(encoded["preferences"])


@pytest.mark.parametrize("folder", RELEASES, ids=named)
async def test_a_release_of_the_past_is_served(folder: Path, tmp_path: Path) -> None:
    wanted = expected(folder)
    version = f"20260101T000000.000000Z-{wanted['digest'][:12]}"
    shutil.copytree(folder, tmp_path / version)
    (tmp_path / LATEST).write_text(f"{version}\n", encoding="utf-8")

    async with serving(tmp_path) as running:
        request = recommend("films", HISTORIES["both"], k=QUESTIONS["all films"].choice.k)
        answer = await running.stub.Recommend(request, timeout=WAIT_S)

    listed = wanted["recommended"]["all films"]
    assert answer.version.index == wanted["digest"]
    assert [item.item_id for item in answer.items] == listed["item_ids"]
    assert [item.score for item in answer.items] == close(listed["scores"])


@pytest.mark.parametrize("folder", DATASETS, ids=named)
def test_a_dataset_of_the_past_says_what_it_said(folder: Path) -> None:
    assert content_of(folder) == expected(folder)


def test_the_golden_releases_hold_what_a_release_may_hold() -> None:
    for folder in RELEASES:
        release = Release.read(folder)
        films = release.indexes["films"]
        assert isinstance(films.candidate_sets[THIRD], Bitmap)
        assert isinstance(films.candidate_sets[FEW], np.ndarray)
        assert list(films.attributes) == ["decade", "genre"]
        assert all(tables.queries is not None for tables in release.bundle.domains)
        cold = cold_items(release.bundle)["films"]
        assert cold == ([COLD] if folder.name == "updated" else [])


def test_golden_files_are_never_made_again() -> None:
    before = digests_of(HERE)
    with pytest.raises(RecGuruError, match=r"release-\d+ exist already; golden files stay$"):
        make_all(HERE)
    assert digests_of(HERE) == before


@pytest.mark.slow
def test_golden_files_of_a_new_format_can_be_made(tmp_path: Path) -> None:
    make_all(tmp_path)
    for folder in tmp_path.glob("release-*/*/"):
        assert answers_of(folder)["digest"] == expected(folder)["digest"]
        whole = HERE / folder.parent.name / folder.name
        assert digests_of(folder).keys() == digests_of(whole).keys()
