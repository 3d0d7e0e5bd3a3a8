"""An index in a file: FAISS's own format, and at its end a mark that nothing is missing.

FAISS's files carry no checksum, and FAISS ends the process over some that are cut short while it
reads what goes before the vectors. So an index of any kind but `flat` ends in a mark that names its
length, and a `flat` one must be longer than that. Shapes: V items, D width.
"""

from pathlib import Path

from indexer import faiss_api
from indexer.builders import check_index
from indexer.faiss_api import FaissIndex
from indexer.spec import FlatSpec, IndexSpec
from indexer.state import read_state, state_path
from model.arrays import Floats
from model.errors import BadArtifactError
from model.files import writing

_MARK = b"recguru index of %20d bytes ends"
_MARK_BYTES = len(_MARK % 0)
_FLAT_HEADER_BYTES = 45


def write_index(index: FaissIndex, spec: IndexSpec, path: Path) -> None:
    """Write an index that was built to a spec.

    Raises:
        RecGuruError: If the disk is full.
    """
    with writing(path), path.open("wb") as file:
        faiss_api.write_index(index, file)
        if not isinstance(spec, FlatSpec):
            file.write(_MARK % file.tell())


def read_index(path: Path, spec: IndexSpec, vectors: Floats, *, mapped: bool = True) -> FaissIndex:
    """Open the index of vectors (V, D) and check it; its file's digest must be checked already.

    A mapped file is shared between processes, page by page: nobody may write to it from then on.
    Only the lists of an `ivf-pq` index are copied. What is not mapped may be changed.

    Raises:
        BadArtifactError: If there is no such file, it is damaged, or it holds another index than
            its spec, its state and the vectors say.
    """
    try:
        _check_length(path, spec)
    except OSError as error:
        raise BadArtifactError(f"{path} cannot be read: {error.strerror}") from None
    place = state_path(path)
    state = read_state(place, spec)
    index = faiss_api.read_index(path, mapped=mapped)
    removed = state.removed if state else 0
    if state and index.ntotal != len(vectors) + removed:
        raise BadArtifactError(
            f"{place} counts {removed} removed entries, the item table has {len(vectors)} items, "
            f"but {path} holds {index.ntotal} vectors"
        )
    check_index(index, spec, vectors.shape, str(path), removed=removed)
    if isinstance(spec, FlatSpec) and not faiss_api.holds(index, vectors):
        raise BadArtifactError(f"{path} holds other vectors than the item table")
    return index


def _check_length(path: Path, spec: IndexSpec) -> None:
    size = path.stat().st_size
    if isinstance(spec, FlatSpec):
        whole = size >= _FLAT_HEADER_BYTES
    else:
        with path.open("rb") as file:
            file.seek(max(0, size - _MARK_BYTES))
            whole = file.read() == _MARK % (size - _MARK_BYTES)
    if not whole:
        raise BadArtifactError(f"{path} cannot be read: it is cut short, or holds something else")
