"""The release: a bundle, indexes, candidate sets, attributes; loaded whole or not at all.

    manifest.json                     digests of bundle, dataset and every file
    bundle/                           a copy of the bundle
    index/<domain>.faiss              the index; position p holds the vector of row p + 1
    index/<domain>.json               the spec it was built to; of kind `milvus` it stands alone
    index/state/<domain>.json         if an update has appended to it: what has become of it
    candidates/<domain>/<name>.npy    named sets of rows
    attributes/<domain>/<name>.*.npy  the values that items have of an attribute

Everything but the manifest is covered by a digest in it, and what the manifest says beyond that
must agree with files that are. FAISS's own files carry no checksum: a flipped bit would be served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.attributes import DomainAttributes, read_attributes, write_attributes
from indexer.candidates import CandidateSet, read_sets, write_sets
from indexer.engine import Engine, Proposer, open_engine
from indexer.faiss_api import FaissIndex
from indexer.index_file import read_index, write_index
from indexer.installation import warn_of_two_faiss
from indexer.milvus_api import MilvusSettings
from indexer.milvus_engine import identity, open_collection
from indexer.placement import Device, Gpus, index_device
from indexer.publish import latest
from indexer.search import DomainIndex
from indexer.spec import IndexSpec, MilvusSpec, read_spec, write_spec
from indexer.state import IndexState, state_path, write_state
from model.bundle import Bundle, DomainTables, read_bundle_manifest
from model.errors import BadArtifactError
from model.files import MANIFEST, check_files, read_manifest, write_manifest
from model.settings import DeviceChoice

__all__ = ["Release", "add_index", "finish_release", "latest", "seal_release"]

KIND = "recguru-release"
FORMAT = 1
BUNDLE = "bundle"
INDEX = "index"
CANDIDATES = "candidates"
ATTRIBUTES = "attributes"

_NO_MILVUS = MilvusSettings()


@dataclass(frozen=True, slots=True)
class Release:
    """A loaded release."""

    folder: Path
    version: str
    """The folder's name."""
    digest: str
    """Covers every file: bundle, indexes, candidate sets, attributes."""
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
        device: DeviceChoice | Gpus = "cpu",
        verify: bool = True,
        threads: int | None = None,
        milvus: MilvusSettings = _NO_MILVUS,
    ) -> "Release":
        """Load a release folder.

        Args:
            folder: A version in a release root; see `latest`.
            device: Where the indexes are searched, if it is `auto` or `cuda` on the first GPU; see
                `index_device` for several. A release on GPUs is for one thread at a time.
            verify: Whether to check every file against its digest first.
            threads: Threads FAISS may use in a search on the CPU; none leaves it to OpenMP, which
                reads `OMP_NUM_THREADS`.
            milvus: Where Milvus runs, for a release whose index is kept there.

        Raises:
            NotFoundError: If it is no release folder.
            BadArtifactError: If it is of another format, damaged, or put together from parts of
                several; the message names the file.
            UnavailableDeviceError: If `cuda` is asked for and cannot be used.
            BadSettingError: If it is not said where Milvus runs, and it must be.
            UnavailableIndexError: If Milvus does not answer.
        """
        warn_of_two_faiss()
        manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
        if verify:
            check_files(folder, manifest)
        if not isinstance(manifest.get("files"), dict) or not manifest.get("digest"):
            raise BadArtifactError(f"{folder / MANIFEST} is damaged: it lists no files")
        bundle = _read_bundle(folder, manifest)
        where = device if isinstance(device, Gpus) else index_device(device)
        indexes = {}
        for tables in bundle.domains:
            items = len(tables.vocabulary)
            path = folder / INDEX / f"{tables.name}.json"
            spec = read_spec(path)
            engine: Engine | Proposer
            if isinstance(spec, MilvusSpec):
                table, whose = tables.item_table, identity(bundle.digest, tables.name, items)
                engine = open_collection(path, spec, whose, table, milvus, threads=threads)
            else:
                engine = _open_file(path, spec, tables, where, threads=threads)
            sets = read_sets(folder / CANDIDATES / tables.name, items)
            attributes = read_attributes(folder / ATTRIBUTES / tables.name, items)
            indexes[tables.name] = DomainIndex(tables, spec.kind, engine, sets, attributes)
        digest = str(manifest["digest"])
        return cls(folder, folder.name, digest, bundle.dataset, bundle, indexes)


def _open_file(
    path: Path, spec: IndexSpec, tables: DomainTables, where: Device, *, threads: int | None
) -> Engine | Proposer:
    """Open the index of FAISS that lies beside its spec."""
    index = read_index(path.with_suffix(".faiss"), spec, tables.item_table[1:])
    return open_engine(where, spec, index, tables.item_table, threads=threads)


def add_index(
    folder: Path, domain: str, spec: IndexSpec, index: FaissIndex, state: IndexState | None = None
) -> None:
    """Write the index of a domain, its spec and its state, if it has one, into a release folder."""
    place = folder / INDEX
    place.mkdir(exist_ok=True)
    write_index(index, spec, place / f"{domain}.faiss")
    write_spec(spec, place / f"{domain}.json")
    if state is not None:
        write_state(state, state_path(place / f"{domain}.faiss"))


def finish_release(
    folder: Path,
    bundle: Bundle,
    sets: Sequence[CandidateSet],
    attributes: Sequence[DomainAttributes],
) -> str:
    """Make a release of a folder that holds a copy of a bundle and an index of each domain.

    Args:
        folder: The folder.
        bundle: The bundle whose copy lies in `bundle/`.
        sets: Candidate sets.
        attributes: Attributes of items, at most once a domain.

    Returns:
        The release's digest.
    """
    write_sets(folder / CANDIDATES, sets)
    write_attributes(folder / ATTRIBUTES, attributes)
    return seal_release(folder, bundle)


def seal_release(folder: Path, bundle: Bundle) -> str:
    """Write the manifest of a release folder that lacks nothing else; return its digest."""
    content = {"bundle": bundle.digest, "dataset": bundle.dataset}
    return write_manifest(folder, kind=KIND, format_number=FORMAT, content=content)


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
