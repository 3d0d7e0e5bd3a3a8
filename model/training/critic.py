"""The critic's side of Algorithm 1: it learns to tell the domains apart, and says how far they are.

Shapes: B users, D width.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from model.errors import TrainingError
from model.losses import gradient_penalty, wasserstein_distance
from model.training.context import Context, Share
from model.training.descent import optimise
from model.training.draws import Draws

BETAS = (0.5, 0.9)
"""Adam's, for whatever learns against each other (section 6.1.3)."""
SHRINKAGE = 0.05
"""Part of the mean variance that is added to the variance of every direction before whitening."""


class CriticTraining:
    """Trains the critic on GURs that stand still, and lends it out fixed."""

    def __init__(self, context: Context, draws: Draws) -> None:
        settings = context.settings.adversarial
        self._critic = context.networks.critic
        self._draws = draws
        self._team = context.team
        self._penalty_weight = settings.penalty_weight
        self._whitened = settings.whitened
        self._scale: tuple[Tensor, Tensor] | None = None
        self._optimiser = Adam(
            self._critic.parameters(), lr=settings.critic_rate, betas=BETAS, eps=1e-8, fused=True
        )

    def scale_by(self, first: Tensor, second: Tensor) -> None:
        """Judge GURs by the spread of these from now on, if settings ask for it.

        A critic of slope one hardly sees domains that differ where GURs spread little. Whitened, by
        the moments of both domains together, they spread the same in every direction.

        Args:
            first: GURs of the first domain, (B, D), of the batches of all processes.
            second: GURs of the second domain, likewise.
        """
        if self._whitened:
            self._scale = whitening(torch.cat([first, second]))

    def step(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Take one critic step on GURs of each domain, (B, D), as many of the one as the other.

        All processes take the same step on the GURs of the whole batch, so none sends gradients.

        Returns:
            This process' share of each figure.
        """
        first, second = self._scaled(first.detach()), self._scaled(second.detach())
        distance = wasserstein_distance(self._critic(first), self._critic(second))
        penalty = gradient_penalty(self._critic, first, second, self._draws.torch)
        loss = self._penalty_weight * penalty - distance
        optimise(self._optimiser, loss)
        figures = {"critic_loss": loss, "wasserstein": distance, "gradient_penalty": penalty}
        return {name: self._team.shared_out(figure) for name, figure in figures.items()}

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Hold the critic's parameters inside, as Algorithm 1 does while the encoder learns."""
        self._critic.requires_grad_(requires_grad=False)
        yield
        self._critic.requires_grad_(requires_grad=True)

    def distance(self, gurs: list[Tensor], shares: list[Share]) -> Tensor:
        """Say what shares of a batch add to the distance of its domains' GURs, a scalar.

        Args:
            gurs: Of the first and of the second domain, (B, D) each.
            shares: Whose they are.
        """
        first, second = (
            self._critic(self._scaled(each)) * share.of_users
            for each, share in zip(gurs, shares, strict=True)
        )
        return wasserstein_distance(first, second)

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the critic's optimiser, for a checkpoint."""
        return {"critic": self._optimiser}

    def _scaled(self, gurs: Tensor) -> Tensor:
        if self._scale is None:
            return gurs
        mean, matrix = self._scale
        return (gurs - mean) @ matrix


def whitening(gurs: Tensor) -> tuple[Tensor, Tensor]:
    """Find what makes GURs (B, D) uncorrelated and about equally spread in every direction.

    Returns:
        The mean to subtract, (D,), and the symmetric matrix to multiply by then, (D, D); neither
        learns.

    Raises:
        TrainingError: If a GUR is not finite.
    """
    # In float32 the rounding of small variances would come back as a share of the matrix.
    wide = gurs.detach().double()
    mean = wide.mean(dim=0)
    try:
        variances, directions = torch.linalg.eigh((wide - mean).T @ (wide - mean) / len(wide))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # stubs lack it
        raise TrainingError(
            "GURs are no longer finite; lower the learning rate of this phase; the last good "
            "checkpoint is intact"
        ) from None
    variances = variances.clamp(min=0) + SHRINKAGE * variances.mean()
    # GURs that are all alike have no spread to judge by.
    factors = variances.clamp(min=torch.finfo(gurs.dtype).tiny).rsqrt()
    matrix = (directions * factors) @ directions.T
    return mean.to(gurs.dtype), matrix.to(gurs.dtype)
