"""What kind of index to build: a checked spec for each kind, told apart by `kind`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from model.errors import BadArtifactError
from model.files import canonical_json
from model.settings import Settings


class FlatSpec(Settings):
    """Every vector as it is, each query compared with all of them: exact."""

    kind: Literal["flat"] = "flat"


IndexSpec = FlatSpec
"""The spec of any kind of index."""

_READER: TypeAdapter[IndexSpec] = TypeAdapter(IndexSpec)

DeviceChoice = Literal["auto", "cpu", "cuda"]


class IndexSettings(Settings):
    """The settings of `recguru indexer build`."""

    kind: Literal["auto", "flat"] = "auto"
    """Kind of index; `auto` takes the exact one."""

    device: DeviceChoice = "auto"
    """Where the finished index is tried before it is published; `auto` takes a GPU where one is."""

    probes: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Queries a domain that the finished index must answer as exact search does."""

    def spec(self) -> IndexSpec:
        """Return the spec of the kind chosen."""
        return FlatSpec()


def write_spec(spec: IndexSpec, path: Path) -> None:
    """Write a spec as JSON."""
    path.write_bytes(canonical_json(spec.model_dump()))


def read_spec(path: Path) -> IndexSpec:
    """Read a spec that `write_spec` wrote.

    Raises:
        BadArtifactError: If the file is missing or holds no spec this version knows.
    """
    try:
        return _READER.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise BadArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise BadArtifactError(
            f"{path} holds no index spec of this version: {place}: {first['msg']}"
        ) from None
