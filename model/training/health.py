"""When training must stop itself rather than write a model nobody should serve."""

import math
from collections.abc import Mapping

from torch import nn

from model.errors import TrainingError

FLAT_PENALTY = 0.95
"""A gradient penalty between it and 1 means a critic of slope near zero: it tells nothing apart.
The penalty is the square of what the slope lacks of 1 or has beyond it: from 1 on it is steep."""
LONGEST_READINGS = 20
"""Readings in a row that a critic may be flat or steep; it starts flat and needs steps to learn."""


class Health:
    """Watches the logged figures of a training."""

    def __init__(self) -> None:
        self._flat = self._steep = 0

    def check(self, phase: str, step: int, figures: Mapping[str, float]) -> None:
        """Look at the figures of one logged step.

        Raises:
            TrainingError: If one is not finite, or the critic has been flat or steep for too long.
        """
        for name, figure in figures.items():
            if not math.isfinite(figure):
                raise TrainingError(
                    f"{phase} step {step}: {name} is {figure}; lower the learning rate of that "
                    "phase; the last good checkpoint is intact"
                )
        if "gradient_penalty" in figures:
            penalty = figures["gradient_penalty"]
            self._flat = self._flat + 1 if FLAT_PENALTY < penalty <= 1 else 0
            self._steep = self._steep + 1 if penalty > 1 else 0
            if self._flat >= LONGEST_READINGS:
                raise TrainingError(
                    f"{phase} step {step}: the critic collapsed, its slope has stayed near zero; "
                    "raise penalty_weight or critic_rate of [train.adversarial]"
                )
            if self._steep >= LONGEST_READINGS:
                raise TrainingError(
                    f"{phase} step {step}: the critic's slope has stayed above 2, where 1 is "
                    "wanted; raise penalty_weight or lower critic_rate of [train.adversarial]"
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
