"""The release: a bundle, an index of each domain, candidate sets; loaded whole or not at all.

    manifest.json                     digests of bundle, dataset and every file
    bundle/                           a copy of the bundle
    index/<domain>.faiss              the index; position p holds the vector of row p + 1
    index/<domain>.json               the spec it was built to
    candidates/<domain>/<name>.npy    named sets of rows

Everything but the manifest is covered by a digest in it, and what the manifest says beyond that
must agree with files that are. FAISS's own files carry no checksum: a flipped bit would be served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer import faiss_api
from indexer.builders import build_index, check_index
from indexer.candidates import CandidateSet, read_sets, write_sets
from indexer.engine import open_engine, resolve_device
from indexer.installation import warn_of_two_faiss
from indexer.publish import latest
from indexer.search import DomainIndex
from indexer.spec import DeviceChoice, IndexSpec, read_spec, write_spec
from model.bundle import Bundle, DomainTables, read_bundle_manifest
from model.console import Advance
from model.errors import BadArtifactError
from model.files import MANIFEST, check_files, read_manifest, write_manifest

__all__ = ["Release", "latest", "write_release"]

KIND = "recguru-release"
FORMAT = 1
BUNDLE = "bundle"
INDEX = "index"
CANDIDATES = "candidates"


@dataclass(frozen=True, slots=True)
class Release:
    """A loaded release."""

    folder: Path
    version: str
    """The folder's name."""
    digest: str
    """Covers every file: bundle, indexes, candidate sets."""
    dataset: str
    """Digest of the dataset the bundle was trained on."""
    bundle: Bundle
    indexes: Mapping[str, DomainIndex]
    """By domain, in the dataset's order."""

    @classmethod
    def read(
        cls,
        folder: Path,
        *,
        device: DeviceChoice = "cpu",
        verify: bool = True,
        threads: int | None = None,
    ) -> "Release":
        """Load a release folder.

        Args:
            folder: A version in a release root; see `latest`.
            device: Where the indexes are searched. A release on a GPU is for one thread at a time.
            verify: Whether to check every file against its digest first.
            threads: Threads FAISS may use in a search on the CPU; none leaves it to OpenMP, which
                reads `OMP_NUM_THREADS`.

        Raises:
            NotFoundError: If it is no release folder.
            BadArtifactError: If it is of another format, damaged, or put together from parts of
                several; the message names the file.
            UnavailableDeviceError: If `cuda` is asked for and cannot be used.
        """
        warn_of_two_faiss()
        manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
        if verify:
            check_files(folder, manifest)
        bundle = _read_bundle(folder, manifest)
        where = resolve_device(device)
        indexes = {}
        for tables in bundle.domains:
            path = folder / INDEX / f"{tables.name}.faiss"
            spec = read_spec(path.with_name(f"{tables.name}.json"))
            index = faiss_api.read_index(path)
            vectors = tables.item_table[1:]
            check_index(index, spec, vectors.shape, str(path))
            if faiss_api.is_flat(index) and not faiss_api.holds(index, vectors):
                raise BadArtifactError(f"{path} holds other vectors than the item table")
            engine = open_engine(where, index, tables.item_table, threads=threads)
            sets = read_sets(folder / CANDIDATES / tables.name, len(vectors))
            indexes[tables.name] = DomainIndex(tables, spec.kind, engine, sets)
        digest = str(manifest["digest"])
        return cls(folder, folder.name, digest, bundle.dataset, bundle, indexes)


def write_release(
    folder: Path,
    bundle: Bundle,
    spec: IndexSpec,
    sets: Sequence[CandidateSet],
    *,
    advance: Advance,
) -> str:
    """Fill an empty folder, which holds a copy of the bundle in `bundle/`, with a release.

    Args:
        folder: An empty folder but for the copy of the bundle.
        bundle: The bundle.
        spec: What each domain's index should be.
        sets: Candidate sets.
        advance: Called once for each index.

    Returns:
        The release's digest.
    """
    place = folder / INDEX
    place.mkdir()
    for tables in bundle.domains:
        _write_index(place, tables, spec)
        advance(note=tables.name)
    write_sets(folder / CANDIDATES, sets)
    content = {"bundle": bundle.digest, "dataset": bundle.dataset}
    return write_manifest(folder, kind=KIND, format_number=FORMAT, content=content)


def _write_index(place: Path, tables: DomainTables, spec: IndexSpec) -> None:
    index = build_index(spec, tables.item_table[1:])
    faiss_api.write_index(index, place / f"{tables.name}.faiss")
    write_spec(spec, place / f"{tables.name}.json")


def _read_bundle(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Read the bundle of a release and check that all its parts are of one bundle."""
    place = folder / BUNDLE
    content = read_bundle_manifest(place)
    for name, digest in content["files"].items():
        if manifest["files"].get(f"{BUNDLE}/{name}") != digest:
            raise BadArtifactError(f"{place / name} is not the file its bundle was written with")
    bundle = Bundle.read(place, verify=False, mapped=True)
    for key, found in (("bundle", bundle.digest), ("dataset", bundle.dataset)):
        if manifest.get(key) != found:
            raise BadArtifactError(
                f"{folder / MANIFEST} names {key} {manifest.get(key)}, its bundle has {found}"
            )
    return bundle
