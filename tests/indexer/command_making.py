"""Real command lines of `indexer build` and `indexer update`, and what their releases answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.publish import versions
from indexer.release import Release
from indexer.search import Query
from model.files import digests_of
from tests.indexer.index_making import SIZES, WIDTH, write_small_bundle
from tests.indexer.update_making import items, listed

Answers = Mapping[str, tuple[list[str], list[float]]]
"""By domain, all ids and their scores in order."""

_LISTED = 1400


@dataclass(frozen=True, slots=True)
class Material:
    """Files in a folder that builds and updates are made from."""

    folder: Path

    def build(self, root: Path, *, bundle: str = "old", kind: str = "flat") -> list[str]:
        """Give the arguments of a build, with a candidate set and attributes of films."""
        return [
            *("indexer", "build", "--device", "cpu", "--index", kind, "--out", str(root)),
            *("--bundle", str(self.folder / bundle)),
            *("--candidates", f"chosen={self.folder / 'chosen'}"),
            *("--attributes", f"films={self.folder / 'colours'}"),
        ]

    def update(self, root: Path, version: str, *options: str) -> list[str]:
        """Give the arguments of an update that adds a book and removes films."""
        return [
            *("indexer", "update", "--device", "cpu", "--releases", str(root)),
            *("--version", version, "--add", f"books={self.folder / 'added'}"),
            *("--remove", f"films={self.folder / 'gone'}", *options),
        ]


def write_material(folder: Path) -> Material:
    """Write two bundles, `old` and `new`, and the files that builds and updates take."""
    for seed, name in enumerate(("old", "new"), start=1):
        write_small_bundle(folder / name, seed)
    films = [f"films-{item:05d}" for item in range(1, _LISTED)]
    listed(folder / "chosen", films)
    lines = (f"{film}\t{place % 40}\n" for place, film in enumerate(films))
    (folder / "colours").write_text("item_id\tcolour\n" + "".join(lines), encoding="utf-8")
    items(folder / "added", {"item_id": "new", "title": "New", "like": ["books-00001"]})
    listed(folder / "gone", films[5:700:7])
    return Material(folder)


def answers(folder: Path) -> Answers:
    """Load a release, every file checked, and ask each of its indexes for all items."""
    release = Release.read(folder, threads=1)
    asked = np.ones(WIDTH, np.float32)
    found: dict[str, tuple[list[str], list[float]]] = {}
    for name, index in release.indexes.items():
        (answer,) = index.search([Query(asked, max(SIZES.values()) + 1)])
        ids = [str(index.vocabulary.item_id(row)) for row in answer.rows.tolist()]
        found[name] = (ids, answer.scores.tolist())
    return found


def leftovers(root: Path) -> list[Path]:
    """List what is neither a version, nor the pointer, nor the lock."""
    known = {"LATEST", ".lock", *versions(root)}
    return [path for path in root.iterdir() if path.name not in known]


def content(folder: Path) -> dict[str, str]:
    """Digest every file below a folder, but the manifest right in it if there is one."""
    return digests_of(folder)
