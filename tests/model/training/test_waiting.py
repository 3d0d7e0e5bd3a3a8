"""A step asks nothing of the device that the host would have to wait for.

What copies a whole tensor to the host (`cpu`, `tolist`, `numpy`) leaves no trace on a CPU, and is
not seen here.
"""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.training.bridging import Bridging
from model.training.context import Context
from model.training.fine_tuning import FineTuning
from model.training.joint import JointFineTuning
from model.training.phase import Phase
from model.training.phases import Adversarial, PreTraining
from model.training.settings import TrainSettings
from tests.model.training.context_making import QUICK, chained_dataset, context_of

WAITED_FOR = {
    *("_local_scalar_dense", "is_nonzero", "equal"),
    *("nonzero", "masked_select", "bincount", "repeat_interleave"),
    *("_unique2", "unique_dim", "unique_consecutive"),
}
"""What goes to the host, or has a size, by what values there are."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Wait where an index is a mask: how many does it let through?"""
JOINT = {
    "joint": True,
    "cold_weight": 0.5,
    "shared_weight": 0.5,
    "shared_loss": "contrastive",
    "reconstruction_weight": 0.5,
    "adversarial_weight": 0.5,
}


def is_mask(index: object) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype is torch.bool


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations that wait for the device, were the tensors on one; all run as ever."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = func.overloadpacket.__name__
        if name in WAITED_FOR or (name in INDEXED and any(map(is_mask, tree_leaves(args[1])))):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def context_with(**changes: object) -> Context:
    return context_of(
        chained_dataset(), TrainSettings.model_validate({**QUICK.model_dump(), **changes})
    )


def joint(memory: str) -> Callable[[], Phase]:
    network = {**QUICK.network.model_dump(), "memory": memory}
    return lambda: JointFineTuning(
        context_with(network=network, fine_tuning={**QUICK.fine_tuning.model_dump(), **JOINT}),
        2,
    )


def bridging() -> Phase:
    network = {**QUICK.network.model_dump(), "memory": "cold", "bridge_share": 0.5}
    return Bridging(context_with(network=network), 3)


def one_domain_at_a_time(loss: str) -> Callable[[], Phase]:
    def make() -> Phase:
        context = context_with(fine_tuning={**QUICK.fine_tuning.model_dump(), "loss": loss})
        return FineTuning(context, 2, context.data.domains[0])

    return make


PHASES: Mapping[str, Callable[[], Phase]] = {
    "pre-training": lambda: PreTraining(context_with(), 0),
    "adversarial": lambda: Adversarial(context_with(), 1),
    "joint, cold": joint("cold"),
    "joint, both": joint("both"),
    "bridging": bridging,
    "softmax": one_domain_at_a_time("softmax"),
    "bpr": one_domain_at_a_time("bpr"),
}


@pytest.mark.parametrize(
    "waiting",
    [
        lambda values: values[values > 2],
        lambda values: values[0].item(),
        lambda values: bool(values.any()),
        torch.unique,
        torch.unique_consecutive,
        torch.bincount,
        lambda values: torch.arange(4).repeat_interleave(values),
    ],
)
def test_what_waits_is_seen(waiting: Callable[[torch.Tensor], object]) -> None:
    with Waits() as waits:
        waiting(torch.arange(4))
    assert waits.seen


@pytest.mark.parametrize("name", PHASES)
def test_no_step_waits_for_the_device(name: str) -> None:
    phase = PHASES[name]()
    phase.begin()
    phase.step(0)
    with Waits() as waits:
        phase.step(1)
    assert waits.seen == []
