"""What systems share when they put down and take up what they have learned; numpy only."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.baselines.system import Tensors
from model.errors import BadArtifactError, NotFoundError

T = TypeVar("T")


def of_domain(parts: Mapping[str, T], domain: str) -> T:
    """Pick a domain's part of what was learned.

    Raises:
        NotFoundError: If the dataset it was fitted to has no such domain.
    """
    if domain not in parts:
        known = ", ".join(parts)
        raise NotFoundError(f"domain {domain!r} is not in the dataset; it has {known}")
    return parts[domain]


def stored(tensors: Tensors, name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take one of the tensors of a stored system.

    Args:
        tensors: All that was stored.
        name: Which of them.
        shape: What its shape must be.

    Raises:
        BadArtifactError: If it is absent, of another shape, or not finite.
    """
    tensor = tensors.get(name)
    if tensor is None:
        raise BadArtifactError(f"the stored system has no tensor {name!r}")
    if tensor.shape != shape:
        raise BadArtifactError(
            f"tensor {name!r} of the stored system has shape {tensor.shape}, not {shape}; "
            "it was fitted to other data or with other settings"
        )
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise BadArtifactError(f"tensor {name!r} of the stored system is not finite")
    return tensor
