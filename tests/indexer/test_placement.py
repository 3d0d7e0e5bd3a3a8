"""Which GPUs an index goes to, and what is said where a setting has no effect."""

from pathlib import Path

import faiss
import pytest

from indexer.build import build
from indexer.cli import _opened
from indexer.doctor import describe_gpus
from indexer.measure import MeasureSettings
from indexer.milvus_api import MilvusSettings
from indexer.placement import Gpus, index_device, use_of
from indexer.spec import GpuUse, IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.errors import BadSettingError
from model.settings import load_settings
from tests.indexer.index_making import silent
from tests.indexer.update_making import listed, updated


@pytest.mark.parametrize(
    ("use", "count", "expected", "shown"),
    [
        ("first", 1, Gpus((0,)), "one GPU"),
        ("first", 4, Gpus((0,)), "one GPU"),
        ("replicas", 3, Gpus((0, 1, 2)), "3 GPUs as replicas"),
        ("shards", 2, Gpus((0, 1), shards=True), "2 GPUs as shards"),
    ],
)
def test_a_use_of_gpus_names_those_that_hold_the_index(
    use: GpuUse, count: int, expected: Gpus, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert use_of(use, count) == expected
    assert str(expected) == shown
    assert not caplog.records


@pytest.mark.parametrize("use", ["replicas", "shards"])
def test_with_one_gpu_a_line_says_that_there_is_nothing_to_share(
    use: GpuUse, caplog: pytest.LogCaptureFixture
) -> None:
    assert use_of(use, 1) == Gpus()
    assert caplog.messages == [f"gpus={use} means no more than gpus=first: there is one GPU"]


def test_on_the_cpu_a_line_says_that_the_setting_has_no_effect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert index_device("cpu") == "cpu"
    assert not caplog.records
    assert index_device("cpu", "shards") == "cpu"
    assert caplog.messages == ["gpus=shards has no effect: the index is searched on the CPU"]


def test_auto_without_a_gpu_says_both(caplog: pytest.LogCaptureFixture) -> None:
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    assert index_device("auto", "replicas") == "cpu"
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "the index is searched on the CPU",
        "gpus=replicas has no effect",
    ]


def test_the_setting_reaches_a_build_from_a_file_a_measurement_and_an_update(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "index.toml"
    config.write_text('[index]\ndevice = "cpu"\ngpus = "shards"\n', encoding="utf-8")
    settings = load_settings(IndexSettings, table="index", config=config, flags={})
    said = "gpus=shards has no effect: the index is searched on the CPU"
    built = build(bundle, Store(tmp_path / "root"), settings=settings, advance=silent)
    assert said in caplog.messages
    caplog.clear()
    measured = MeasureSettings(device="cpu", gpus="shards")
    assert _opened(built.folder, measured, MilvusSettings()).digest == built.digest
    assert said in caplog.messages
    caplog.clear()
    domain = bundle.domains[0]
    gone = listed(tmp_path / "gone", [domain.vocabulary.ids[0]])
    updated(tmp_path / "root", {domain.name: {"remove": gone}}, gpus="shards")
    assert said in caplog.messages


def test_an_unknown_use_of_gpus_is_refused_by_its_place(tmp_path: Path) -> None:
    config = tmp_path / "index.toml"
    config.write_text('[index]\ngpus = "all"\n', encoding="utf-8")
    with pytest.raises(BadSettingError, match="gpus"):
        load_settings(IndexSettings, table="index", config=config, flags={})


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "none that FAISS and torch both see: the setting gpus has no effect"),
        (1, "1, which holds the indexes: the setting gpus has no effect"),
        (4, "4: gpus=first puts the indexes on one, replicas on each, shards a part on each"),
    ],
)
def test_doctor_says_what_the_setting_would_do(count: int, said: str) -> None:
    assert describe_gpus(count) == said
