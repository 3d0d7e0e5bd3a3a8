"""The networks of an updated release: they know the items it has, and read the others as before."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer.release import Release
from model.basis import Basis
from model.bundle import Bundle, write_bundle
from model.files import publishing
from model.inference import Inference
from model.weight_names import encoder_table_name, item_table_name
from server.engine import Engine
from server.messages import Choice, Recommendation, RecommendQuestion
from tests.indexer.index_making import built_as
from tests.indexer.update_making import items, listed, paired, updated

NAMES = ("books", "films")


def published(bundle: Bundle, root: Path) -> Release:
    """Build a release of a bundle."""
    return Release.read(built_as(bundle, root).folder)


@pytest.fixture(params=["mixed", "as scored", "cosine"])
def release(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path) -> Release:
    """Publish networks that read items by a table of their own, or as they are scored."""
    bundle = Bundle.read(tiny_bundle)
    if request.param != "mixed":
        scoring = "cosine" if request.param == "cosine" else "inner"
        weights = bundle.weights()
        for name in NAMES:
            del weights[item_table_name(name)]
        domains = list(bundle.domains)
        if scoring == "cosine":
            for each in domains:
                each.item_table[1:] /= np.linalg.norm(each.item_table[1:], axis=1, keepdims=True)
        network = {**bundle.network, "neighbours": 0, "scoring": scoring}
        with publishing(tmp_path / "bundle") as folder:
            write_bundle(
                folder, domains, weights, network=network, dataset=bundle.dataset, training={}
            )
        bundle = Bundle.read(tmp_path / "bundle")
    return published(bundle, tmp_path / "releases")


def changed(release: Release, folder: Path) -> Release:
    """Add three films, remove two, rename one."""
    vector = release.bundle.domain("films").item_table[30] * np.float32(3)
    added = items(
        folder / "add",
        {"item_id": "a-like", "like": ["f0003"]},
        {"item_id": "z-likes", "like": ["f0001", "f0007"]},
        {"item_id": "f0004-own", "vector": vector.tolist()},
    )
    gone = listed(folder / "remove", ["f0000", "f0250"])
    names = paired(folder / "rename", {"f0100": "0-first"})
    root = release.folder.parent
    made = updated(root, {"films": {"add": added, "remove": gone, "rename": names}})
    return Release.read(made.folder)


def ask(release: Release, *films: str, books: tuple[str, ...] = ()) -> Recommendation:
    """Ask for films as the server would."""
    engine = Engine(release, Inference.load(release.bundle, device="cpu"))
    histories = {"films": films, "books": books}
    question = RecommendQuestion(
        domain="films", histories=histories, choice=Choice(k=400), exclude_history=False
    )
    (outcome,) = engine.recommend([question])
    assert isinstance(outcome, Recommendation)
    return outcome


def scores(outcome: Recommendation) -> dict[str, float]:
    """Give the scores by item."""
    ranking = outcome.ranking
    return dict(zip(ranking.item_ids, ranking.scores, strict=True))


def test_every_table_with_a_row_for_each_item_follows_its_items(
    release: Release, tmp_path: Path
) -> None:
    after = changed(release, tmp_path)
    size = len(release.indexes["films"]) + 1
    before, weights = release.bundle.weights(), after.bundle.weights()
    tables = {name for name, array in before.items() if array.shape[0] == size}
    known = {encoder_table_name("films"), item_table_name("films")} & before.keys()
    assert tables == known
    assert before.keys() == weights.keys()
    now = after.indexes["films"].vocabulary
    assert len(now) == size - 1 + 3 - 2
    pairs = [(old, "0-first" if old == "f0100" else old) for old in release_ids(release)]
    for name in before.keys() - tables:
        assert np.array_equal(before[name], weights[name])
    for name in tables:
        for old, new in pairs:
            row = int(now.rows([new])[0])
            there = release.indexes["films"].vocabulary.rows([old])[0]
            assert row == 0 or np.array_equal(weights[name][row], before[name][there])
    assert now.rows(["f0000", "f0250", "f0100"]).tolist() == [0, 0, 0]


def release_ids(release: Release) -> Iterator[str]:
    """List the films of a release."""
    return iter(release.indexes["films"].vocabulary.ids)


def test_what_is_not_changed_is_answered_as_before(release: Release, tmp_path: Path) -> None:
    after = changed(release, tmp_path)
    history = ("f0005", "f0002", "f0077")

    before, now = (scores(ask(each, *history, books=("b0003",))) for each in (release, after))

    assert before.keys() - now.keys() == {"f0000", "f0250", "f0100"}
    for item in now.keys() & before.keys():
        assert now[item] == pytest.approx(before[item], abs=1e-5)
    assert now["0-first"] == pytest.approx(before["f0100"], abs=1e-5)


def test_an_item_like_another_is_read_and_scored_as_that(release: Release, tmp_path: Path) -> None:
    after = changed(release, tmp_path)

    new, old = ask(after, "f0009", "a-like"), ask(after, "f0009", "f0003")

    assert new.basis is Basis.PERSONALIZED
    assert new.unknown_history_items == 0
    assert scores(new) == pytest.approx(scores(old), abs=1e-5)
    assert scores(new)["a-like"] == pytest.approx(scores(new)["f0003"], abs=1e-5)


def test_an_item_like_two_is_the_mean_of_them_in_each_table(
    release: Release, tmp_path: Path
) -> None:
    after = changed(release, tmp_path)
    cosine = release.bundle.network["scoring"] == "cosine"
    row = int(after.indexes["films"].vocabulary.rows(["z-likes"])[0])
    before = {**release.bundle.weights(), "scored": release.bundle.domain("films").item_table}
    now = {**after.bundle.weights(), "scored": after.bundle.domain("films").item_table}
    names = {encoder_table_name("films"), item_table_name("films"), "scored"} & before.keys()
    for name in names:
        parts = before[name][[2, 8]].astype(np.float64)
        if cosine:
            parts /= np.linalg.norm(parts, axis=1, keepdims=True)
        mean = parts.mean(axis=0)
        if cosine and name == "scored":
            mean /= np.linalg.norm(mean)
        assert now[name][row] == pytest.approx(mean, abs=1e-6)


def test_an_item_with_a_vector_is_scored_and_read_by_it_and_encoded_like_those_near(
    release: Release, tmp_path: Path
) -> None:
    after = changed(release, tmp_path)
    cosine = release.bundle.network["scoring"] == "cosine"
    row = int(after.indexes["films"].vocabulary.rows(["f0004-own"])[0])
    table = release.bundle.domain("films").item_table
    vector = table[30] * np.float32(1 if cosine else 3)
    weights, before = after.bundle.weights(), release.bundle.weights()

    assert after.bundle.domain("films").item_table[row] == pytest.approx(vector, abs=1e-6)
    if item_table_name("films") in weights:
        assert weights[item_table_name("films")][row] == pytest.approx(vector, abs=1e-6)
    near = sorted(
        range(1, len(table)), key=lambda each: float(np.linalg.norm(table[each] - vector))
    )
    encoded = before[encoder_table_name("films")][near[:8]].astype(np.float64)
    if cosine:
        encoded /= np.linalg.norm(encoded, axis=1, keepdims=True)
    read = weights[encoder_table_name("films")][row]
    assert read == pytest.approx(encoded.mean(axis=0), abs=1e-6)


def test_a_history_of_removed_items_alone_is_a_newcomers(release: Release, tmp_path: Path) -> None:
    after = changed(release, tmp_path)

    outcome = ask(after, "f0000", "f0250", "f0100")

    assert outcome.basis is Basis.POPULARITY
    assert outcome.unknown_history_items == 3
    assert ask(after, "f0000", "f0250", books=("b0001",)).basis is Basis.CROSS_DOMAIN
    assert not {"f0000", "f0250", "f0100"} & set(outcome.ranking.item_ids)


def test_users_vectors_and_the_dataset_stay_those_of_training(
    release: Release, tmp_path: Path
) -> None:
    after = changed(release, tmp_path)
    for name in NAMES:
        before, now = release.bundle.domain(name).queries, after.bundle.domain(name).queries
        assert (before is None) == (now is None)
        assert before is None or now is None or np.array_equal(before, now)
    assert after.dataset == release.dataset
    assert after.bundle.digest != release.bundle.digest
