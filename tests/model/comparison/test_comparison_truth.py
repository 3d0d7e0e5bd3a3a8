"""A comparison must show chance where there is nothing to know, and no test row before the end."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.compare import compare
from model.comparison.registry import SYSTEMS
from model.comparison.settings import CompareSettings
from model.data.dataset import Dataset
from tests.model.comparison.systems_in_tests import (
    LONGER_TRAINING,
    Fits,
    Shares,
    knowing,
    noise,
    registry_of,
    shares,
    write_folder,
)
from tests.model.dataset_making import random_dataset, with_other_held_out_rows


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


_COUNTED = ("popularity", "latest-popularity", "co-occurrence", "cross-co-occurrence")
_FACTORS = {"width": 16, "epochs": 60, "batch_rows": 64}
_SEQUENCES = {
    "width": 16,
    "layers": 1,
    "dropout": 0.0,
    "max_history": 8,
    "batch_users": 32,
    "epochs": 40,
    "least_steps": 0,
    "learning_rate": 1e-2,
}
MEMORISING: Mapping[str, Mapping[str, Any]] = {
    name: values
    for names, values in (
        (_COUNTED, {}),
        (("bprmf", "cmf"), _FACTORS),
        (("mfem", "cngan", "doml"), {"factors": _FACTORS, "merge.epochs": 1}),
        (("sas", "sasrec-strong", "bert4rec"), _SEQUENCES),
        (("seqrec", "autorec", "autoem", "recguru-paper", "recguru"), LONGER_TRAINING),
    )
    for name in names
}
"""Settings to learn a small dataset by heart, by system: a test row among what is learned shows."""


def test_every_system_but_the_ablations_is_asked_for_labels_drawn_at_random() -> None:
    assert set(MEMORISING) == {name for name, entry in SYSTEMS.items() if not entry.ablation}


@pytest.mark.parametrize("system", MEMORISING)
def test_labels_drawn_at_random_are_found_at_chance(tmp_path: Path, system: str) -> None:
    dataset = random_dataset(np.random.default_rng(3), users=400, items=100)
    shuffled = with_other_held_out_rows(dataset, np.random.default_rng(4))
    data = write_folder(shuffled, tmp_path / "data")
    settings = CompareSettings(
        systems=(system,), seeds=(0,), resamples=100, settings={system: MEMORISING[system]}
    )

    report = compare(data, tmp_path / "out", settings, say=lambda _: None).report

    for domain in dataset.domains:
        chance = 10 / len(domain.vocabulary)
        for part in ("all", "shared", "cold"):
            found = report["domains"][domain.name][part]
            error = (chance / found["users"]) ** 0.5
            hits = found["systems"][system]["full"]["hr@10"]["mean"]
            assert abs(hits - chance) < 4 * error + 0.05 * chance, (domain.name, part)


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
