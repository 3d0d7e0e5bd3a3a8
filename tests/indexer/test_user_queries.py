"""Preference vectors of users in a bundle: what training writes, and who is asked with which."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from indexer.sample import OF_ITEMS, OF_USERS, sample_of
from model.bundle import KIND, QUERIES, Bundle, read_bundle_manifest
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.errors import BadArtifactError
from model.files import write_manifest
from model.inference import Inference
from tests.indexer.index_making import clustered, tables_of


def again(folder: Path) -> None:
    """Make a bundle's manifest anew."""
    manifest = read_bundle_manifest(folder)
    content = {key: manifest[key] for key in ("domains", "network", "dataset", "training")}
    write_manifest(folder, kind=KIND, format_number=1, content=content)


def test_a_bundle_holds_what_users_prefer_by_their_training_rows(
    tiny_bundle: Path, tiny_dataset: Path
) -> None:
    bundle, data = Bundle.read(tiny_bundle), TrainingData.of(Dataset.read(tiny_dataset))
    inference = Inference.load(bundle, device="cpu")
    for domain in data.domains:
        asked = np.flatnonzero(domain.validation)
        other = data.other_than(domain)
        histories = [
            {domain.name: domain.training[user]}
            | (
                {other.name: other.training[int(domain.other[user])]}
                if domain.other[user] >= 0
                else {}
            )
            for user in asked.tolist()
        ]
        expected = inference.prefer(domain.name, histories).preferences
        found = bundle.domain(domain.name).queries
        assert found is not None
        assert found.shape == expected.shape
        order, theirs = (np.lexsort(each.round(3).T) for each in (found, expected))
        np.testing.assert_allclose(found[order], expected[theirs], atol=1e-4)


def test_the_users_of_a_bundle_are_halved_between_tuning_and_judging() -> None:
    table = clustered(90, 4, np.random.default_rng(1))
    queries = np.arange(28, dtype=np.float32).reshape(7, 4)
    tables = tables_of("films", table, queries=queries)

    sample = sample_of(tables, 3, seed=0)

    assert sample.tuning.tolist() == queries[[0, 2, 4]].tolist()
    assert sample.held_out.tolist() == queries[[1, 3, 5]].tolist()
    assert sample.are == OF_USERS


@pytest.mark.parametrize("users", [None, 0, 1])
def test_where_there_are_no_users_to_halve_items_stand_in(users: int | None) -> None:
    table = clustered(90, 4, np.random.default_rng(1))
    queries = None if users is None else np.ones((users, 4), np.float32)

    sample = sample_of(tables_of("films", table, queries=queries), 30, seed=0)

    assert sample.are == OF_ITEMS
    assert sample.tuning.shape == sample.held_out.shape == (30, 4)
    assert not (sample.tuning[:, None] == sample.held_out).all(axis=2).any()


def test_a_bundle_without_users_reads_as_before(bundle: Bundle) -> None:
    assert not list(bundle.folder.rglob(QUERIES))
    assert [domain.queries for domain in bundle.domains] == [None, None]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"preferences": np.ones((5, 7), np.float32)},
            r"preferences of shape \(5, 7\), not \(\*, 8\)",
        ),
        ({"preferences": np.ones(8, np.float32)}, r"preferences of shape \(8,\), not"),
        ({"others": np.ones((5, 8), np.float32)}, "holds no 'preferences'"),
        ({"preferences": np.ones((5, 8), np.float64)}, "preferences is float64, not float32"),
        ({"preferences": np.full((5, 8), np.nan, np.float32)}, "a number that is not finite"),
    ],
)
def test_users_of_another_form_are_refused_by_name(
    bundle: Bundle, arrays: dict[str, np.ndarray], said: str
) -> None:
    path = bundle.folder / "films" / QUERIES
    save_file(arrays, path)
    again(bundle.folder)
    with pytest.raises(BadArtifactError, match=rf"films/queries\.safetensors:? .*{said}"):
        Bundle.read(bundle.folder)


def test_the_file_holds_no_more_than_the_vectors(tiny_bundle: Path) -> None:
    for path in tiny_bundle.rglob(QUERIES):
        assert load_file(path).keys() == {"preferences"}
