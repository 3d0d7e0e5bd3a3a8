"""Names that the options of preparation may take; light, so that help stays quick."""

from typing import Literal

Format = Literal["sequences", "amazon", "table", "collected"]

CorePasses = Literal["stable", "single"]
