"""A checkpoint gives a phase back all that it goes on from."""

import dataclasses
from pathlib import Path

import pytest
import torch

from model.errors import RecGuruError
from model.training.checkpoint import Checkpoints, Progress
from model.training.context import Context
from model.training.joint import JointFineTuning


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"dataset": "a", "settings": {"seed": 1}}, "settings.rate (absent), not None"),
        ({"dataset": "a", "settings": {"rate": None, "seed": 2}}, "settings.seed 2, not 1"),
        ({"dataset": "b", "settings": {"rate": None, "seed": 1}}, "dataset b, not a"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_with_what_differs(
    made: dict[str, object], said: str, context: Context, tmp_path: Path
) -> None:
    Checkpoints(tmp_path, made=made).write(Progress(0, 0, 0, {}), context.networks, None)
    mine = {"dataset": "a", "settings": {"rate": None, "seed": 1}}

    with pytest.raises(RecGuruError) as refused:
        Checkpoints(tmp_path, made=mine).newest()

    assert f"was made with {said}; resume with the same" in str(refused.value)


def test_a_checkpoint_gives_back_the_best_weights_so_far(context: Context, tmp_path: Path) -> None:
    """Otherwise a resumed training would end with the best of what came after the kill alone."""
    fine_tuning = context.settings.fine_tuning.model_copy(update={"joint": True})
    settings = context.settings.model_copy(update={"fine_tuning": fine_tuning})
    context = dataclasses.replace(context, settings=settings)
    serving = context.networks.serving
    killed = JointFineTuning(context, 2)
    killed.step(0)
    assert killed.selection is not None
    figure = killed.selection.look()
    best = {name: weight.clone() for name, weight in serving.state_dict().items()}
    killed.step(1)
    checkpoints = Checkpoints(tmp_path / "checkpoints", made={})
    checkpoints.write(Progress(2, 2, 0, {}), context.networks, killed)

    resumed = JointFineTuning(context, 2)
    progress = checkpoints.newest()
    assert progress is not None
    checkpoints.load_phase(progress, resumed)
    assert resumed.selection is not None
    assert resumed.selection.finish() == figure
    assert all(torch.equal(weight, best[name]) for name, weight in serving.state_dict().items())
