"""What the tests of updates are made of: files of changes, and a slow double of a release.

Shapes: D width.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.change_files import Role
from indexer.publish import latest
from indexer.release import Release
from indexer.search import DomainIndex, Query
from indexer.spec import IndexSettings
from indexer.store import Store
from indexer.update import Updated, update
from model.arrays import Floats
from tests.indexer.index_making import silent

SET, ATTRIBUTE = "chosen", "colour"
COLOURS = ("red", "green", "blue")


def updated(
    root: Path,
    files: Mapping[str, Mapping[Role, Path]],
    *,
    version: str | None = None,
    activate: bool = True,
    **settings: object,
) -> Updated:
    """Update a version, the latest if none is named, on the CPU."""
    active = latest(root)
    release = Release.read(active if version is None else root / version)
    chosen = IndexSettings.model_validate({"device": "cpu", **settings})
    replaces = active.name if activate else None
    return update(release, Store(root), files, settings=chosen, advance=silent, replaces=replaces)


def listed(path: Path, ids: Iterable[str]) -> Path:
    """Write ids, one a line."""
    path.write_text("".join(f"{item}\n" for item in ids), encoding="utf-8")
    return path


def paired(path: Path, pairs: Mapping[str, object]) -> Path:
    """Write pairs, parted by a tab."""
    lines = (f"{key}\t{value}\n" for key, value in pairs.items())
    path.write_text("".join(lines), encoding="utf-8")
    return path


def items(path: Path, *added: Mapping[str, object]) -> Path:
    """Write items to add."""
    path.write_text("".join(f"{json.dumps(item)}\n" for item in added), encoding="utf-8")
    return path


@dataclass
class Double:
    """A domain as dictionaries by item id, changed by hand beside the release."""

    vectors: dict[str, list[float]]
    shares: dict[str, float]
    chosen: set[str]
    colours: dict[str, str]
    gone: set[str]

    @classmethod
    def of(cls, index: DomainIndex) -> "Double":
        """Copy what a release says of a domain that was never updated."""
        ids = list(index.vocabulary.ids)
        (popular,) = index.search([Query(None, len(ids))])
        shares: dict[str, float] = {
            index.vocabulary.item_id(row): share
            for row, share in zip(popular.rows.tolist(), popular.scores.tolist(), strict=True)
        }
        return cls(
            dict(zip(ids, index.item_table[1:].tolist(), strict=True)),
            shares,
            {item for place, item in enumerate(ids) if chosen(place)},
            {item: colour(place) for place, item in enumerate(ids)},
            set(),
        )

    def change(self, folder: Path, generator: np.random.Generator, tag: str) -> dict[Role, Path]:
        """Draw an update, follow it, and write its files."""
        there = list(self.vectors)
        drawn = [there[place] for place in generator.permutation(len(there))[:12].tolist()]
        renamed = {old: f"{tag}-was-{old[-9:]}" for old in drawn[4:7]}
        width = len(self.vectors[drawn[0]])
        vector = generator.standard_normal(width).astype(np.float32).tolist()
        added = [
            {"item_id": f"a-{tag}", "title": f"Title {tag}", "like": [*drawn[7:10], "nobody"]},
            {"item_id": f"zz-{tag}", "vector": vector},
            {"item_id": f"films-0{tag}é", "like": drawn[0:2]},
        ]
        made = {
            f"a-{tag}": self._mean(drawn[7:10]),
            f"zz-{tag}": vector,
            f"films-0{tag}é": self._mean(drawn[0:2]),
        }
        for item in drawn[:4]:
            del self.vectors[item], self.shares[item]
            self.colours.pop(item, None)
        self.chosen -= set(drawn[:4])
        self.rename(renamed)
        self.vectors |= made
        self.shares |= dict.fromkeys(made, 0.0)
        total = sum(self.shares.values())
        self.shares = {item: share / total for item, share in self.shares.items()}
        self.gone |= set(drawn[:4])
        return {
            "add": items(folder / "add", *added),
            "remove": listed(folder / "remove", drawn[:4]),
            "rename": paired(folder / "rename", renamed),
        }

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename all at once."""
        self.vectors = {names.get(item, item): own for item, own in self.vectors.items()}
        self.shares = {names.get(item, item): own for item, own in self.shares.items()}
        self.colours = {names.get(item, item): own for item, own in self.colours.items()}
        self.chosen = {names.get(item, item) for item in self.chosen}
        self.gone |= names.keys() - set(names.values())

    def best(self, vector: Floats, k: int, among: set[str] | None = None) -> dict[str, float]:
        """Score all items one by one, in float64; the k best, in order."""
        wide = vector.astype(np.float64)
        scores = {
            item: float(np.float32(np.dot(np.array(own, np.float64), wide)))
            for item, own in self.vectors.items()
            if among is None or item in among
        }
        order = sorted(scores, key=lambda item: (-scores[item], item))
        return {item: scores[item] for item in order[:k]}

    def _mean(self, ids: Iterable[str]) -> list[float]:
        mean = np.mean([self.vectors[item] for item in ids], axis=0)
        return [float(number) for number in mean.astype(np.float32)]


def chosen(place: int) -> bool:
    """Say whether the item at a place in the first order of ids is in the candidate set."""
    return place % 3 == 0


def colour(place: int) -> str:
    """Say which colour the item at a place in the first order of ids has."""
    return COLOURS[place % 7 % 3]


def write_colours(path: Path, ids: Iterable[str]) -> Path:
    """Write the table of attributes."""
    lines = (f"{item}\t{colour(place)}\n" for place, item in enumerate(ids))
    path.write_text(f"item_id\t{ATTRIBUTE}\n" + "".join(lines), encoding="utf-8")
    return path


def answer(index: DomainIndex, query: Query) -> dict[str, float]:
    """Ask an index; ids and their scores, in order."""
    (found,) = index.search([query])
    ids = [index.vocabulary.item_id(row) for row in found.rows.tolist()]
    return dict(zip(ids, found.scores.tolist(), strict=True))
