"""A comparison as bars, an overlap study as lines; matplotlib is an extra."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_BASELINE, _OURS = "#8da0b3", "#c8553d"
_SHOWN = {"all": "all users", "shared": "shared", "cold": "cold start"}


def plot_comparison(report: Mapping[str, Any], out: Path) -> Path | None:
    """Draw NDCG@10 of all systems, a row a domain, a column a slice and ranking.

    Returns:
        The picture, or nothing where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    systems = report["systems"]
    columns = [("all", "full"), ("shared", "full"), ("cold", "full"), ("all", "sampled")]
    height = 1 + 0.3 * len(systems)
    figure = Figure(figsize=(16, height * len(report["domains"])), layout="constrained")
    grid = figure.subplots(len(report["domains"]), len(columns), squeeze=False, sharey=True)
    for axes_row, (domain, parts) in zip(grid, report["domains"].items(), strict=True):
        for axes, (part, ranking) in zip(axes_row, columns, strict=True):
            _bars(
                axes,
                systems,
                {name: each[ranking] for name, each in parts[part]["systems"].items()},
            )
            axes.set(title=f"{domain}, {_SHOWN[part]}, {ranking}", xlabel="NDCG@10, %")
    grid[0, 0].invert_yaxis()  # all share it: the first system on top
    path = out / "report.png"
    figure.savefig(path, dpi=110)
    return path


def _bars(axes: Any, systems: Mapping[str, Any], figures: Mapping[str, Any]) -> None:  # noqa: ANN401  # matplotlib is an extra, its types with it
    found = [figures[name]["ndcg@10"] for name in systems]
    axes.barh(
        [about["title"] for about in systems.values()],
        [100 * (each["mean"] or 0) for each in found],
        xerr=[100 * (each["deviation"] or 0) for each in found],
        color=[_OURS if about["ours"] else _BASELINE for about in systems.values()],
    )
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _per_cent(share: float | None) -> float:
    """Give a point to draw; what was asked of nobody is a gap."""
    return math.nan if share is None else 100 * share


def plot_overlap(study: Mapping[str, Any], out: Path) -> Path | None:
    """Draw NDCG@10 of all users and of cold starts against the share of users that stay shared.

    Returns:
        The picture, or nothing where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    domains = study["domains"]
    columns = [("all", "full"), ("all", "sampled"), ("cold", "sampled")]
    figure = Figure(figsize=(16, 4 * len(domains)), layout="constrained")
    grid = figure.subplots(len(domains), len(columns), squeeze=False)
    for axes_row, (domain, systems) in zip(grid, domains.items(), strict=True):
        for axes, (part, ranking) in zip(axes_row, columns, strict=True):
            for title, points in systems.items():
                figures = [point[part][ranking]["ndcg@10"] for point in points.values()]
                axes.errorbar(
                    [int(percent) for percent in points],
                    [_per_cent(each["mean"]) for each in figures],
                    yerr=[100 * (each["deviation"] or 0) for each in figures],
                    marker="o",
                    capsize=3,
                    label=title,
                )
            axes.set(
                title=f"{domain}, {_SHOWN[part]}, {ranking}",
                xlabel="shared users kept, %",
                ylabel="NDCG@10, %",
            )
            axes.grid(alpha=0.3)
    named = grid[0, 0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=4)
    path = out / "overlap.png"
    figure.savefig(path, dpi=110)
    return path
