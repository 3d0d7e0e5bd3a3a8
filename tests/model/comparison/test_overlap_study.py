"""The same comparison with fewer and fewer shared users."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.overlap import (
    rebuild_study,
    study_markdown,
    study_overlap,
    study_summary,
)
from model.comparison.plots import plot_overlap
from model.comparison.settings import CompareSettings
from model.data.dataset import Dataset
from model.errors import BadArtifactError, BadSettingError, NotFoundError
from model.evaluation.protocol import questions
from tests.model.comparison.systems_in_tests import (
    Fits,
    noise,
    registry_of,
    shares,
    write_folder,
)
from tests.model.dataset_making import random_dataset

SETTINGS = CompareSettings(seeds=(0,), resamples=100)


def test_a_study_compares_at_every_share_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    source = random_dataset(np.random.default_rng(1), users=60, items=40)
    data, out, fits = write_folder(source, tmp_path / "data"), tmp_path / "out", Fits()
    registry = registry_of(shares(fits), noise(fits))

    def study(percents: list[int]) -> dict[str, Any]:
        done = study_overlap(data, out, SETTINGS, percents, say=lambda _: None, registry=registry)
        assert done.failures == []
        assert plot_overlap(done.content, out) == out / "overlap.png"
        return done.content

    study([10])
    assert fits.done == ["shares 0", "noise 0"]
    content = study([10, 50])

    assert fits.done == ["shares 0", "noise 0"] * 2
    datasets = {share: Dataset.read(out / f"overlap-{share}" / "dataset") for share in ("10", "50")}
    assert [len(dataset.shared) for dataset in datasets.values()] == [3, 15]
    asked = {
        share: max(int(questions(dataset, each.name).shared.sum()) for each in dataset.domains)
        for share, dataset in datasets.items()
    }
    assert content["asked_shared_users"] == asked
    text = study_markdown(content)
    assert "| domain | users | ranking | metric | system | 10 % | 50 % |" in text
    rows = [line.split(" | ")[1:4] for line in text.splitlines()[7:]]
    assert rows[0] == ["all", "full", "HR@10"]
    assert ["cold", "sampled", "NDCG@10"] in rows
    assert text == (out / "overlap.md").read_text()
    assert f"part of its shared users (asked: 10 %: {asked['10']}, dataset `" in text
    for line, (share, dataset) in zip(
        study_summary(content).splitlines()[:2], datasets.items(), strict=True
    ):
        told = f"{share} %: dataset {dataset.digest[:12]}, seeds 0; numpy {np.__version__}"
        assert line.startswith(told)
    for domain, systems in content["domains"].items():
        full, sampled = (
            f"{100 * systems['Shares']['50']['cold'][ranking]['ndcg@10']['mean']:.2f}"
            for ranking in ("full", "sampled")
        )
        block = study_summary(content).split(f"{domain}, cold: ")[1].splitlines()
        assert block[1].split() == ["10", "%", "50", "%"]
        assert block[2].startswith("Shares ")
        assert block[2].endswith(f" {full} ({sampled})")


def test_a_study_is_written_again_from_its_runs_alone(tmp_path: Path) -> None:
    source = random_dataset(np.random.default_rng(1), users=60, items=40)
    data, out, again = write_folder(source, tmp_path / "data"), tmp_path / "out", tmp_path / "again"
    registry = registry_of(shares(Fits()), noise(Fits()))
    made = study_overlap(data, out, SETTINGS, [10, 50], say=lambda _: None, registry=registry)
    for share in (10, 50):
        shutil.rmtree(out / f"overlap-{share}" / "dataset")

    rebuilt = rebuild_study([out], again, SETTINGS, [10, 50], registry=registry)

    assert rebuilt == made.content
    for name in ("overlap.md", "overlap.json", "overlap-10/report.json", "overlap-50/report.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_shares_that_cannot_be_of_one_study_are_refused(tmp_path: Path) -> None:
    registry = registry_of(noise(Fits()))
    out = tmp_path / "out"
    apart = SETTINGS.model_copy(update={"newcomer_share": 0.5})
    reseeded = SETTINGS.model_copy(update={"question_seed": 3})
    for percent, settings in ((30, SETTINGS), (50, apart), (60, reseeded), (75, SETTINGS)):
        source = random_dataset(np.random.default_rng(1), users=60, items=40)
        first, second = source.domains
        first = replace(first, name="cloth" if percent == 75 else first.name)
        data = write_folder(replace(source, domains=(first, second)), tmp_path / f"data {percent}")
        study_overlap(data, out, settings, [percent], say=lambda _: None, registry=registry)

    for percent, message in (
        (50, r"^30 % and 50 % differ in the newcomer_share of noise$"),
        (60, r"^30 % and 60 % differ in their question_seed$"),
        (75, r"^30 % and 75 % are of different domains$"),
    ):
        with pytest.raises(BadArtifactError, match=message):
            rebuild_study([out], tmp_path / "again", SETTINGS, [30, percent], registry=registry)
    assert not (tmp_path / "again").exists()


def test_a_study_that_lacks_a_share_is_not_written_again_in_part(tmp_path: Path) -> None:
    source = random_dataset(np.random.default_rng(1), users=60, items=40)
    data, out, again = write_folder(source, tmp_path / "data"), tmp_path / "out", tmp_path / "again"
    registry = registry_of(noise(Fits()))
    study_overlap(data, out, SETTINGS, [50], say=lambda _: None, registry=registry)

    with pytest.raises(NotFoundError, match=r"^there is no result in .*/out/overlap-75/results$"):
        rebuild_study([out], again, SETTINGS, [50, 75], registry=registry)
    assert not again.exists()


def test_a_setting_that_is_refused_stops_a_study_before_anything_is_written(
    tmp_path: Path,
) -> None:
    data = write_folder(
        random_dataset(np.random.default_rng(1), users=40, items=30), tmp_path / "d"
    )
    wrong = SETTINGS.model_copy(update={"settings": {"noise": {"lift": "much"}}})
    registry = registry_of(noise(Fits()))
    with pytest.raises(BadSettingError, match=r"^setting compare\.settings\.noise\.lift: "):
        study_overlap(data, tmp_path / "out", wrong, [50], say=lambda _: None, registry=registry)
    assert not (tmp_path / "out").exists()


def test_a_study_of_another_dataset_is_refused(tmp_path: Path) -> None:
    registry = registry_of(shares(Fits()))
    for seed in (1, 2):
        dataset = random_dataset(np.random.default_rng(seed), users=40, items=30)
        write_folder(dataset, tmp_path / f"data {seed}")
    out = tmp_path / "out"
    study_overlap(tmp_path / "data 1", out, SETTINGS, [50], say=lambda _: None, registry=registry)

    message = r"overlap-50/dataset was made from another dataset; choose another --out$"
    with pytest.raises(BadArtifactError, match=message):
        study_overlap(
            tmp_path / "data 2", out, SETTINGS, [50], say=lambda _: None, registry=registry
        )
    shutil.rmtree(out)
    study_overlap(tmp_path / "data 2", out, SETTINGS, [50], say=lambda _: None, registry=registry)
