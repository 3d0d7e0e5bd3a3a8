"""The pictures of a training: its curves, like the paper's Figure 2, and its GURs."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from model.bundle import Floats
from model.training.alignment import GURS
from model.training.record import read_metrics

PLOT = "training.png"
ALIGNMENT_PLOT = "alignment.png"
_DRAWN_USERS = 1500


def plot_training(run: Path) -> Path | None:
    """Draw `run/training.png` from the run's metrics; none where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    lines = read_metrics(run)
    figure = Figure(figsize=(14, 4), layout="constrained")
    critic, rebuilt, ranked = figure.subplots(1, 3)
    adversarial = [_of(lines, "adversarial"), _of(lines, "fine-tuning")]
    _curves(critic, _joined(adversarial), ["critic_loss", "wasserstein"])
    critic.set(title="Critic, all phases that train it", xlabel="step", ylabel="value")
    phases = [_of(lines, "pre-training"), _of(lines, "adversarial")]
    _curves(rebuilt, _joined(phases), _names(lines, "reconstruction/"))
    if phases[0] and phases[1]:
        rebuilt.axvline(
            phases[0][-1]["step"], color="grey", linestyle=":", label="adversarial from here"
        )
    rebuilt.set(title="Reconstruction", xlabel="step", ylabel="cross entropy, nats")
    for phase in sorted({line["phase"] for line in lines if "validation_ndcg@10" in line}):
        points = [line for line in _of(lines, phase) if "validation_ndcg@10" in line]
        steps = [point["step"] for point in points]
        values = [point["validation_ndcg@10"] for point in points]
        ranked.plot(steps, values, marker="o", label=phase.partition("/")[2] or "both domains")
    ranked.set(title="Fine-tuning: validation", xlabel="step", ylabel="NDCG@10, full ranking")
    for axes in (critic, rebuilt, ranked):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    path = run / PLOT
    figure.savefig(path, dpi=120)
    return path


def plot_alignment(run: Path) -> Path | None:
    """Draw `run/alignment.png`: GURs of both domains as the first and the last phase left them.

    Each picture shows the plane in which its GURs are spread most (two principal components). None
    where matplotlib is not installed or no GURs were kept.
    """
    judged = [line for line in read_metrics(run) if "domain_accuracy" in line]
    if find_spec("matplotlib") is None or not judged:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    chosen = judged if len(judged) == 1 else [judged[0], judged[-1]]
    figure = Figure(figsize=(6 * len(chosen), 5.5), layout="constrained")
    for axes, line in zip(np.ravel(figure.subplots(1, len(chosen))), chosen, strict=True):
        gurs = load_file(run / GURS.format(phase=line["phase"]))
        for name, points in zip(gurs, planar(list(gurs.values())), strict=True):
            axes.scatter(*points[:_DRAWN_USERS].T, s=4, alpha=0.5, label=name)
        accuracy = 100 * line["domain_accuracy"]
        axes.set(
            title=f"{line['step']} steps of {line['phase']}: {accuracy:.0f} % told apart",
            xlabel="first principal component",
            ylabel="second principal component",
        )
        axes.legend(markerscale=4)
    path = run / ALIGNMENT_PLOT
    figure.savefig(path, dpi=120)
    return path


def planar(gurs: Sequence[Floats]) -> list[Floats]:
    """Project GURs, (B, D) of each domain, onto their two principal components -> (B, 2) each."""
    together = np.concatenate(gurs)
    middle = together.mean(axis=0)
    components = np.linalg.svd(together - middle, full_matrices=False)[2][:2]
    return [(each - middle) @ components.T for each in gurs]


def _of(lines: Sequence[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["phase"] == phase]


def _joined(phases: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for lines in phases:
        before = joined[-1]["step"] if joined else 0
        joined += [{**line, "step": line["step"] + before} for line in lines]
    return joined


def _names(lines: Sequence[dict[str, Any]], prefix: str) -> list[str]:
    return sorted({name for line in lines for name in line if name.startswith(prefix)})


def _curves(axes: Any, lines: Sequence[dict[str, Any]], names: Sequence[str]) -> None:  # noqa: ANN401  # matplotlib is an extra, its types with it
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot([step for step, _ in points], [value for _, value in points], label=name)
