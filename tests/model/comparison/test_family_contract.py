"""What the RecGURU family promises in a comparison, as the baselines do by their own contract."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch.nn.functional import linear

from model.bundle import Bundle
from model.comparison.autoem import AutoEm, AutoEmSettings, PreferenceVectors
from model.comparison.autoem import fit as fit_autoem
from model.comparison.registry import SYSTEMS
from model.comparison.settings import with_values
from model.comparison.systems import Task
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.errors import BadArtifactError
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


def test_what_autoem_has_learned_is_stored_and_taken_back_unchanged(tmp_path: Path) -> None:
    data = dataset_of_kinds()
    folder, work = write_folder(data, tmp_path / "data"), tmp_path / "work"
    work.mkdir()
    settings = with_values(SYSTEMS["autoem"].defaults(), LONGER_TRAINING, given_in="autoem")
    assert isinstance(settings, AutoEmSettings)
    system = fit_autoem(Task(TrainingData.of(data), folder, settings, 0, work, "cpu"))
    stored = load(save(dict(system.tensors())))
    bundle = Bundle.read(work / "bundle")

    restored = AutoEm.restore(TrainingData.of(data), bundle, settings, stored)

    for domain in DOMAINS:
        histories = ways_to_be_known(data)
        scores = system.scores(domain, histories)
        assert np.ptp(scores, axis=0)[1:].max() > 0.1
        assert (restored.scores(domain, histories) == scores).all()
    known = [{"films": np.array([3, 1], np.int32)}]
    films, _ = PreferenceVectors(bundle, settings).of("films", known)
    expected = by_hand({name: torch.from_numpy(each) for name, each in stored.items()}, films)
    np.testing.assert_allclose(system.scores("books", known), expected, rtol=1e-4, atol=1e-4)
    other = TrainingData.of(random_dataset(np.random.default_rng(3), users=60, items=50))
    with pytest.raises(BadArtifactError, match="has shape"):
        AutoEm.restore(other, bundle, settings, stored)


def by_hand(tensors: Mapping[str, torch.Tensor], films: torch.Tensor) -> torch.Tensor:
    """Score books for whom films alone know, (1, D): the map from films gives the vector there."""

    def layer(name: str, vectors: torch.Tensor) -> torch.Tensor:
        return linear(vectors, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    books = layer("films.outward.out", layer("films.outward.hidden", films).tanh())
    merged = layer("books.layer", torch.cat([books, films], dim=1))
    return linear(merged, tensors["books.items"], tensors["books.bias"])


def ways_to_be_known(dataset: Dataset) -> list["History"]:
    """Return histories of some shared users in each domain alone and in both, and none."""
    data = TrainingData.of(dataset)
    both: list[History] = [
        {each.name: each.training[place] for each, place in zip(data.domains, who, strict=True)}
        for who in data.shared[:5]
    ]
    alone: list[History] = [{name: known[name]} for known in both for name in known]
    return [*both, *alone, {}]


def test_a_training_leaves_the_threads_as_they_were(tmp_path: Path) -> None:
    dataset = random_dataset(np.random.default_rng(6), users=40, items=30)
    folder, work = write_folder(dataset, tmp_path / "data"), tmp_path / "work"
    work.mkdir()
    settings = with_values(SYSTEMS["seqrec"].defaults(), TINY_TRAINING, given_in="seqrec")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        SYSTEMS["seqrec"].fit(Task(TrainingData.of(dataset), folder, settings, 1, work, "cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
