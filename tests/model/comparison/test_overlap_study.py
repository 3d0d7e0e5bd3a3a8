"""The same comparison with fewer and fewer shared users."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.comparison.overlap import study_markdown, study_overlap
from model.comparison.plots import plot_overlap
from model.comparison.settings import CompareSettings
from model.data.dataset import Dataset
from model.errors import BadArtifactError, BadSettingError
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

    def study(percents: list[int]) -> dict[str, object]:
        done = study_overlap(data, out, SETTINGS, percents, say=lambda _: None, registry=registry)
        assert done.failures == []
        assert plot_overlap(done.content, out) == out / "overlap.png"
        return done.content

    study([10])
    assert fits.done == ["shares 0", "noise 0"]
    content = study([10, 50])

    assert fits.done == ["shares 0", "noise 0"] * 2
    assert content["shared_users"] == {"10": 3, "50": 15}
    assert [
        len(Dataset.read(out / f"overlap-{share}" / "dataset").shared) for share in (10, 50)
    ] == [
        3,
        15,
    ]
    text = study_markdown(content)
    assert "| domain | users | ranking | metric | system | 10 % | 50 % |" in text
    rows = [line.split(" | ")[1:4] for line in text.splitlines()[8:]]
    assert rows[0] == ["all", "full", "HR@10"]
    assert ["cold", "sampled", "NDCG@10"] in rows
    assert text == (out / "overlap.md").read_text()


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
