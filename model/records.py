"""What programs write into files and read again, checked when it is read."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of what is kept: frozen, refuses unknown keys, documented field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
