"""A comparison must show chance where there is nothing to know, and no test row before the end."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from model.comparison.compare import compare
from model.comparison.registry import SYSTEMS
from model.comparison.settings import CompareSettings, with_values
from model.comparison.systems import Task
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from tests.model.comparison.systems_in_tests import (
    Fits,
    Shares,
    knowing,
    noise,
    registry_of,
    shares,
    write_folder,
)
from tests.model.dataset_making import random_dataset, with_other_held_out_rows

if TYPE_CHECKING:
    from model.evaluation.protocol import History

TINY_TRAINING = {
    "network.width": 8,
    "network.heads": 1,
    "network.layers": 1,
    "network.feed_forward": 8,
    "network.max_history": 6,
    "network.recent": 6,
    "pre_training.epochs": 1,
    "adversarial.steps": 2,
    "fine_tuning.epochs": 1,
    "fine_tuning.least_steps": 0,
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Return domains of more items than there are sampled negatives."""
    return random_dataset(np.random.default_rng(3), users=1500, items=320)


def test_a_random_scorer_is_at_chance(dataset: Dataset, tmp_path: Path) -> None:
    data = write_folder(dataset, tmp_path / "data")
    settings = CompareSettings(seeds=(0,), resamples=100)
    registry = registry_of(noise(Fits()))

    report = compare(data, tmp_path / "out", settings, say=lambda _: None, registry=registry).report

    for domain in dataset.domains:
        for part in ("all", "shared", "short", "cold"):
            found = report["domains"][domain.name][part]
            figures = found["systems"]["noise"]
            for ranking, places in (("sampled", 201), ("full", len(domain.vocabulary))):
                chance = 10 / places  # the few items a user has had lift it by less than 5 %
                error = (chance / found["users"]) ** 0.5
                hits = figures[ranking]["hr@10"]["mean"]
                assert chance - 4 * error < hits < 1.05 * chance + 4 * error


@pytest.mark.parametrize(
    "system", ["popularity", "latest-popularity", "co-occurrence", "cross-co-occurrence"]
)
def test_labels_drawn_at_random_are_found_at_chance(
    dataset: Dataset, tmp_path: Path, system: str
) -> None:
    shuffled = with_other_held_out_rows(dataset, np.random.default_rng(4))
    data = write_folder(shuffled, tmp_path / "data")
    settings = CompareSettings(systems=(system,), seeds=(0,), resamples=100)

    report = compare(data, tmp_path / "out", settings, say=lambda _: None).report

    for domain in dataset.domains:
        found = report["domains"][domain.name]["all"]
        chance = 10 / len(domain.vocabulary)
        error = (chance / found["users"]) ** 0.5
        hits = found["systems"][system]["full"]["hr@10"]["mean"]
        assert abs(hits - chance) < 4 * error + 0.05 * chance


def test_other_test_rows_change_figures_and_ranks_alone(dataset: Dataset, tmp_path: Path) -> None:
    changed = with_other_held_out_rows(dataset, np.random.default_rng(5))
    settings = CompareSettings(seeds=(0,), trials=3, resamples=100)
    records: list[list[dict[str, Any]]] = []
    fits = Fits()
    for name, each in (("as it is", dataset), ("changed", changed)):
        data, out = write_folder(each, tmp_path / name / "data"), tmp_path / name / "out"
        registry = registry_of(shares(fits), knowing(fits))
        compare(data, out, settings, say=lambda _: None, registry=registry)
        records.append([json.loads(path.read_text()) for path in sorted(out.glob("[rt]*/*.json"))])

    half = len(fits.systems) // 2
    compared = 0
    for one, other in zip(fits.systems[:half], fits.systems[half:], strict=True):
        if isinstance(one, Shares) and isinstance(other, Shares):
            for name, counts in one.tensors().items():
                assert (counts == other.tensors()[name]).all()
                compared += 1
    assert compared == 2
    assert len(records[0]) == 5  # two results and three trials
    for one_record, other_record in zip(*records, strict=True):
        if one_record["kind"] == "recguru-result":
            assert one_record["ranks"] != other_record["ranks"]
        assert untested(one_record) == untested(other_record)


def untested(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out what test rows may change, and what differs from run to run."""
    facts = {key: value for key, value in record["facts"].items() if key != "dataset"}
    kept = {
        key: value
        for key, value in record.items()
        if key not in {"ranks", "domains", "minutes", "peak_mib"}
    }
    text = json.dumps({**kept, "facts": facts})
    timeless = json.loads(text, object_hook=_without_minutes)
    assert isinstance(timeless, dict)
    return timeless


def _without_minutes(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "minutes"}


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
