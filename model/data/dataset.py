"""The dataset folder: what preparation writes and what training and evaluation read.

    manifest.json                 what it was made from and how, the report, digests
    shared_users.npy              (S, 2) int32: a user's place in the first and in the second domain
    <domain>/items.*.npy          item ids; row r is place r - 1
    <domain>/titles.*.npy         item titles in the same order, where known
    <domain>/users.*.npy          user ids, ascending
    <domain>/sequences.rows.npy   int32 rows of all users end to end, oldest first
    <domain>/sequences.ends.npy   int64, where each user's rows end

The same input and options give the same bytes: users and items stand in ascending order of their id
and the manifest holds no time. Shapes: U users, S shared users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Places, Rows
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError, NotFoundError
from model.files import check_files, read_manifest, write_manifest
from model.tensor_files import map_array, save_array

KIND = "recguru-dataset"
FORMAT = 1
HELD_OUT = 2
"""Rows at the end of a sequence kept from training: one for validation, then one for the test."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """One list of rows a user, oldest first, stored end to end."""

    rows: Rows
    """The rows of all users, (total,)."""

    ends: Places
    """Where each user's rows end in `rows`, (U,)."""

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | Rows]) -> "Sequences":
        """Store the lists given."""
        lengths = np.fromiter((len(rows) for rows in lists), np.int64, len(lists))
        flat = [np.asarray(rows, np.int32) for rows in lists]
        return cls(np.concatenate(flat) if flat else np.empty(0, np.int32), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, user: int) -> Rows:
        """Return one user's rows."""
        start = int(self.ends[user - 1]) if user else 0
        return self.rows[start : int(self.ends[user])]

    @property
    def starts(self) -> Places:
        """Where each user's rows begin in `rows`, (U,)."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])[: len(self.ends)]

    @property
    def lengths(self) -> Places:
        """How many rows each user has, (U,)."""
        return np.diff(self.ends, prepend=0)

    def without_last(self, counts: Places) -> "Sequences":
        """Drop the last `counts[user]` rows of each user, counts (U,) between 0 and the length."""
        keep = self.lengths - counts
        places = ranges(self.starts, keep)
        return Sequences(np.asarray(self.rows[places], np.int32), np.cumsum(keep))

    def take(self, users: Places) -> "Sequences":
        """Return those of some users (B,), in the order asked for, whoever comes twice."""
        lengths = self.lengths[users]
        places = ranges(self.starts[users], lengths)
        return Sequences(np.asarray(self.rows[places], np.int32), np.cumsum(lengths))


def ranges(starts: Places, lengths: Places) -> Places:
    """Put the ranges start..start + length - 1 end to end, starts and lengths (n,)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found: Places = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return found


@dataclass(frozen=True, slots=True)
class DomainData:
    """One domain of a dataset."""

    name: str
    vocabulary: Vocabulary
    users: StringTable
    sequences: Sequences

    def held_out(self) -> Places:
        """Count the rows of each user kept from training, (U,): 2, or 0 of fewer than 3 rows."""
        return np.where(self.sequences.lengths > HELD_OUT, HELD_OUT, 0).astype(np.int64)

    def training(self) -> Sequences:
        """Return what may be learned from: each sequence without its validation and test row."""
        return self.sequences.without_last(self.held_out())


@dataclass(frozen=True, slots=True)
class Dataset:
    """Two domains and the users they share."""

    domains: tuple[DomainData, DomainData]
    shared: NDArray[np.int32]
    """A shared user's place in the first and in the second domain, (S, 2)."""
    digest: str
    report: Mapping[str, Any]
    """The statistics preparation made; see `model.data.report`."""

    @classmethod
    def read(cls, folder: Path, *, verify: bool = True) -> "Dataset":
        """Open a dataset folder; sequences are memory-mapped.

        Args:
            folder: The folder that `recguru data prepare` or `recguru data overlap` wrote.
            verify: Whether to check every file against its digest first.

        Raises:
            NotFoundError: If it is not a dataset folder.
            BadArtifactError: If it is of another format or damaged; the file is named.
        """
        manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
        if verify:
            check_files(folder, manifest)
        first, second = (_read_domain(folder, name) for name in manifest["domains"])
        shared = _read_shared(folder / "shared_users.npy", (len(first.users), len(second.users)))
        return cls((first, second), shared, str(manifest["digest"]), manifest["report"])

    def domain(self, name: str) -> DomainData:
        """Return the domain of that name.

        Raises:
            NotFoundError: If there is none; the message names those there are.
        """
        for domain in self.domains:
            if domain.name == name:
                return domain
        known = ", ".join(domain.name for domain in self.domains)
        raise NotFoundError(f"domain {name!r} is not in the dataset; it has {known}")


def write_dataset(
    folder: Path,
    domains: tuple[DomainData, DomainData],
    shared: NDArray[np.int32],
    *,
    made: Mapping[str, Any],
    report: Mapping[str, Any],
) -> str:
    """Fill an empty folder (see `model.files.publishing`) with a dataset; return its digest.

    Args:
        folder: An empty, temporary folder.
        domains: The two domains, users in ascending order of their id.
        shared: (S, 2) int32, ascending by the first column.
        made: What it was made from and with which options; must not depend on time or place.
        report: The statistics, as `recguru data describe` prints them.
    """
    for domain in domains:
        place = folder / domain.name
        place.mkdir()
        domain.vocabulary.write(place)
        domain.users.write(place / "users")
        save_array(place / "sequences.rows.npy", domain.sequences.rows)
        save_array(place / "sequences.ends.npy", domain.sequences.ends)
    save_array(folder / "shared_users.npy", shared)
    names = [domain.name for domain in domains]
    content = {"domains": names, "made": dict(made), "report": dict(report)}
    return write_manifest(folder, kind=KIND, format_number=FORMAT, content=content)


def _read_domain(folder: Path, name: str) -> DomainData:
    place = folder / name
    try:
        rows = map_array(place / "sequences.rows.npy")
        ends = np.array(map_array(place / "sequences.ends.npy"))
    except (OSError, ValueError) as error:
        raise BadArtifactError(f"the sequences in {place} cannot be read: {error}") from None
    vocabulary = Vocabulary.read(place)
    users = StringTable.read(place / "users")
    fits = len(ends) == len(users) and (int(ends[-1]) if len(ends) else 0) == len(rows)
    fits = fits and bool((np.diff(ends, prepend=0) >= 0).all())
    if not fits or (len(rows) and not 1 <= rows.min() <= rows.max() <= len(vocabulary)):
        raise BadArtifactError(f"the sequences in {place} do not fit its users and items")
    return DomainData(name, vocabulary, users, Sequences(rows, ends))


def _read_shared(path: Path, users: tuple[int, int]) -> NDArray[np.int32]:
    try:
        shared: NDArray[np.int32] = np.array(map_array(path))
    except (OSError, ValueError) as error:
        raise BadArtifactError(f"{path} cannot be read: {error}") from None
    if shared.shape[1:] != (2,) or not ((shared >= 0) & (shared < users)).all():
        raise BadArtifactError(f"{path} does not fit the users of the two domains")
    return shared
