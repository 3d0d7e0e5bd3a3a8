"""One way down for all phases: Adam, and for large item tables an Adam that moves rows it has seen.

Adam moves every row of a table at each step, which for a million items costs more than the networks
do. Above a number of items only the rows are moved that a step has looked up; the moments of the
others wait. Such a row moves less often, and its learning rate is raised by a factor for that.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, SparseAdam

from model.networks.autoencoder import DomainEmbedding
from model.training.parallel import Team
from model.training.settings import TrainSettings


class Descent:
    """The optimisers of one phase."""

    def __init__(
        self,
        networks: Iterable[nn.Module],
        *,
        betas: tuple[float, float],
        settings: TrainSettings,
        team: Team,
        rate: float = 1.0,
    ) -> None:
        """Take what learns.

        Args:
            networks: Modules that have no parameter in common.
            betas: Adam's.
            settings: Which tables move by rows, and their factor.
            team: Whose gradients are added up.
            rate: Learning rate, until `step` is given another.
        """
        self._team = team
        everything: list[nn.Parameter] = []
        by_rows: list[nn.Parameter] = []
        for network in networks:
            tables = {
                id(module.items.weight)
                for module in network.modules()
                if isinstance(module, DomainEmbedding) and _by_rows(module, settings.dense_items)
            }
            for parameter in network.parameters():
                (by_rows if id(parameter) in tables else everything).append(parameter)
        self._optimisers: dict[str, Optimizer] = {
            "dense": Adam(everything, lr=rate, betas=betas, eps=1e-8, fused=True)
        }
        if by_rows:
            by_rate = settings.row_rate * rate
            self._optimisers["rows"] = SparseAdam(by_rows, lr=by_rate, betas=betas, eps=1e-8)
        self._learning = [*everything, *by_rows]
        self._factors = {"dense": 1.0, "rows": settings.row_rate}

    def step(self, loss: Tensor, rate: float | None = None) -> None:
        """Take one step down a loss, of which each process has its share, at another rate if given.

        The shares are added up, as gradients; all processes take the same step.
        """
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._team.add_gradients(self._learning)
        for name, optimiser in self._optimisers.items():
            if rate is not None:
                optimiser.param_groups[0]["lr"] = rate * self._factors[name]
            optimiser.step()

    def optimisers(self, name: str) -> Mapping[str, Optimizer]:
        """Return the optimisers, for a checkpoint, as parts of a name."""
        return {f"{name}-{part}": each for part, each in self._optimisers.items()}


def _by_rows(embedding: DomainEmbedding, dense_items: int) -> bool:
    items = embedding.items
    items.sparse = items.num_embeddings - 1 > dense_items
    return items.sparse


def optimise(optimiser: Optimizer, loss: Tensor) -> None:
    """Take one step of a single optimiser down a loss."""
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
