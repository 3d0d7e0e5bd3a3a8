"""The specs of one kind that tuning tries, from the cheapest search to the dearest.

All of them describe the same index: only how it is searched differs. A search parameter that the
settings name is not tuned.
"""

import math
from collections.abc import Iterator, Sequence

from indexer.spec import (
    ApproximateKind,
    ApproximateSpec,
    ByteSpec,
    HalfSpec,
    HnswSpec,
    IndexSettings,
    IvfByteSpec,
    IvfCodesOptions,
    IvfPqSpec,
    IvfSpec,
)

_LISTS_PER_ROOT = 4  # lists, as a multiple of the square root of the number of items
_RERANKS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16)
_BYTE_RERANKS = (1.5, 2, 3, 4)  # of bytes in lists, which are nearly right
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
        case "ivf-int8":
            lists, steps = _together(settings.ivf_int8, items, _BYTE_RERANKS)
            return [IvfByteSpec(lists=lists, probes=each, rerank=rerank) for each, rerank in steps]
        case "ivf-pq":
            lists, steps = _together(settings.ivf_pq, items, [*_geometric(*_CODE_RERANKS)])
            group = settings.ivf_pq.group
            return [
                IvfPqSpec(lists=lists, group=group, probes=each, rerank=rerank)
                for each, rerank in steps
            ]


def _hnsw(settings: IndexSettings) -> list[ApproximateSpec]:
    hnsw = settings.hnsw
    structure = HnswSpec(
        links=hnsw.links, build_effort=hnsw.build_effort, build_threads=hnsw.build_threads
    )
    return [structure.model_copy(update={"effort": each}) for each in efforts(hnsw.effort)]


def efforts(fixed: int | None) -> list[int]:
    """List the efforts to try where links are followed: the one that is fixed, or ever more."""
    return [fixed] if fixed else [*_geometric(*_EFFORTS)]


def _together(
    options: IvfCodesOptions, items: int, reranks: Sequence[float]
) -> tuple[int, list[tuple[int, float]]]:
    """Count lists; let probes and re-ranking rise together, since either alone reaches a limit."""
    lists = _lists(options.lists, items)
    probes = [options.probes] if options.probes else _probes(lists)
    reranks = [options.rerank] if options.rerank else reranks
    steps = max(len(probes), len(reranks))
    return lists, [
        (probes[min(step, len(probes) - 1)], reranks[min(step, len(reranks) - 1)])
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
