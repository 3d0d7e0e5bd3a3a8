"""Named candidate sets: from lists of item ids to rows stored in a release, domain by domain.

In a release a set is `candidates/<domain>/<name>.npy`: int32 rows, ascending, each once, or from
one item in 32 on a bitmap (see `bitmaps`), which is smaller then. A narrow set stays a list: its
rows are gathered, and to look for them among the bits of all items would take longer than that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.bitmaps import Bitmap, RowSet, bytes_of, is_sound, smaller_of_both
from model.bundle import DomainTables
from model.errors import BadArtifactError, BadDataError
from model.tensor_files import map_array, save_array

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a set may be called: it becomes a file's name and a word in a request."""


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """One set, looked up in every domain."""

    name: str
    ids: int
    """Different ids in its file."""
    unknown: int
    """Ids that no domain knows."""
    rows: Mapping[str, RowSet]
    """Rows by domain; only domains that know at least one of the ids."""


def look_up(name: str, path: Path, domains: Sequence[DomainTables]) -> CandidateSet:
    """Read a set's file, one item id a line, and find its ids in every domain.

    Raises:
        BadDataError: If the file cannot be read, is no UTF-8, or holds no id that any domain knows.
    """
    ids = _read_ids(path)
    rows: dict[str, RowSet] = {}
    known = np.zeros(len(ids), bool)
    for domain in domains:
        found = domain.vocabulary.rows(ids)
        known |= found > 0
        if found.any():
            distinct = np.unique(found[found > 0])
            rows[domain.name] = smaller_of_both(distinct, len(domain.vocabulary))
    if not rows:
        names = ", ".join(domain.name for domain in domains)
        raise BadDataError(
            f"candidate set {name}: none of the {len(ids)} item ids in {path} is known in {names}"
        )
    return CandidateSet(name, len(ids), int((~known).sum()), rows)


def write_sets(folder: Path, sets: Sequence[CandidateSet]) -> None:
    """Write sets into a release folder."""
    for candidate_set in sets:
        for domain, rows in candidate_set.rows.items():
            place = folder / domain
            place.mkdir(parents=True, exist_ok=True)
            stored = rows.packed if isinstance(rows, Bitmap) else rows
            save_array(place / f"{candidate_set.name}.npy", stored)


def read_sets(folder: Path, items: int) -> dict[str, RowSet]:
    """Read the sets of one domain, by name in ascending order; bitmaps are mapped.

    Args:
        folder: The domain's folder; there is none where the domain has no set.
        items: Items of the domain.

    Raises:
        BadArtifactError: If a file is no set of rows of this domain; it is named.
    """
    return {path.stem: _read_set(path, items) for path in sorted(folder.glob("*.npy"))}


def _read_set(path: Path, items: int) -> RowSet:
    try:
        stored = map_array(path)
    except (OSError, ValueError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None
    if stored.dtype == np.uint8:
        bitmap = Bitmap(np.asarray(stored), items)
        if stored.shape != (bytes_of(items),) or not is_sound(stored, items) or not len(bitmap):
            raise BadArtifactError(f"{path} is no bitmap of rows between 1 and {items}")
        return bitmap
    rows = np.array(stored)
    if rows.dtype != np.int32 or rows.ndim != 1 or not len(rows):
        raise BadArtifactError(f"{path} is no list of rows")
    if rows[0] < 1 or rows[-1] > items or (np.diff(rows) < 1).any():
        raise BadArtifactError(f"{path} does not hold ascending rows between 1 and {items}")
    return smaller_of_both(rows, items)


def _read_ids(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadDataError(f"candidate file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadDataError(f"candidate file {path} is not UTF-8: {error}") from None
    # Only line ends part ids: `splitlines` would also split at rarer characters inside an id.
    return list(dict.fromkeys(line for line in text.split("\n") if line))
