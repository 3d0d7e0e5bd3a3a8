"""The oracle, recall, and the gate a build must pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer import recall as recall_module
from indexer.engine import Engine
from indexer.measure import MeasureSettings, measure
from indexer.recall import exact_top, recall
from indexer.release import Release
from indexer.sample import preference_like, sample_of
from indexer.search import Query
from indexer.spec import IndexSettings
from indexer.trial import try_out
from model.arrays import Floats, Rows
from model.bundle import Bundle, DomainTables
from model.errors import BadArtifactError
from tests.indexer.index_making import (
    built_in,
    clustered,
    faiss_engine,
    index_of,
    silent,
    slow_answer,
    tables_of,
)


class Forgetful:
    """An engine that never finds the best row."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def top(self, vectors: Floats, count: int) -> tuple[Floats, Rows]:
        """Find the second best twice."""
        scores, rows = self._engine.top(vectors, count)
        rows[:, 0] = rows[:, 1]
        return scores, rows

    def products(self, vector: Floats, rows: Rows | None) -> Floats:
        """Multiply as the other engine does."""
        return self._engine.products(vector, rows)


@pytest.fixture
def tables() -> DomainTables:
    return tables_of("films", clustered(300, 5, np.random.default_rng(2)))


@pytest.mark.parametrize("k", [1, 7, 300, 400])
def test_the_oracle_is_exact_however_it_parts_the_work(
    tables: DomainTables, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_module, "_ITEMS", 64)
    monkeypatch.setattr(recall_module, "_SCORES", 700)
    vectors = preference_like(tables.item_table, 5, seed=1)

    truth = exact_top(tables.item_table, vectors, k)

    assert truth.tolist() == [slow_answer(tables, Query(vector, k))[0] for vector in vectors]


def test_recall_is_the_share_of_the_true_best_that_is_found(tables: DomainTables) -> None:
    vectors = preference_like(tables.item_table, 20, seed=1)
    engine = faiss_engine(tables)

    assert recall(index_of(tables, engine), vectors, k=10) == 1
    assert recall(index_of(tables, engine), vectors, k=1000) == 1
    assert recall(index_of(tables, Forgetful(engine)), vectors, k=10) < 0.95


def test_queries_are_means_of_items_and_the_same_for_the_same_seed(tables: DomainTables) -> None:
    vectors = preference_like(tables.item_table, 50, seed=1)

    assert vectors.shape == (50, 5)
    assert vectors.dtype == np.float32
    low, high = tables.item_table[1:].min(axis=0), tables.item_table[1:].max(axis=0)
    assert ((vectors >= low) & (vectors <= high)).all()
    np.testing.assert_array_equal(vectors, preference_like(tables.item_table, 50, seed=1))
    assert not np.array_equal(vectors, preference_like(tables.item_table, 50, seed=2))


def test_a_release_is_measured_domain_by_domain(bundle: Bundle, tmp_path: Path) -> None:
    release = Release.read(built_in(tmp_path / "releases", bundle).folder, threads=1)
    settings = MeasureSettings(queries=30, k=(3, 9), batch=8)

    figures = measure(release, settings, advance=silent)

    assert list(figures) == ["books", "films"]
    films = figures["films"]
    assert films["recall"] == {"@3": 1.0, "@9": 1.0}
    assert (films["items"], films["width"], films["kind"]) == (1500, 8, "flat")
    assert films["bytes_per_item"] == pytest.approx(8 * 4, abs=0.5)
    for way in ("single", "batched"):
        took = films[way]
        assert 0 < took["p50_ms"] <= took["p95_ms"] <= took["p99_ms"]
        assert took["queries_per_s"] > 0


def test_an_index_that_does_not_find_what_exact_search_finds_is_not_published(
    bundle: Bundle, tmp_path: Path
) -> None:
    release = Release.read(built_in(tmp_path / "releases", bundle).folder)
    films = bundle.domain("films")
    broken = index_of(films, Forgetful(faiss_engine(films)))
    samples = {"films": sample_of(films, 50, seed=0)}
    with pytest.raises(
        BadArtifactError,
        match=r"the flat index of films found \d\d\.\d\d% of what exact search finds, wanted are",
    ):
        try_out(replace(release, indexes={"films": broken}), samples, IndexSettings(), silent)
