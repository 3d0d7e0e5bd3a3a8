"""The bundle: a trained model on disk, all that serving and indexing need, readable without torch.

    manifest.json                 kind, format, network settings, what it was trained on, digests
    networks.safetensors          the weights of every network
    <domain>/tables.safetensors   `item_table` (V + 1, D) float32 and `popularity` (V + 1,) float32
    <domain>/queries.safetensors  `preferences` (Q, D) float32 of some users; may be missing
    <domain>/items.*.npy          the domain's vocabulary, and titles.*.npy where known

Shapes: V items of a domain, D width, Q users whose preferences are kept; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.arrays import Floats
from model.data.vocabulary import Vocabulary
from model.errors import BadArtifactError, NotFoundError
from model.files import MANIFEST, check_files, read_manifest, write_manifest
from model.tensor_files import read_arrays, writing_tensors

KIND = "recguru-bundle"
FORMAT = 1
NETWORKS = "networks.safetensors"
TABLES = "tables.safetensors"
QUERIES = "queries.safetensors"
_CONTENT = {"domains": list, "network": dict, "dataset": str, "files": dict, "digest": str}


@dataclass(frozen=True, slots=True)
class DomainTables:
    """What ranks the items of one domain."""

    name: str
    vocabulary: Vocabulary
    item_table: Floats
    """Items as they are scored, (V + 1, D); the padding row is zeros. Scores are inner products
    with it."""
    popularity: Floats
    """Share of the training interactions each item has, (V + 1,); 0 for padding, sums to 1."""
    queries: Floats | None = None
    """Preference vectors of some users as they stood at validation, (Q, D), to tune and judge an
    index with; None where the bundle holds none."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle folder, network weights not read yet."""

    folder: Path
    digest: str
    dataset: str
    """Digest of the dataset it was trained on."""
    network: Mapping[str, Any]
    """The network settings, as `model.networks.settings.NetworkSettings` takes them."""
    domains: tuple[DomainTables, ...]
    mapped: bool = False
    """Whether tables and weights are views of the files; see `model.tensor_files.read_arrays`."""

    @classmethod
    def read(cls, folder: Path, *, verify: bool = True, mapped: bool = False) -> "Bundle":
        """Open a bundle folder.

        Args:
            folder: The folder that training wrote, `RUN/bundle`.
            verify: Whether to check every file against its digest first.
            mapped: Whether to map tables and weights; for folders that are never written to again.

        Raises:
            NotFoundError: If it is not a bundle folder.
            BadArtifactError: If it is of another format or damaged, or a table holds a number that
                is not finite; the file is named.
        """
        manifest = read_bundle_manifest(folder)
        if verify:
            check_files(folder, manifest)
        domains = tuple(_read_domain(folder / name, mapped=mapped) for name in manifest["domains"])
        return cls(
            folder,
            str(manifest["digest"]),
            str(manifest["dataset"]),
            manifest["network"],
            domains,
            mapped,
        )

    def weights(self) -> dict[str, NDArray[Any]]:
        """Read the weights of every network, by the name they have in the module tree.

        Raises:
            NotFoundError: If the file is missing.
            BadArtifactError: If it is damaged or a weight is not float32.
        """
        path = self.folder / NETWORKS
        arrays = read_arrays(path, mapped=self.mapped)
        _check_types(arrays, path)
        return arrays

    def domain(self, name: str) -> DomainTables:
        """Return the tables of the domain of that name.

        Raises:
            NotFoundError: If there is none; the message names those there are.
        """
        for domain in self.domains:
            if domain.name == name:
                return domain
        known = ", ".join(domain.name for domain in self.domains)
        raise NotFoundError(f"domain {name!r} is not in the bundle; it has {known}")


def read_bundle_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle folder and check that it holds what a bundle's does.

    Raises:
        NotFoundError: If it is not a bundle folder.
        BadArtifactError: If the manifest is damaged or of another format.
    """
    manifest = read_manifest(folder, kind=KIND, format_number=FORMAT)
    for key, kind in _CONTENT.items():
        if not isinstance(manifest.get(key), kind):
            raise BadArtifactError(f"{folder / MANIFEST} is damaged: {key} is no {kind.__name__}")
    for name in manifest["domains"]:
        if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name:
            raise BadArtifactError(f"{folder / MANIFEST} is damaged: {name!r:.64} names no domain")
    return manifest


def write_bundle(
    folder: Path,
    domains: Sequence[DomainTables],
    weights: Mapping[str, NDArray[Any]],
    *,
    network: Mapping[str, Any],
    dataset: str,
    training: Mapping[str, Any],
) -> str:
    """Fill an empty folder (see `model.files.publishing`) with a bundle; return its digest.

    Args:
        folder: An empty, temporary folder.
        domains: The tables of each domain, in the dataset's order.
        weights: The weights of every network, by name.
        network: The network settings, as plain values.
        dataset: The dataset's digest.
        training: How it was trained (settings, seed, figures), as plain values.

    Raises:
        BadArtifactError: If a table or weight is not finite.
        RecGuruError: If the disk is full.
    """
    for domain in domains:
        place = folder / domain.name
        place.mkdir()
        domain.vocabulary.write(place)
        tables = {"item_table": domain.item_table, "popularity": domain.popularity}
        _save(tables, folder, Path(domain.name, TABLES))
        if domain.queries is not None:
            _save({"preferences": domain.queries}, folder, Path(domain.name, QUERIES))
    _save(weights, folder, Path(NETWORKS))
    content = {
        "domains": [domain.name for domain in domains],
        "network": dict(network),
        "dataset": dataset,
        "training": dict(training),
    }
    return write_manifest(folder, kind=KIND, format_number=FORMAT, content=content)


def _save(arrays: Mapping[str, NDArray[Any]], folder: Path, name: Path) -> None:
    _check_finite(arrays, name)
    # safetensors writes the memory as it lies, whatever the order of the axes.
    ordered = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    with writing_tensors(folder / name):
        save_file(ordered, folder / name)


def _read_domain(place: Path, *, mapped: bool) -> DomainTables:
    path = place / TABLES
    arrays = read_arrays(path, mapped=mapped)
    vocabulary = Vocabulary.read(place)
    try:
        item_table, popularity = arrays["item_table"], arrays["popularity"]
    except KeyError as error:
        raise BadArtifactError(f"{path} holds no {error}") from None
    rows = len(vocabulary) + 1
    axes = (item_table.ndim, popularity.ndim)
    if axes != (2, 1):
        raise BadArtifactError(f"{path} holds tables of {axes[0]} and {axes[1]} axes, not 2 and 1")
    if (len(item_table), len(popularity)) != (rows, rows):
        raise BadArtifactError(
            f"{path} holds tables of {len(item_table)} and {len(popularity)} rows, not {rows}"
        )
    _check_types(arrays, path)
    _check_finite(arrays, path)
    queries = _read_queries(place / QUERIES, item_table.shape[1], mapped=mapped)
    return DomainTables(place.name, vocabulary, item_table, popularity, queries)


def _read_queries(path: Path, width: int, *, mapped: bool) -> Floats | None:
    if not path.exists():
        return None
    arrays = read_arrays(path, mapped=mapped)
    try:
        queries = arrays["preferences"]
    except KeyError as error:
        raise BadArtifactError(f"{path} holds no {error}") from None
    if queries.ndim != 2 or queries.shape[1] != width:  # noqa: PLR2004  # axes
        raise BadArtifactError(
            f"{path} holds preferences of shape {queries.shape}, not (*, {width})"
        )
    _check_types(arrays, path)
    _check_finite(arrays, path)
    return queries


def _check_types(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise BadArtifactError(f"{path}: {name} is {array.dtype}, not float32")


def _check_finite(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BadArtifactError(f"{path}: {name} holds a number that is not finite")
