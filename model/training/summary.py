"""What a training came to, as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.training.bridging import KEPT
from model.training.selection import VALIDATED

SUMMARY = "summary.txt"


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training."""

    bundle: Path
    digest: str
    """The bundle's."""
    summary: Mapping[str, Mapping[str, float]]
    """By phase: steps, seconds and, where it validates, its best validation figure."""
    minutes: float
    """Minutes this process trained; less than the phases' together after a resume."""


def _alignment(figures: Mapping[str, float]) -> str:
    told = (
        f"    GURs: a fresh classifier names the domain of {100 * figures['domain_accuracy']:.0f} %"
    )
    ranks = [
        f"{figures[f'{kind}_rank']:.0f} of {figures[f'{kind}_looked_up']:.0f} {word}"
        for kind, word in (("shared", "tied users"), ("untied", "users not known as shared"))
        if figures[f"{kind}_looked_up"]
    ]
    return f"{told}; a shared user's other GUR is at rank {', '.join(ranks)}" if ranks else told


def summary_text(trained: Trained) -> str:
    """Spell a training as a line per phase, then the bundle."""
    lines = [f"{'phase':<24}{'steps':>8}{'seconds':>10}  validation NDCG@10 (full ranking)"]
    for name, figures in trained.summary.items():
        best = figures.get(VALIDATED)
        text = f"{name:<24}{figures['steps']:>8.0f}{figures['seconds']:>10.1f}"
        if best is not None:
            text += f"  {100 * best:.2f} %"
        if KEPT in figures:
            text += f"  {figures[KEPT]:.3f} nats, log-likelihood of what users kept back took last"
        lines.append(text)
        if "domain_accuracy" in figures:
            lines.append(_alignment(figures))
    digest = trained.digest[:12]
    lines.append(f"trained in {trained.minutes:.1f} minutes; bundle {digest} in {trained.bundle}")
    return "\n".join(lines) + "\n"
