"""RecGURU and its ablations as systems to compare: `recguru train`, then its bundle in process."""

from model.bundle import Bundle
from model.comparison.systems import Task
from model.errors import BadSettingError
from model.evaluation.protocol import Scorer
from model.training.settings import TrainSettings


def fit(task: Task) -> Scorer:
    """Train into the task's work folder, and answer from the bundle; see `train_bundle`."""
    from model.inference import BundleScorer  # noqa: PLC0415  # torch, when it is needed

    bundle, _ = train_bundle(task)
    return BundleScorer(bundle, device=task.device)


def train_bundle(task: Task) -> tuple[Bundle, TrainSettings]:
    """Train into the task's work folder -> the bundle, and the settings that made it.

    A training that was interrupted goes on from its newest checkpoint.

    Raises:
        BadSettingError: If the settings are not those of a training.
        TrainingError: If training stopped itself.
    """
    from model.training.alignment import FIGURES  # noqa: PLC0415  # torch, when it is needed
    from model.training.loop import train  # noqa: PLC0415

    if not isinstance(task.settings, TrainSettings):
        raise BadSettingError(f"{type(task.settings).__name__} are no settings of a training")
    settings = task.settings.model_copy(update={"seed": task.seed})
    trained = train(task.folder, task.work, settings, resume=True, device=task.device)
    for figures in trained.summary.values() if settings.network.memory != "none" else ():
        task.alignment.update({name: figures[name] for name in FIGURES if name in figures})
    return Bundle.read(trained.bundle), settings
