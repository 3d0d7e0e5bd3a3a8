"""When training must stop itself rather than write a model nobody should serve."""

import math
from collections.abc import Mapping

from torch import nn

from model.errors import TrainingError

FLAT_PENALTY = 0.95
"""A gradient penalty above it means a critic of slope near zero: it tells nothing apart."""
FLAT_READINGS = 20
"""Readings in a row that a critic may be flat; it starts flat and needs some steps to learn."""


class Health:
    """Watches the logged figures of a training."""

    def __init__(self) -> None:
        self._flat = 0

    def check(self, phase: str, step: int, figures: Mapping[str, float]) -> None:
        """Look at the figures of one logged step.

        Raises:
            TrainingError: If one is not finite, or the critic has been flat for too long.
        """
        for name, figure in figures.items():
            if not math.isfinite(figure):
                raise TrainingError(
                    f"{phase} step {step}: {name} is {figure}; lower the learning rate of that "
                    "phase; the last good checkpoint is intact"
                )
        if "gradient_penalty" in figures:
            self._flat = self._flat + 1 if figures["gradient_penalty"] > FLAT_PENALTY else 0
            if self._flat >= FLAT_READINGS:
                raise TrainingError(
                    f"{phase} step {step}: the critic collapsed, its slope has stayed near zero; "
                    "raise penalty_weight or critic_rate of [train.adversarial]"
                )


def check_weights(networks: nn.Module) -> None:
    """Look at all weights before they are written.

    Raises:
        TrainingError: If one is not finite; the message names the network.
    """
    for name, weight in networks.named_parameters():
        if not weight.isfinite().all():
            raise TrainingError(
                f"{name} is no longer finite; lower the learning rate of this phase; the last good "
                "checkpoint is intact"
            )
