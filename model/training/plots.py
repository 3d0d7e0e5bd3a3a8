"""The pictures of a training: its curves, like the paper's Figure 2, and its GURs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from model.arrays import Floats
from model.training.alignment import GURS
from model.training.bridging import KEPT
from model.training.record import read_metrics
from model.training.selection import VALIDATED

PLOT = "training.png"
ALIGNMENT_PLOT = "alignment.png"
_DRAWN_USERS = 1500
_FEW_POINTS = 20  # more run into each other
_NATS = "cross entropy, nats"
_IN_A_ROW = 3
_WORDS = {
    "critic_loss": "critic loss",
    "wasserstein": "Wasserstein distance",
    "shared": "both domains",
    VALIDATED: "both domains",
    f"-{KEPT}": "users kept back",
}
"""What legends say of figures that are of no domain."""
_TUNING = "fine-tuning"

Line = dict[str, Any]
"""One of a run's metrics: a phase, a step, and figures by name."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over steps, equally many of both."""

    name: str
    steps: list[int]
    values: list[float]
    kept: int | None = None
    """The step of the weights that are kept, where the figure chooses them."""

    @property
    def label(self) -> str:
        """What the legend says."""
        kind, _, domain = self.name.partition("/")
        if not domain:
            return _WORDS.get(kind, kind)
        return f"{domain}, cold starts" if kind == "cold" else domain


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of several beside each other."""

    title: str
    unit: str
    curves: list[Curve]
    turning: int | None = None
    """The step at which the next phase begins."""


def training_panels(lines: Sequence[Line]) -> list[Panel]:
    """Say what there is to draw of a training, from its metrics: panels that have a curve."""
    pre_training, adversarial = _of(lines, "pre-training"), _of(lines, "adversarial")
    joint = _of(lines, _TUNING)
    with_critic = _joined([adversarial, joint])
    critic = [*_curves(with_critic, "critic_loss"), *_curves(with_critic, "wasserstein")]
    rebuilt = _curves(_joined([pre_training, adversarial, joint]), "reconstruction/")
    turning = pre_training[-1]["step"] if pre_training and adversarial else None
    ranked = [*_of_domains(lines, "loss"), *_of_domains(lines, "cold/")]
    tied = [curve for curve in _curves(joint, "shared") if curve.name == "shared"]
    bridging = _of(lines, "bridging")
    bridged = [*_curves(bridging, "loss/"), *map(_negative, map(_chosen, _curves(bridging, KEPT)))]
    validated = [_chosen(curve) for curve in _of_domains(lines, VALIDATED)]
    panels = [
        Panel("Critic, all phases that train it", "distance", critic),
        Panel("Reconstruction", _NATS, rebuilt, turning),
        Panel("Fine-tuning: next items, cold starts", _NATS, ranked),
        Panel("Fine-tuning: shared users' GURs", "loss", tied),
        Panel("Fine-tuning: validation", "NDCG@10, full ranking", validated),
        Panel("Bridges: latest rows of shared users", _NATS, bridged),
    ]
    return [panel for panel in panels if panel.curves]


def plot_training(run: Path) -> Path | None:
    """Draw `run/training.png` from the run's metrics; none where matplotlib is not installed."""
    panels = training_panels(read_metrics(run))
    if find_spec("matplotlib") is None or not panels:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    rows = -(-len(panels) // _IN_A_ROW)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for curve in panel.curves:
            marker = "o" if len(curve.steps) <= _FEW_POINTS else ""
            axes.plot(curve.steps, curve.values, marker=marker, label=curve.label)
            if curve.kept is not None:
                axes.axvline(curve.kept, color="grey", linestyle="--", label=f"kept: {curve.label}")
        if panel.turning is not None:
            axes.axvline(panel.turning, color="grey", linestyle=":", label="adversarial from here")
        axes.set(title=panel.title, xlabel="step", ylabel=panel.unit)
        axes.grid(alpha=0.3)
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


def _of(lines: Sequence[Line], phase: str) -> list[Line]:
    return [line for line in lines if line["phase"] == phase]


def _joined(phases: Sequence[Sequence[Line]]) -> list[Line]:
    joined: list[Line] = []
    for lines in phases:
        before = joined[-1]["step"] if joined else 0
        joined += [{**line, "step": line["step"] + before} for line in lines]
    return joined


def _curves(lines: Sequence[Line], prefix: str) -> list[Curve]:
    """Give a curve of each figure whose name starts so, by name."""
    names = sorted({name for line in lines for name in line if name.startswith(prefix)})
    found = []
    for name in names:
        points = [line for line in lines if name in line]
        steps, values = [line["step"] for line in points], [line[name] for line in points]
        found.append(Curve(name, steps, values))
    return found


def _of_domains(lines: Sequence[Line], prefix: str) -> list[Curve]:
    """Give the curves of fine-tuning, be it a phase for both domains or one for each."""
    phases = [name for name in dict.fromkeys(line["phase"] for line in lines) if _is_tuning(name)]
    return [
        replace(curve, name="/".join([curve.name, *phase.split("/")[1:]]))
        for phase in phases
        for curve in _curves(_of(lines, phase), prefix)
    ]


def _is_tuning(phase: str) -> bool:
    return phase.partition("/")[0] == _TUNING


def _negative(curve: Curve) -> Curve:
    values = [-value for value in curve.values]
    return replace(curve, name=f"-{curve.name}", values=values)


def _chosen(curve: Curve) -> Curve:
    """Mark the step at which a figure that is to be high was highest first."""
    return replace(curve, kept=curve.steps[int(np.argmax(curve.values))])
