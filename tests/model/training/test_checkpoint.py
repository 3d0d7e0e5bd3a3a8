"""A checkpoint gives a phase back all that it goes on from."""

import dataclasses
from pathlib import Path

import torch

from model.training.checkpoint import Checkpoints, Progress
from model.training.context import Context
from model.training.joint import JointFineTuning


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
