"""A dataset's report as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from model.data.report import QUANTILES

_COUNTS = ("users", "items", "interactions")
_CUTS = ("min", *(f"p{quantile}" for quantile in QUANTILES), "max")


def print_report(report: Mapping[str, Any]) -> None:
    """Print a report as tables for people, on standard output."""
    console = Console()
    console.print(_statistics(report), _lengths(report))
    for name, domain in report["domains"].items():
        console.print(_steps(name, domain["steps"]))
    lines = [*(f"note: {note}" for note in report["notes"]), f"digest: {report['digest']}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _statistics(report: Mapping[str, Any]) -> Table:
    table = _table("domains", ["domain"], [*_COUNTS, "mean length", "shared users"])
    for name, domain in report["domains"].items():
        table.add_row(
            name,
            *(f"{domain[count]:,}" for count in _COUNTS),
            f"{domain['length']['mean']:.2f}",
            f"{domain['shared_users']:,} ({domain['shared_share']:.1%})",
        )
    return table


def _lengths(report: Mapping[str, Any]) -> Table:
    table = _table("interactions a user", ["domain"], _CUTS)
    for name, domain in report["domains"].items():
        table.add_row(name, *(f"{domain['length'][cut]:,}" for cut in _CUTS))
    return table


def _steps(name: str, steps: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(f"{name}: removed by each step", ["step", "keeps"], [*_COUNTS, "left"])
    for step in steps:
        removed = (f"{step['removed'][count]:,}" for count in _COUNTS)
        table.add_row(step["name"], step["rule"], *removed, f"{step['left']['interactions']:,}")
    return table


def _table(title: str, words: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right")
    return table
