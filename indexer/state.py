"""What has become of an index since it was built whole: a small file in a folder beside it.

An index as it was built has none, nor has one of a kind that is never appended to. The file is
covered by the release's manifest, as all are.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter

from indexer.spec import HnswSpec, IndexSpec, ListedSpec, read_checked
from model.errors import BadArtifactError
from model.files import canonical_json, writing
from model.records import Record


class Level(Record):
    """How vectors were brought to one length; see `indexer.builders`."""

    exponent: Annotated[int, Field(ge=-256, le=256)]
    """Vectors are divided by two to the power of it."""
    squared: Annotated[FiniteFloat, Field(ge=0)]
    """The square of the length that they have then."""


class IndexState(Record):
    """What an index that was appended to is, beyond what its spec says."""

    level: Level
    """That of the build."""
    changed: Annotated[int, Field(ge=0)]
    """Entries removed and added since it was built whole."""
    removed: Annotated[int, Field(ge=0)]
    """Entries behind those of the items that are no items any more: links still lead through
    them."""


_READER = TypeAdapter(IndexState)


def is_appended(spec: IndexSpec) -> bool:
    """Say whether an index is appended to: whether it takes long to build."""
    return isinstance(spec, HnswSpec | ListedSpec)


def state_path(index: Path) -> Path:
    """Say where the state of the index in a file lies."""
    return index.parent / "state" / f"{index.stem}.json"


def write_state(state: IndexState, path: Path) -> None:
    """Write a state as JSON; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    with writing(path):
        path.write_bytes(canonical_json(state.model_dump()))


def read_state(path: Path, spec: IndexSpec) -> IndexState | None:
    """Read the state of an index; None where there is no such file.

    Raises:
        BadArtifactError: If the file is damaged, or no index of this spec can be in that state.
    """
    if not path.exists():
        return None
    state = read_checked(path, _READER, "state of an index")
    if not is_appended(spec):
        raise BadArtifactError(f"{path}: an index of kind {spec.kind} is never appended to")
    most = state.changed if isinstance(spec, HnswSpec) else 0
    if state.removed > most:
        raise BadArtifactError(
            f"{path} counts {state.removed} removed entries; this {spec.kind} index keeps at most "
            f"{most}"
        )
    return state
