"""What the arrays that travel between modules hold."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""Scores, weights and vectors."""

Rows = NDArray[np.int32]
"""Item rows of one domain, from 1 up; 0 is padding."""

Places = NDArray[np.int64]
"""Positions in another array."""

Flags = NDArray[np.bool_]
"""Yes or no."""
