"""A dataset with fewer shared users, made from one with many."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.data.cli import data_app
from model.data.dataset import Dataset, DomainData
from model.data.overlap import with_overlap
from model.data.prepare import DomainInput, prepare
from model.data.prepare_settings import PrepareSettings
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadDataError, BadSettingError, RecGuruError
from tests.model.comparison.systems_in_tests import write_folder
from tests.model.dataset_making import dataset_of, random_dataset


@pytest.fixture(scope="module")
def source() -> Dataset:
    """Return domains that share half of their 200 users; items have titles."""
    dataset = random_dataset(np.random.default_rng(1), users=200, items=60)
    first, second = (_titled(domain) for domain in dataset.domains)
    return Dataset((first, second), dataset.shared, dataset.digest, {})


def _titled(domain: DomainData) -> DomainData:
    titles = StringTable.of(f"title of {item}" for item in domain.vocabulary.ids)
    vocabulary = Vocabulary(domain.vocabulary.ids, titles)
    return DomainData(domain.name, vocabulary, domain.users, domain.sequences)


@pytest.fixture(scope="module")
def folder(source: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write that dataset."""
    return write_folder(source, tmp_path_factory.mktemp("source") / "dataset")


def histories(dataset: Dataset) -> list[dict[str, list[str]]]:
    """Spell every user's sequence in item ids, domain by domain."""
    return [
        {
            user: [domain.vocabulary.item_id(int(row)) for row in domain.sequences[place]]
            for place, user in enumerate(domain.users)
        }
        for domain in dataset.domains
    ]


def shared_ids(dataset: Dataset) -> set[str]:
    first, second = dataset.domains
    for one, other in dataset.shared.tolist():
        assert first.users[one] == second.users[other]
    return {first.users[place] for place in dataset.shared[:, 0].tolist()}


def test_the_others_keep_one_domain_and_nothing_else_changes(
    source: Dataset, folder: Path, tmp_path: Path
) -> None:
    with_overlap(folder, tmp_path / "out", share=0.3, seed=4)
    made = Dataset.read(tmp_path / "out")

    before, after = histories(source), histories(made)
    were, are = shared_ids(source), shared_ids(made)
    assert len(were) == 100
    assert len(are) == 30
    assert are < were
    for old, new in zip(before, after, strict=True):
        assert all(old[user] == rows for user, rows in new.items())
        assert set(old) - were == set(new) - were
    gone = [set(old) - set(new) for old, new in zip(before, after, strict=True)]
    assert gone[0] | gone[1] == were - are
    assert not gone[0] & gone[1]
    assert min(len(gone[0]), len(gone[1])) > 20  # of 70, a fair coin each
    assert are == set(after[0]) & set(after[1])


def test_every_item_left_is_somebodys_and_keeps_its_title(folder: Path, tmp_path: Path) -> None:
    with_overlap(folder, tmp_path / "out", share=0.0)

    for domain in Dataset.read(tmp_path / "out").domains:
        rows = np.unique(domain.sequences.rows)
        assert rows.tolist() == list(range(1, len(domain.vocabulary) + 1))
        for row in rows.tolist():
            assert domain.vocabulary.title(row) == f"title of {domain.vocabulary.item_id(row)}"


def test_those_who_stay_at_a_low_share_stay_at_a_higher_one(folder: Path, tmp_path: Path) -> None:
    kept = []
    for share in (0.1, 0.5, 0.75, 1.0):
        with_overlap(folder, tmp_path / f"{share}", share=share)
        kept.append(shared_ids(Dataset.read(tmp_path / f"{share}")))

    assert [len(users) for users in kept] == [10, 50, 75, 100]
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    folder: Path, tmp_path: Path
) -> None:
    digests = [
        with_overlap(folder, tmp_path / name, share=0.5, seed=seed)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    ]
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "same")]

    assert digests[0] == digests[1] != digests[2]
    assert manifests[0] == manifests[1]


def test_the_manifest_says_what_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    with_overlap(folder, tmp_path / "out", share=0.5, seed=3)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())

    assert manifest["made"] == {
        "command": "overlap",
        "dataset": Dataset.read(folder).digest,
        "options": {"share": 0.5, "seed": 3},
    }


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(folder: Path, tmp_path: Path, share: float) -> None:
    with pytest.raises(BadSettingError, match=rf"^share must be between 0 and 1, not {share:g}$"):
        with_overlap(folder, tmp_path / "out", share=share)


def test_a_dataset_without_shared_users_is_refused(tmp_path: Path) -> None:
    apart = dataset_of({"a": [1, 2, 3]}, {"b": [1, 2, 3]}, items=(3, 3))
    folder = write_folder(apart, tmp_path / "apart")

    with pytest.raises(BadDataError, match=r"apart has no shared users$"):
        with_overlap(folder, tmp_path / "out", share=0.5)


def test_a_folder_that_holds_something_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "note").touch()
    with pytest.raises(RecGuruError, match=r"exists already; choose another place"):
        with_overlap(folder, tmp_path, share=0.5)


def test_warnings_and_notes_are_of_the_users_and_items_that_are_left(tmp_path: Path) -> None:
    first = (f"u{user}\ta{user},b{user},z{user}\n" for user in range(40))
    second = (f"u{user}\tz{user + 1},c{user},d{user}\n" for user in range(40))
    others = (f"v{user}\te\n" for user in range(200))
    (tmp_path / "a.tsv").write_text("".join(first))
    (tmp_path / "b.tsv").write_text("".join([*second, *others, "w\te\tone too many\n"]))
    inputs = DomainInput("a", tmp_path / "a.tsv"), DomainInput("b", tmp_path / "b.tsv")
    before = prepare(inputs, PrepareSettings(format="sequences"), tmp_path / "data")

    with_overlap(tmp_path / "data", tmp_path / "out", share=0.0)

    made = Dataset.read(tmp_path / "out")
    left = set.intersection(*(set(domain.vocabulary.ids) for domain in made.domains))
    assert 0 < len(left) < 39  # as z1 to z39 were
    of_log, of_both = before["warnings"]
    assert of_log.startswith("b.tsv: 1 of 241 lines cannot be used and are left out: line 241: ")
    assert of_both.startswith("a and b share 39 item ids: one event may stand in both domains")
    assert made.report["warnings"] == [
        of_log,
        of_both.replace("39", str(len(left))),
        # now that they have no user ids in common
        (
            "a and b have more of their item ids in common than of their user ids;"
            " users and items may be swapped in both"
        ),
    ]
    assert before["notes"] == []
    assert made.report["notes"] == ["a and b share no users"]


def test_the_command_prints_the_new_statistics(folder: Path, tmp_path: Path) -> None:
    arguments = ["overlap", "--data", folder, "--share", "0.3", "--out", tmp_path / "out"]
    done = CliRunner().invoke(data_app, [*map(str, arguments), "--json"])

    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["shared_users"] == report["domains"]["books"]["shared_users"] == 30
    (step,) = report["domains"]["films"]["steps"]
    assert step["removed"]["users"] + report["domains"]["films"]["users"] == 200
    table = CliRunner().invoke(data_app, ["describe", "--data", str(tmp_path / "out")])
    assert table.exit_code == 0, table.output


def test_a_domain_that_nobody_stays_in_is_refused(tmp_path: Path) -> None:
    whole = dataset_of({"u2": [1, 2, 3]}, {"u2": [1, 2, 3], "w": [1]}, items=(3, 3))
    folder = write_folder(whole, tmp_path / "whole")

    with pytest.raises(BadDataError) as caught:
        with_overlap(folder, tmp_path / "out", share=0)

    assert str(caught.value) == (
        "domain books: all its users are shared, and at share 0 with seed 0 none of them stays in"
        " it; choose a higher share"
    )
    assert not (tmp_path / "out").exists()
