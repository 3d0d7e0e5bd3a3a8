"""Early stopping: keep the weights that validated best, end when nothing better comes."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

VALIDATED = "validation_ndcg@10"
"""What networks are selected by where nothing else is said: the full ranking of validation rows."""


class Selection:
    """Validates a network at intervals and remembers its best weights."""

    def __init__(
        self,
        network: nn.Module,
        validate: Callable[[], float] | None,
        *,
        interval: int,
        patience: int,
        figure_name: str = VALIDATED,
    ) -> None:
        """Watch a network.

        Args:
            network: Whose weights are kept and put back.
            validate: Gives the figure to be high; none where there is nothing to ask, and the
                weights at the end are as good as any.
            interval: Steps between two validations.
            patience: Validations without a better figure after which it is over.
            figure_name: What the figure is called.
        """
        self._network = network
        self._validate = validate
        self._interval = interval
        self._patience = patience
        self._figure_name = figure_name
        self._best = -math.inf
        self._misses = 0
        self._weights: State = {}

    def is_due(self, step: int) -> bool:
        """Say whether it is time to look after `step` steps."""
        return step % self._interval == 0

    def look(self) -> Mapping[str, float]:
        """Validate and remember the weights if they are the best so far; return the figure."""
        if self._validate is None:
            return {}
        figure = self._validate()
        if figure > self._best:
            self._best, self._misses = figure, 0
            self._weights = _copied(self._network)
        else:
            self._misses += 1
        return {self._figure_name: figure}

    @property
    def is_over(self) -> bool:
        """Whether patience is used up."""
        return self._misses >= self._patience

    def finish(self) -> Mapping[str, float]:
        """Put the best weights back; return their figure, or nothing where none was validated."""
        if not self._weights:
            return {}
        self._network.load_state_dict(self._weights)
        return {self._figure_name: self._best}

    def state(self) -> State:
        """Return what a checkpoint must hold to go on."""
        counters = torch.tensor([self._best, self._misses], dtype=torch.float64)
        return {"counters": counters, **{f"best.{name}": w for name, w in self._weights.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        best, misses = state["counters"].tolist()
        self._best, self._misses = best, int(misses)
        self._weights = {
            name.removeprefix("best."): weight
            for name, weight in state.items()
            if name.startswith("best.")
        }


def _copied(network: nn.Module) -> State:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}
