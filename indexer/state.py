"""What has become of an index since it was built whole: a small file beside it.

An index as it was built has none, nor has one of a kind that is never appended to. The file is
covered by the release's manifest, as all are.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, ValidationError

from indexer.spec import HnswSpec, IndexSpec, ListedSpec
from model.errors import BadArtifactError
from model.files import canonical_json
from model.settings import Settings


class Level(Settings):
    """How vectors were brought to one length; see `indexer.builders`."""

    exponent: Annotated[int, Field(ge=-256, le=256)]
    """Vectors are divided by two to the power of it."""
    squared: Annotated[FiniteFloat, Field(ge=0)]
    """The square of the length that they have then."""


class IndexState(Settings):
    """What an index that was appended to is, beyond what its spec says."""

    level: Level
    """That of the build."""
    changed: Annotated[int, Field(ge=0)]
    """Entries removed and added since it was built whole."""
    removed: Annotated[int, Field(ge=0)]
    """Entries behind those of the items that are no items any more: links still lead through
    them."""


def is_appended(spec: IndexSpec) -> bool:
    """Say whether an index is appended to: whether it takes long to build."""
    return isinstance(spec, HnswSpec | ListedSpec)


def state_path(index: Path) -> Path:
    """Say where the state of the index in a file lies."""
    return index.with_suffix(".state.json")


def write_state(state: IndexState, path: Path) -> None:
    """Write a state as JSON."""
    path.write_bytes(canonical_json(state.model_dump()))


def read_state(path: Path, spec: IndexSpec) -> IndexState | None:
    """Read the state of an index; None where there is no such file.

    Raises:
        BadArtifactError: If the file is damaged, or no index of this spec can be in that state.
    """
    try:
        state = IndexState.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise BadArtifactError(
            f"{path} holds no state of an index that this version knows: {place}: {first['msg']}"
        ) from None
    if not is_appended(spec):
        raise BadArtifactError(f"{path}: an index of kind {spec.kind} is never appended to")
    most = state.changed if isinstance(spec, HnswSpec) else 0
    if state.removed > most:
        raise BadArtifactError(
            f"{path} counts {state.removed} removed entries; this {spec.kind} index keeps at most "
            f"{most}"
        )
    return state
