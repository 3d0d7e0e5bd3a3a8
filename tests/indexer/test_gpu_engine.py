"""What can be tried of search on GPUs without one: an index on the CPU stands for the copy.

FAISS's own classes of shards and replicas hold it here as they hold indexes on GPUs. What FAISS
itself does on a GPU is tried by `test_on_gpu`. Shapes: B queries, V items, D width.
"""

import logging
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import pytest

from indexer import faiss_gpu
from indexer.bitmaps import Bitmap
from indexer.builders import build_index
from indexer.device import DeviceTable
from indexer.engine import ApproximateEngine, Engine, Proposer, Selective, open_engine
from indexer.faiss_api import FaissIndex
from indexer.faiss_gpu import GpuCopy, decoded
from indexer.gpu_engine import GpuEngine, GpuProposer, evened, why_not_on_gpu
from indexer.placement import Gpus
from indexer.search import DomainIndex, Query
from indexer.spec import (
    ByteSpec,
    FlatSpec,
    HalfSpec,
    HnswSpec,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
)
from model.bundle import DomainTables
from tests.indexer.index_making import (
    clustered,
    index_of,
    index_of_kind,
    slow_answer,
    tables_of,
)
from tests.indexer.parity import EVERY, WIDTH, all_questions, assert_exact, tables_with_ties

_faiss: Any = faiss  # its types know only a part of it

LISTS = 20

WHOLE: dict[str, HalfSpec | IvfSpec | IvfByteSpec] = {
    "flat-f16": HalfSpec(rerank=4),
    "ivf": IvfSpec(lists=LISTS, probes=LISTS, rerank=2),
    "ivf-int8": IvfByteSpec(lists=LISTS, probes=LISTS, rerank=4),
}
"""Searches that leave nothing out: what they find is exact."""


@pytest.fixture(scope="module")
def tables() -> DomainTables:
    return tables_with_ties(5)


def proposer(tables: DomainTables, spec: HalfSpec | IvfSpec | IvfByteSpec) -> GpuProposer:
    """Search an index of a domain as if it were on a GPU."""
    index = build_index(spec, tables.item_table[1:])
    copy = GpuCopy(decoded(index) if isinstance(spec, HalfSpec) else index)
    return GpuProposer(copy, spec, DeviceTable(tables.item_table, ["cpu"]))


def domain_index(tables: DomainTables, engine: Engine | Proposer) -> DomainIndex:
    return DomainIndex(tables, "ivf", engine, {})


def as_shards(index: Any) -> FaissIndex:  # noqa: ANN401  # see _faiss
    """Part an index with lists in two, as FAISS does between GPUs: ids stay what they were."""
    shards: Any = _faiss.IndexShards(index.d, True, False)
    for number in range(2):
        part = _faiss.clone_index(index)
        part.reset()
        index.copy_subset_to(part, _faiss.InvertedLists.SUBSET_TYPE_ID_MOD, 2, number)
        shards.add_shard(part)
        part.this.disown()
    shards.own_indices = True
    held: FaissIndex = shards
    return held


def as_replicas(index: FaissIndex) -> FaissIndex:
    """Copy an index twice, as FAISS does to GPUs."""
    replicas = _faiss.IndexReplicas()
    for _ in range(2):
        replica = _faiss.clone_index(index)
        replicas.add_replica(replica)
        replica.this.disown()
    replicas.own_indices = True
    held: FaissIndex = replicas
    return held


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_proposed_is_scored_again_and_sets_are_gathered_exactly(
    kind: str, tables: DomainTables
) -> None:
    engine = proposer(tables, WHOLE[kind])
    assert isinstance(engine, Proposer)
    assert not isinstance(engine, Selective), "FAISS ignores selectors on a GPU"
    assert_exact(domain_index(tables, engine), tables, all_questions(tables)[::EVERY])


@pytest.mark.parametrize("held", [as_shards, as_replicas, lambda index: index])
@pytest.mark.parametrize(
    "spec", [IvfSpec(lists=LISTS, probes=3), IvfByteSpec(lists=LISTS, probes=3)]
)
def test_each_part_looks_through_the_lists_that_the_spec_says(
    held: Callable[[FaissIndex], FaissIndex], spec: IvfSpec | IvfByteSpec, tables: DomainTables
) -> None:
    vectors = np.random.default_rng(3).standard_normal((11, WIDTH)).astype(np.float32)
    index = build_index(spec, tables.item_table[1:])
    table = DeviceTable(tables.item_table, ["cpu", "cpu"])
    on_gpus = GpuProposer(GpuCopy(held(index)), spec, table)
    on_cpu = ApproximateEngine(index, spec, tables.item_table, threads=1)
    for effort in (1, 4, 1):
        found = on_gpus.propose(vectors, 400, effort=effort)
        expected = on_cpu.propose(vectors, 400, effort=effort)
        assert np.sort(found, axis=1).tolist() == np.sort(expected, axis=1).tolist()


def test_shards_of_an_exact_index_are_one_index(tables: DomainTables) -> None:
    vectors = tables.item_table[1:]
    shards = _faiss.IndexShards(WIDTH, True, True)
    parts = [build_index(FlatSpec(), part) for part in (vectors[:1999], vectors[1999:])]
    for part in parts:
        shards.add_shard(part)
    engine = GpuEngine(GpuCopy(shards), DeviceTable(tables.item_table, ["cpu", "cpu"]))
    assert_exact(index_of(tables, engine), tables, all_questions(tables)[::EVERY])


def test_more_rows_than_a_gpu_finds_are_answered_from_all_products() -> None:
    tables = tables_of("films", clustered(13_000, 3, np.random.default_rng(4)))
    engine = proposer(tables, IvfSpec(lists=LISTS, probes=2))
    vectors = tables.item_table[[5, 900]]
    assert engine.propose(vectors, faiss_gpu.MOST, effort=4).any()
    assert engine.propose(vectors, faiss_gpu.MOST + 1, effort=4).tolist() == [[0] * 2049] * 2
    query = Query(vectors[0], k=2100)
    (found,) = domain_index(tables, engine).search([query])
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)


def test_more_lists_than_a_gpu_takes_are_not_looked_through(tables: DomainTables) -> None:
    engine = proposer(tables, IvfSpec(lists=LISTS, probes=2))
    many = GpuProposer(
        GpuCopy(build_index(IvfSpec(lists=LISTS), tables.item_table[1:])),
        IvfSpec(lists=5000, probes=600),
        DeviceTable(tables.item_table, ["cpu"]),
    )
    vectors = tables.item_table[[5, 900]]
    assert many.propose(vectors, 10, effort=1).all()
    assert not many.propose(vectors, 10, effort=4).any()
    assert engine.propose(vectors, 10, effort=4).all()


def test_a_search_that_finds_too_little_even_with_effort_is_answered_exactly() -> None:
    tables = tables_of("films", clustered(900, 4, np.random.default_rng(5)))
    query = Query(tables.item_table[3], k=60)
    index = domain_index(tables, proposer(tables, IvfSpec(lists=300, probes=1)))
    (found,) = index.search([query])
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)


def test_a_broad_filter_is_answered_exactly_where_nothing_can_be_selected() -> None:
    tables = tables_of("films", clustered(900, 4, np.random.default_rng(6)))
    broad = Bitmap.of(np.arange(2, 880, dtype=np.int32), 900)
    query = Query(-tables.item_table[3], k=12, candidates=broad)
    (found,) = domain_index(tables, proposer(tables, IvfSpec(lists=30, probes=1))).search([query])
    assert (found.rows.tolist(), found.scores.tolist()) == slow_answer(tables, query)


def test_queries_for_float16_are_brought_into_its_range_without_a_change_of_order() -> None:
    vectors = np.array([[3e30, -1e30, 0], [1e-30, 2e-30, 5e-31], [0, 0, 0]], np.float32)
    scaled = evened(vectors)
    largest = np.abs(scaled).max(axis=1)
    assert ((largest[:2] >= 0.5) & (largest[:2] < 1)).all()
    assert scaled[2].tolist() == [0, 0, 0]
    ratios = scaled[:2, :2] / vectors[:2, :2]
    assert (np.frexp(ratios)[0] == 0.5).all(), "powers of two"
    assert (ratios[:, 0] == ratios[:, 1]).all()


def test_float16_vectors_are_decoded_to_the_numbers_they_hold(
    tables: DomainTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_gpu, "_DECODED", 1700)
    index: Any = build_index(HalfSpec(), tables.item_table[1:])
    held = _faiss.vector_to_array(index.codes).view(np.float16).reshape(-1, WIDTH)
    flat = decoded(index)
    assert flat.ntotal == len(held)
    assert flat.reconstruct_n(0, flat.ntotal).tolist() == held.tolist()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (FlatSpec(), None),
        (HalfSpec(), None),
        (IvfSpec(lists=9000, probes=2048), None),
        (IvfByteSpec(lists=9000, probes=2048), None),
        (
            IvfSpec(lists=9000, probes=2049),
            "it looks through 2,049 lists, of which a GPU takes 2,048",
        ),
        (ByteSpec(), "FAISS has none of this kind on a GPU"),
        (HnswSpec(), "FAISS has none of this kind on a GPU"),
        (IvfPqSpec(lists=9), "FAISS has none of this kind on a GPU"),
    ],
)
def test_what_can_be_searched_on_a_gpu_is_known(spec: IndexSpec, reason: str | None) -> None:
    assert why_not_on_gpu(spec) == reason


def test_what_cannot_is_searched_on_the_cpu_and_a_line_says_so(
    tables: DomainTables, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ByteSpec(rerank=4)
    index = build_index(spec, tables.item_table[1:])
    engine = open_engine(Gpus(), spec, index, tables.item_table, threads=1)
    assert [record.getMessage() for record in caplog.records] == [
        "an index of kind flat-int8 is searched on the CPU: FAISS has none of this kind on a GPU"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    query = Query(tables.item_table[40], k=9)
    (found,) = domain_index(tables, engine).search([query])
    (expected,) = index_of_kind(tables, spec).search([query])
    assert found.rows.tolist() == expected.rows.tolist()
