"""Users that no system is told to be known in both domains, and what is asked of them."""

from pathlib import Path

import numpy as np
import pytest

from model.comparison.compare import compare
from model.comparison.settings import CompareSettings
from model.comparison.systems import Entry, Task
from model.data.dataset import Dataset
from model.data.newcomers import draw_newcomers
from model.data.training_data import TrainingData
from model.evaluation.protocol import Scorer, questions
from model.evaluation.ranking import rank_in_process
from model.metrics import gains
from tests.model.comparison.systems_in_tests import Quality, Shares, registry_of, write_folder
from tests.model.dataset_making import random_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two domains that share 30 of their users."""
    dataset = random_dataset(np.random.default_rng(1), users=60, items=50)
    return write_folder(dataset, tmp_path_factory.mktemp("data") / "dataset")


def test_newcomers_are_two_users_to_every_system_and_asked_of_apart(
    data: Path, tmp_path: Path
) -> None:
    dataset = Dataset.read(data)
    seen: list[tuple[TrainingData, Dataset]] = []

    def fit(task: Task) -> Scorer:
        seen.append((task.data, Dataset.read(task.folder)))
        return Shares(task.data)

    registry = registry_of(Entry("shares", "Shares", Quality, fit, seeded=False))
    settings = CompareSettings(newcomer_share=0.3, question_seed=7, trials=1, resamples=100)
    out = tmp_path / "out"

    report = compare(data, out, settings, say=lambda _: None, registry=registry).report

    ((learned, opened),) = seen
    new = dataset.shared[draw_newcomers(30, share=0.3, seed=7)]
    assert len(new) == 9
    tied = {tuple(pair) for pair in dataset.shared.tolist()} - {tuple(pair) for pair in new}
    assert {tuple(pair) for pair in learned.shared.tolist()} == tied
    assert {tuple(pair) for pair in opened.shared.tolist()} == tied
    for place, domain in enumerate(learned.domains):
        assert (domain.other[new[:, place]] == -1).all()
        asked = questions(dataset, domain.name, seed=7, cold=True)
        theirs = np.isin(asked.users, new[:, place])
        ranks = rank_in_process(Shares(TrainingData.of(dataset)), asked).full[theirs]
        found = report["domains"][domain.name]["newcomers"]
        assert found["users"] == len(ranks) > 0
        figures = found["systems"]["shares"]["full"]
        assert figures["ndcg@10"]["mean"] == pytest.approx(gains(ranks, 10).mean())


def test_with_nobody_set_apart_systems_learn_from_the_dataset_itself(
    data: Path, tmp_path: Path
) -> None:
    folders: list[Path] = []

    def fit(task: Task) -> Scorer:
        folders.append(task.folder)
        return Shares(task.data)

    registry = registry_of(Entry("shares", "Shares", Quality, fit, seeded=False))
    settings = CompareSettings(newcomer_share=0, resamples=100)

    done = compare(data, tmp_path / "out", settings, say=lambda _: None, registry=registry)

    assert folders == [data]
    assert done.report["domains"]["books"]["newcomers"]["users"] == 0
    assert not (tmp_path / "out" / "learned").exists()
