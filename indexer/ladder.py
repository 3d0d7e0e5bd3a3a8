"""The specs of one kind that tuning tries, from the cheapest search to the dearest.

All of them describe the same index: only how it is searched differs. A search parameter that the
settings name is not tuned.
"""

import math
from collections.abc import Iterator

from indexer.spec import (
    ApproximateKind,
    ApproximateSpec,
    ByteSpec,
    HalfSpec,
    HnswSpec,
    IndexSettings,
    IvfPqSpec,
    IvfSpec,
)

_LISTS_PER_ROOT = 4  # lists, as a multiple of the square root of the number of items
_RERANKS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16)
_EFFORTS = (16, 1024)
_FIRST_PROBES = 4
_LEAST_SHARE = 1 / 2
"""Of the lists: a search of more of them is no quicker than exact search."""
_CODE_RERANKS = (8, 256)


def ladder(kind: ApproximateKind, settings: IndexSettings, items: int) -> list[ApproximateSpec]:
    """List the specs to try for a kind and a number of items, at least one."""
    match kind:
        case "flat-f16":
            fixed = settings.flat_f16.rerank
            return [HalfSpec(rerank=each) for each in ([fixed] if fixed else _RERANKS)]
        case "flat-int8":
            fixed = settings.flat_int8.rerank
            return [ByteSpec(rerank=each) for each in ([fixed] if fixed else _RERANKS)]
        case "hnsw":
            return _hnsw(settings)
        case "ivf":
            ivf = settings.ivf
            lists = _lists(ivf.lists, items)
            probes = [ivf.probes] if ivf.probes else _probes(lists)
            return [IvfSpec(lists=lists, probes=each) for each in probes]
        case "ivf-pq":
            return _ivf_pq(settings, items)


def _hnsw(settings: IndexSettings) -> list[ApproximateSpec]:
    hnsw = settings.hnsw
    efforts = [hnsw.effort] if hnsw.effort else [*_geometric(*_EFFORTS)]
    structure = HnswSpec(
        links=hnsw.links, build_effort=hnsw.build_effort, build_threads=hnsw.build_threads
    )
    return [structure.model_copy(update={"effort": each}) for each in efforts]


def _ivf_pq(settings: IndexSettings, items: int) -> list[ApproximateSpec]:
    """Let probes and re-ranking rise together: either alone reaches a limit."""
    options = settings.ivf_pq
    lists = _lists(options.lists, items)
    probes = [options.probes] if options.probes else _probes(lists)
    reranks = [options.rerank] if options.rerank else [*_geometric(*_CODE_RERANKS)]
    steps = max(len(probes), len(reranks))
    return [
        IvfPqSpec(
            lists=lists,
            group=options.group,
            probes=probes[min(step, len(probes) - 1)],
            rerank=reranks[min(step, len(reranks) - 1)],
        )
        for step in range(steps)
    ]


def _lists(wanted: int | None, items: int) -> int:
    return min(wanted or round(_LISTS_PER_ROOT * math.sqrt(items)), items)


def _probes(lists: int) -> list[int]:
    most = max(_FIRST_PROBES, math.ceil(lists * _LEAST_SHARE))
    return [min(each, lists) for each in _geometric(_FIRST_PROBES, most)]


def _geometric(first: int, last: int) -> Iterator[int]:
    """Rise from the first to the last number, at least, by the root of 2 a step."""
    step = 0
    while (each := round(first * 2 ** (step / 2))) < last:
        yield each
        step += 1
    yield last
