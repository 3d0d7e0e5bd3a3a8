"""Recall against speed, kind by kind; matplotlib is an extra."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.errors import BadSettingError
from model.files import check_place

_SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: Path) -> None:
    """Find out whether a picture can be written there, before what it shows is measured.

    Raises:
        BadSettingError: If it cannot.
    """
    if find_spec("matplotlib") is None:
        raise BadSettingError("pictures need matplotlib: pip install 'recguru-service[plots]'")
    if path.suffix.lower() not in _SUFFIXES:
        raise BadSettingError(f"picture {path}: its name must end in {', '.join(_SUFFIXES)}")
    check_place(path)


def plot_sweeps(sweeps: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw what `indexer.measure.sweeps` found: a row a domain, a column a number of threads."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    threads = sorted(
        {
            point["threads"]
            for kinds in sweeps.values()
            for each in kinds
            for point in each["points"]
        }
    )
    size = (7 * len(threads), 4.5 * len(sweeps))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(sweeps), len(threads), squeeze=False)
    for axes_row, (domain, kinds) in zip(grid, sweeps.items(), strict=True):
        for axes, count in zip(axes_row, threads, strict=True):
            for each in kinds:
                points = [point for point in each["points"] if point["threads"] == count]
                axes.plot(
                    [point["recall"] for point in points],
                    [point["single"]["queries_per_s"] for point in points],
                    marker="o",
                    label=each["kind"],
                )
            axes.set(
                title=f"{domain}, {count} thread{'s' if count > 1 else ''}",
                xlabel="recall",
                ylabel="queries/s, one at a time",
                yscale="log",
            )
            axes.grid(alpha=0.3)
            axes.legend()
    figure.savefig(path, dpi=120)
