"""The figures of `recguru indexer measure`, for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def report_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Lay out what was measured of a release, and of other kinds where those were tried."""
    settings = figures["settings"]
    yield f"release {figures['release']}"
    for name, domain in figures["domains"].items():
        recall = ", ".join(f"{k} {share:.4f}" for k, share in domain["recall"].items())
        yield f"{name}: {domain['items']:,} items x {domain['width']}, index {domain['kind']}"
        yield f"  {domain['queries']:,} queries: {domain['queries_are']}"
        size = domain["bytes_per_item"]
        kept = "kept outside the release" if size is None else f"{size:,.0f} bytes an item"
        yield f"  recall {recall}; {kept}"
        together = min(settings["batch"], domain["queries"])
        for way, asked in (("single", "1 query"), ("batched", f"{together:,} queries")):
            took = domain[way]
            yield (
                f"  {way} search ({asked}): p50 {took['p50_ms']:.3f} ms, "
                f"p95 {took['p95_ms']:.3f} ms, p99 {took['p99_ms']:.3f} ms, "
                f"{took['queries_per_s']:,.0f} queries/s"
            )
        if name in figures.get("sweeps", {}):
            yield from sweep_lines(figures["sweeps"][name], k=settings["k"][0])


def sweep_lines(kinds: Sequence[Mapping[str, Any]], *, k: int) -> Iterator[str]:
    """Lay out a sweep as one table: a line for each kind, number of threads and search."""
    recall = f"recall@{k}"
    yield (
        f"  {'kind':10} {'build s':>8} {'bytes/item':>10} {'threads':>7}  {'search':30} {recall:>9}"
        f" {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'queries/s':>10} {'in batches':>10}"
    )
    for each in kinds:
        for point in each["points"]:
            parameters = ", ".join(f"{key} {value:g}" for key, value in point["parameters"].items())
            single = point["single"]
            yield (
                f"  {each['kind']:10} {each['build_s']:8.1f} {each['bytes_per_item']:10.0f} "
                f"{point['threads']:7}  {parameters or '-':30} {point['recall']:9.4f} "
                f"{single['p50_ms']:8.3f} {single['p95_ms']:8.3f} {single['p99_ms']:8.3f} "
                f"{single['queries_per_s']:10,.0f} {point['batched']['queries_per_s']:10,.0f}"
            )
