"""Search on GPUs against the CPU, numpy and slow answers: `make test-gpu`, where there is one.

Shapes: B queries, D width.
"""

from pathlib import Path

import numpy as np
import pytest

from indexer import faiss_api, faiss_gpu
from indexer.build import build
from indexer.builders import build_index
from indexer.engine import ApproximateEngine, Engine, Proposer, Selective, open_engine
from indexer.faiss_gpu import copy_to_gpus
from indexer.placement import Gpus, index_device, use_of, visible_gpus
from indexer.release import Release
from indexer.search import DomainIndex, Query
from indexer.spec import (
    FlatSpec,
    GpuUse,
    HalfSpec,
    IndexSettings,
    IndexSpec,
    IvfByteSpec,
    IvfSpec,
)
from indexer.store import Store
from model.arrays import Floats
from model.bundle import Bundle, DomainTables
from tests.indexer.index_making import (
    clustered,
    faiss_engine,
    index_of,
    index_of_kind,
    silent,
    slow_answer,
    tables_of,
)
from tests.indexer.parity import WIDTH, all_questions, assert_exact, tables_with_ties

pytestmark = pytest.mark.gpu

LISTS = 20
WHOLE: dict[str, IndexSpec] = {
    "flat-f16": HalfSpec(rerank=4),
    "ivf": IvfSpec(lists=LISTS, probes=LISTS, rerank=2),
    "ivf-int8": IvfByteSpec(lists=LISTS, probes=LISTS, rerank=4),
}
"""Searches that leave nothing out: what they find is exact."""


@pytest.fixture(params=["first", "replicas", "shards"])
def gpus(request: pytest.FixtureRequest) -> Gpus:
    """Use the GPUs there are in each way; one is no test of several."""
    if not faiss_api.has_gpu_build():
        pytest.skip("this FAISS is built without GPU support; install the extra [gpu]")
    if not faiss_api.gpu_count():
        pytest.skip("FAISS sees no CUDA device")
    if not visible_gpus():
        pytest.skip("torch sees no CUDA device")
    use: GpuUse = request.param
    if use != "first" and visible_gpus() == 1:
        pytest.skip(f"{use} need two GPUs, there is one")
    return use_of(use, visible_gpus())


@pytest.fixture(scope="module")
def few_ties() -> DomainTables:
    return tables_with_ties(5)


def engine_of(tables: DomainTables, spec: IndexSpec, gpus: Gpus) -> Engine | Proposer:
    index = build_index(spec, tables.item_table[1:])
    return open_engine(gpus, spec, index, tables.item_table)


def some_vectors(count: int) -> Floats:
    return np.random.default_rng(12).standard_normal((count, WIDTH)).astype(np.float32)


def test_an_exact_index_answers_as_on_the_cpu(gpus: Gpus) -> None:
    assert index_device("auto") == index_device("cuda") == Gpus()
    tables = tables_with_ties(300)
    engine = faiss_engine(tables, gpus)
    assert_exact(index_of(tables, engine), tables, all_questions(tables))


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_proposed_is_scored_again_and_sets_are_gathered_exactly(
    kind: str, gpus: Gpus, few_ties: DomainTables
) -> None:
    engine = engine_of(few_ties, WHOLE[kind], gpus)
    assert isinstance(engine, Proposer)
    assert not isinstance(engine, Selective)
    assert_exact(DomainIndex(few_ties, kind, engine, {}), few_ties, all_questions(few_ties))


@pytest.mark.parametrize(
    "spec", [HalfSpec(), IvfSpec(lists=LISTS, probes=3), IvfByteSpec(lists=LISTS, probes=3)]
)
def test_the_same_is_proposed_as_on_the_cpu(
    spec: HalfSpec | IvfSpec | IvfByteSpec, gpus: Gpus, few_ties: DomainTables
) -> None:
    index, table = build_index(spec, few_ties.item_table[1:]), few_ties.item_table
    on_gpus = open_engine(gpus, spec, index, table)
    assert isinstance(on_gpus, Proposer)
    on_cpu = ApproximateEngine(index, spec, table, threads=1)
    vectors = some_vectors(50)
    for effort in (1, 4):
        found = on_gpus.propose(vectors, 200, effort=effort)
        expected = on_cpu.propose(vectors, 200, effort=effort)
        shared = [len(np.intersect1d(a, b)) for a, b in zip(found, expected, strict=True)]
        assert np.mean(shared) >= 0.99 * 200, "rounding moves what lies at the cut, no more"


@pytest.mark.parametrize("kind", WHOLE)
def test_a_batch_finds_what_its_queries_find_alone(
    kind: str, gpus: Gpus, few_ties: DomainTables
) -> None:
    index = DomainIndex(few_ties, kind, engine_of(few_ties, WHOLE[kind], gpus), {})
    queries = [Query(vector, k=20) for vector in some_vectors(70)]
    together = index.search(queries)
    for query, found in zip(queries, together, strict=True):
        (alone,) = index.search([query])
        assert found.rows.tolist() == alone.rows.tolist()


def test_queries_beyond_float16_find_the_same(gpus: Gpus, few_ties: DomainTables) -> None:
    engine = engine_of(few_ties, HalfSpec(), gpus)
    assert isinstance(engine, Proposer)
    vectors = some_vectors(9)
    usual = engine.propose(vectors, 64, effort=1)
    for power in (-40, 40):
        assert engine.propose(np.ldexp(vectors, power), 64, effort=1).tolist() == usual.tolist()


def test_more_rows_than_a_gpu_finds_are_answered_from_all_products(gpus: Gpus) -> None:
    tables = tables_of("films", clustered(13_000, 3, np.random.default_rng(4)))
    spec = IvfSpec(lists=LISTS, probes=2)
    engine = engine_of(tables, spec, gpus)
    assert isinstance(engine, Proposer)
    vectors = tables.item_table[[5, 900]]
    assert engine.propose(vectors, faiss_gpu.MOST, effort=4).any()
    query = Query(vectors[0], k=2100)
    (found,) = DomainIndex(tables, "ivf", engine, {}).search([query])
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)


def test_faiss_itself_refuses_what_the_limit_keeps_from_it(
    gpus: Gpus, few_ties: DomainTables
) -> None:
    exact = copy_to_gpus(build_index(FlatSpec(), few_ties.item_table[1:]), gpus.numbers)
    exact.index.search(some_vectors(1), faiss_gpu.MOST)
    with pytest.raises(RuntimeError, match="up to 2048"):
        exact.index.search(some_vectors(1), faiss_gpu.MOST + 1)


def test_two_indexes_on_gpus_answer_in_turns(gpus: Gpus) -> None:
    domains = [
        tables_of(name, clustered(items, 16, np.random.default_rng(items)))
        for name, items in (("films", 2000), ("books", 70))
    ]
    indexes = [index_of(each, faiss_engine(each, gpus)) for each in domains]
    for row in range(1, 20):
        for tables, index in zip(domains, indexes, strict=True):
            query = Query(tables.item_table[row], k=15)
            (found,) = index.search([query])
            assert found.rows.tolist() == slow_answer(tables, query)[0]


@pytest.mark.parametrize("kind", ["flat", "flat-f16", "ivf", "ivf-int8", "hnsw"])
def test_a_release_is_tried_and_read_on_gpus(
    kind: str, gpus: Gpus, bundle: Bundle, tmp_path: Path
) -> None:
    use = "first" if len(gpus.numbers) == 1 else "shards" if gpus.shards else "replicas"
    settings = IndexSettings.model_validate({"kind": kind, "device": "cuda", "gpus": use})
    built = build(bundle, Store(tmp_path / "root"), settings=settings, advance=silent)
    on_gpus, on_cpu = Release.read(built.folder, device=gpus), Release.read(built.folder)
    for name, index in on_cpu.indexes.items():
        queries = [Query(vector, k=10) for vector in index.item_table[1:40]]
        found = on_gpus.indexes[name].search(queries)
        same = [
            len(np.intersect1d(a.rows, b.rows))
            for a, b in zip(found, index.search(queries), strict=True)
        ]
        assert np.mean(same) >= (10 if kind == "flat" else 9.8)


def test_what_has_no_place_on_a_gpu_is_searched_on_the_cpu_there(
    gpus: Gpus, few_ties: DomainTables
) -> None:
    spec = IvfSpec(lists=2500, probes=2100)
    engine = engine_of(few_ties, spec, gpus)
    assert isinstance(engine, ApproximateEngine)
    queries = [Query(vector, k=20) for vector in some_vectors(5)]
    found = DomainIndex(few_ties, "ivf", engine, {}).search(queries)
    for ours, theirs in zip(found, index_of_kind(few_ties, spec).search(queries), strict=True):
        assert ours.rows.tolist() == theirs.rows.tolist()
