"""The figure of a training, like the paper's Figure 2: critic, reconstruction, validation."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.training.record import read_metrics

PLOT = "training.png"


def plot_training(run: Path) -> Path | None:
    """Draw `run/training.png` from the run's metrics; none where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    lines = read_metrics(run)
    figure = Figure(figsize=(14, 4), layout="constrained")
    critic, rebuilt, ranked = figure.subplots(1, 3)
    _curves(critic, _of(lines, "adversarial"), ["critic_loss", "wasserstein"])
    critic.set(title="Adversarial phase: critic", xlabel="iteration", ylabel="value")
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
        ranked.plot(steps, values, marker="o", label=phase.partition("/")[2])
    ranked.set(title="Fine-tuning: validation", xlabel="step", ylabel="NDCG@10, full ranking")
    for axes in (critic, rebuilt, ranked):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    path = run / PLOT
    figure.savefig(path, dpi=120)
    return path


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
