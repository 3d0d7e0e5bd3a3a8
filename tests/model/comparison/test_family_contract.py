"""What the RecGURU family promises in a comparison, as the baselines do by their own contract."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from model.comparison.registry import SYSTEMS
from model.comparison.settings import with_values
from model.comparison.systems import Task
from model.data.training_data import TrainingData
from model.evaluation.protocol import Scorer, questions
from model.evaluation.ranking import rank_in_process
from model.metrics import ndcg
from tests.model.comparison.systems_in_tests import LONGER_TRAINING, TINY_TRAINING, write_folder
from tests.model.dataset_making import (
    CHANCE_OF_KINDS,
    dataset_of_kinds,
    random_dataset,
    with_other_held_out_rows,
)

if TYPE_CHECKING:
    from model.evaluation.protocol import History

DOMAINS = ("books", "films")


@cache
def fitted_to_kinds(name: str) -> Scorer:
    settings = with_values(SYSTEMS[name].defaults(), LONGER_TRAINING, given_in=name)
    data = dataset_of_kinds()
    with TemporaryDirectory() as place:
        folder, work = write_folder(data, Path(place) / "data"), Path(place) / "work"
        work.mkdir()
        return SYSTEMS[name].fit(Task(TrainingData.of(data), folder, settings, 0, work, "cpu"))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", ["seqrec", "autorec", "autoem", "recguru-paper", "recguru"])
def test_it_learns_which_kind_of_item_a_user_wants(name: str, domain: str) -> None:
    ranks = rank_in_process(fitted_to_kinds(name), questions(dataset_of_kinds(), domain)).full

    assert ndcg(ranks, 10) > 2 * CHANCE_OF_KINDS


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", ["autoem", "recguru"])
def test_it_carries_what_a_user_wants_to_a_domain_the_user_is_new_to(
    name: str, domain: str
) -> None:
    cold = questions(dataset_of_kinds(), domain, cold=True)
    ranks = rank_in_process(fitted_to_kinds(name), cold).full

    assert ndcg(ranks, 10) > 2 * CHANCE_OF_KINDS


FAMILY = [
    # What is left out makes no other way for a test row to be seen.
    pytest.param(name, marks=[pytest.mark.slow] if entry.ablation else [])
    for name, entry in SYSTEMS.items()
    if entry.ours
]


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_learns_the_same_whatever_the_test_rows_are(name: str, tmp_path: Path) -> None:
    dataset = random_dataset(np.random.default_rng(6), users=40, items=30)
    changed = with_other_held_out_rows(dataset, np.random.default_rng(7))
    entry = SYSTEMS[name]
    settings = with_values(entry.defaults(), TINY_TRAINING, given_in=name)
    one, two = np.array([3], np.int32), np.array([1, 2], np.int32)
    histories: list[History] = [{"books": one}, {"films": two}, {}, {"films": two, "books": one}]
    scores = []
    for place, each, seed in (("one", dataset, 1), ("same", changed, 1), ("other", dataset, 2)):
        folder = write_folder(each, tmp_path / place / "data")
        work = tmp_path / place / "work"
        work.mkdir()
        task = Task(TrainingData.of(each), folder, settings, seed, work, "cpu")
        system = entry.fit(task)
        assert ("domain_accuracy" in task.alignment) == (name != "seqrec")
        scores.append(system.scores("films", histories))
        for history, together in zip(histories, scores[-1], strict=True):
            alone = system.scores("films", [history])[0]
            np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)

    assert scores[0].shape == (4, 61)
    assert (scores[0] == scores[1]).all()
    assert (scores[0] != scores[2]).any()


def test_a_training_leaves_the_threads_as_they_were(tmp_path: Path) -> None:
    dataset = random_dataset(np.random.default_rng(6), users=40, items=30)
    folder = write_folder(dataset, tmp_path / "data")
    settings = with_values(SYSTEMS["seqrec"].defaults(), TINY_TRAINING, given_in="seqrec")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        SYSTEMS["seqrec"].fit(Task(TrainingData.of(dataset), folder, settings, 1, tmp_path, "cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
