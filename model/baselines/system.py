"""What every system that is compared offers: fit, scores, tensors, restore."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.data.training_data import TrainingData
from model.evaluation.protocol import Scorer
from model.settings import Settings

Tensors = Mapping[str, NDArray[np.generic]]
"""All that a system has learned, by name: what a safetensors file of it holds."""

S_contra = TypeVar("S_contra", bound=Settings, contravariant=True)


class System(Scorer, Protocol):
    """A fitted recommender for both domains of a dataset."""

    def tensors(self) -> Tensors:
        """Return all it has learned; `Kind.restore` makes an equal one of it."""
        ...


class Kind(Protocol[S_contra]):
    """A way to recommend: a class with these two class methods is one."""

    def fit(self, data: TrainingData, settings: S_contra, *, seed: int) -> System:
        """Learn from training rows; validation rows serve early stopping alone.

        Args:
            data: What may be learned from.
            settings: How to learn.
            seed: Every draw follows from it: on the CPU the same seed gives the same scores.
        """
        ...

    def restore(self, data: TrainingData, settings: S_contra, tensors: Tensors) -> System:
        """Make a system from what one fitted to the same data with the same settings has learned.

        Raises:
            BadArtifactError: If the tensors do not fit the data and the settings.
        """
        ...
