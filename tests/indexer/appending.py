"""What the tests of updates that append to an index are made of: releases, random changes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.builders import group_of, levelled
from indexer.publish import latest
from indexer.release import FORMAT, KIND, Release
from indexer.spec import (
    HnswSpec,
    IndexSettings,
    IndexSpec,
    IvfByteSpec,
    IvfPqSpec,
    IvfSpec,
    MilvusSpec,
    read_spec,
)
from indexer.state import IndexState, Level, read_state, state_path
from indexer.update import Updated
from model.arrays import Floats
from model.bundle import Bundle, DomainTables, write_bundle
from model.files import publishing, write_manifest
from tests.indexer.index_making import (
    WIDTH,
    built_as,
    curved,
    tables_of,
)
from tests.indexer.update_making import items, listed, paired, updated

if TYPE_CHECKING:
    from indexer.change_files import Role

ITEMS = 600
SPECS: dict[str, IndexSpec] = {
    "hnsw": HnswSpec(links=8, effort=64),
    "ivf": IvfSpec(lists=20, probes=8),
    "ivf-int8": IvfByteSpec(lists=20, probes=8, rerank=4),
    "ivf-pq": IvfPqSpec(lists=20, group=1, probes=12, rerank=4),
}
KINDS = list(SPECS)
RECALL = 0.8


def first_release(tmp_path: Path, kind: str, items: int = ITEMS) -> Path:
    """Build a release of films on a bent surface, with users' vectors; return its root."""
    generator = np.random.default_rng(8)
    table = curved(items, WIDTH, generator)
    near = generator.integers(1, items, (200, 3))
    tables = tables_of("films", table, queries=table[near].mean(axis=1, dtype=np.float32))
    with publishing(tmp_path / "bundle") as folder:
        write_bundle(folder, [tables], {}, network={}, dataset="da" * 32, training={})
    kept = {*type(getattr(IndexSettings(), kind.replace("-", "_"))).model_fields}
    options = SPECS[kind].model_dump(include=kept)
    chosen = {"kind": kind, "recall": RECALL, kind.replace("-", "_"): options}
    built_as(Bundle.read(tmp_path / "bundle"), tmp_path / "releases", **chosen)
    return tmp_path / "releases"


@dataclass
class Films:
    """What a release should hold, changed at random beside it."""

    folder: Path
    vectors: dict[str, Floats]
    generator: np.random.Generator
    gone: set[str] = field(default_factory=set)
    rounds: int = 0

    @classmethod
    def of(cls, root: Path, seed: int) -> "Films":
        """Copy what a release holds."""
        tables = read_tables(root)
        vectors = dict(zip(tables.vocabulary.ids, tables.item_table[1:], strict=True))
        return cls(root.parent, vectors, np.random.default_rng(seed))

    def updated(self, root: Path, removed: int, added: int, rebuild_share: float = 0.1) -> Updated:
        """Remove some, rename one, add some between others, also ids that were removed before."""
        self.rounds += 1
        there = list(self.vectors)
        drawn = [there[place] for place in self.generator.permutation(len(there)).tolist()]
        gone, renamed, parents = drawn[:removed], drawn[removed], drawn[removed + 1 :]
        back = sorted(self.gone)[: added // 3]
        new = back + [f"films-{self.rounds:03d}-{place}" for place in range(added - len(back))]
        made: dict[str, Floats] = {}
        for place, item in enumerate(new):
            near = [self.vectors[parents[2 * place]], self.vectors[parents[2 * place + 1]]]
            made[item] = np.stack(near).mean(axis=0, dtype=np.float32)
        name = f"renamed-{self.rounds:03d}"
        self.vectors[name] = self.vectors.pop(renamed)
        for item in gone:
            del self.vectors[item]
        self.vectors |= made
        self.gone = (self.gone | {*gone, renamed}) - set(made)
        lines = [{"item_id": item, "vector": vector.tolist()} for item, vector in made.items()]
        changes: dict[Role, Path] = {
            "add": items(self.folder / "add", *lines),
            "remove": listed(self.folder / "remove", gone),
            "rename": paired(self.folder / "rename", {renamed: name}),
        }
        return updated(root, {"films": changes}, recall=RECALL, rebuild_share=rebuild_share)


def read_tables(root: Path) -> DomainTables:
    return Release.read(latest(root)).bundle.domain("films")


def state_of(root: Path) -> IndexState | None:
    place = latest(root) / "index" / "films.json"
    return read_state(state_path(place), spec_of(place))


def spec_of(path: Path) -> IndexSpec:
    """Read the spec of an index of FAISS."""
    spec = read_spec(path)
    assert not isinstance(spec, MilvusSpec)
    return spec


def levelled_for(spec: IndexSpec, vectors: Floats, level: Level | None = None) -> Floats:
    """Level vectors (V, D) as an index of this spec is built of them -> (V, C)."""
    return levelled(vectors, group_of(spec, vectors.shape[1]), level)


def reseal(release: Release) -> None:
    """Write a manifest to what is in a release."""
    told = {"bundle": release.bundle.digest, "dataset": release.dataset}
    write_manifest(release.folder, kind=KIND, format_number=FORMAT, content=told)
