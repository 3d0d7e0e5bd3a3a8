"""Make the golden folders of the formats that this version writes.

    python -m tests.golden.make

A golden folder is never made again: what is there was written by the code of its day, and all later
code must read it. When a format number is raised, this makes the folder of the new format beside
those of the old ones. All data is made up.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from indexer.build import Extras, build
from indexer.release import FORMAT as RELEASE_FORMAT
from indexer.release import Release
from indexer.spec import KINDS, IndexSettings
from indexer.store import Store
from indexer.update import update
from model.bundle import Bundle
from model.console import fail
from model.data.dataset import FORMAT as DATASET_FORMAT
from model.data.dataset import Dataset, DomainData, Sequences, write_dataset
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import RecGuruError
from model.files import canonical_json, publishing
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.training.export import export_bundle
from model.training.neighbours import likest_items
from tests.golden.asked import COLD, EXPECTED, FEW, HERE, THIRD, Answer, answers_of, content_of

ITEMS = {"books": 60, "films": 100}
USERS = {"books": 40, "films": 50}
SHARED = 15
SETTINGS = NetworkSettings(
    width=8, heads=2, layers=1, feed_forward=8, max_history=12, recent=8, neighbours=2
)
GAP = 1e-4
"""Scores that stand next to each other are at least so far apart, whatever rounds them."""
_WIDER = 10
_THOROUGH = {
    "ivf": {"lists": 8, "probes": 8},
    "ivf_int8": {"lists": 8, "probes": 8, "rerank": 8},
    "ivf_pq": {"lists": 8, "probes": 8, "rerank": 64},
    "hnsw": {"links": 8, "effort": 200},
}
"""Searched so hard that every kind finds what `flat` does."""
_GENRES = ("crime", "horror", "löve")


def main() -> None:
    """Make what is not there yet beside this module."""
    try:
        make_all(HERE)
    except RecGuruError as error:
        fail(str(error))
        sys.exit(1)


def make_all(place: Path) -> None:
    """Make a golden dataset and golden releases of it.

    Raises:
        RecGuruError: If one of the folders is there already; then none is made.
    """
    dataset, releases = place / f"dataset-{DATASET_FORMAT}", place / f"release-{RELEASE_FORMAT}"
    there = [folder for folder in (dataset, releases) if folder.exists()]
    if len(there) == len((dataset, releases)):
        raise RecGuruError(f"{', '.join(map(str, there))} exist already; golden files stay")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _make_dataset(work / "dataset")
        made = _make_releases(work)
        if dataset not in there:
            _finish(dataset, {"dataset": work / "dataset"}, content_of)
        if releases not in there:
            _finish(releases, made, answers_of)


def _finish(place: Path, folders: Mapping[str, Path], read: Callable[[Path], Answer]) -> None:
    with publishing(place) as made:
        for name, folder in folders.items():
            shutil.copytree(folder, made / name)
        expected = {name: read(made / name) for name in folders}
        (made / EXPECTED).write_bytes(canonical_json(expected))


def _make_dataset(folder: Path) -> None:
    generator = np.random.default_rng(5)
    books, films = (_domain(name, generator) for name in ITEMS)
    places = {user: place for place, user in enumerate(films.users)}
    pairs = [(place, places[user]) for place, user in enumerate(books.users) if user in places]
    with publishing(folder) as place:
        write_dataset(
            place, (books, films), np.asarray(pairs, np.int32), made={"by": "golden"}, report={}
        )


def _domain(name: str, generator: np.random.Generator) -> DomainData:
    items, users = ITEMS[name], USERS[name]
    ids = [f"{name}-{item:03d}" for item in range(items)]
    vocabulary = Vocabulary(StringTable.of(ids), StringTable.of(f"Títle of {item}" for item in ids))
    popular = 1 / np.arange(1, items + 1)
    lists = [
        generator.choice(items, length, replace=False, p=popular / popular.sum()) + 1
        for length in generator.integers(1, 16, users)
    ]
    own = [f"{name}-reader-{user}" for user in range(users - SHARED)]
    names = sorted([f"shared-{user:02d}" for user in range(SHARED)] + own)
    sequences = Sequences.of([rows.astype(np.int32) for rows in lists])
    return DomainData(name, vocabulary, StringTable.of(names), sequences)


def _make_bundle(work: Path) -> Bundle:
    dataset = Dataset.read(work / "dataset")
    networks = ServingNetworks(ITEMS, SETTINGS)
    initialise(networks, torch.Generator().manual_seed(3))
    with torch.no_grad():
        for name, weight in networks.named_parameters():
            if "embedding" in name:  # items far enough apart for each of a history to count
                weight.mul_(_WIDER)
    for domain in dataset.domains:
        found, shares = likest_items(domain.sequences, ITEMS[domain.name], SETTINGS.neighbours)
        embedding = networks.recommender(domain.name).embedding
        embedding.mix_neighbours(torch.from_numpy(found), torch.from_numpy(shares))
    export_bundle(work / "bundle", dataset, networks, SETTINGS, training={"by": "golden"})
    return Bundle.read(work / "bundle")


def _make_releases(work: Path) -> dict[str, Path]:
    bundle = _make_bundle(work)
    every = [item for name in ITEMS for item in bundle.domain(name).vocabulary.ids]
    sets = {
        FEW: _written(work / FEW, ["films-004", "films-050", "films-077"]),
        THIRD: _written(work / THIRD, every[::3]),
    }
    attributes = {"films": _written(work / "attributes.tsv", _attributes(bundle))}
    made: dict[str, Path] = {
        kind: build(
            bundle,
            Store(work / "releases"),
            settings=IndexSettings.model_validate({"device": "cpu", "kind": kind, **_THOROUGH}),
            extras=Extras(candidates=sets, attributes=attributes),
            advance=_silent,
        ).folder
        for kind in KINDS
    }
    made["updated"] = _update(work, made["flat"])
    _check_gaps({name: answers_of(folder) for name, folder in made.items()})
    return made


def _update(work: Path, folder: Path) -> Path:
    added = [
        {"item_id": COLD, "title": "Cöld", "like": ["films-001", "films-002"]},
        {"item_id": "films-own", "vector": np.linspace(-3, 3, SETTINGS.width).tolist()},
    ]
    return update(
        Release.read(folder),
        Store(work / "releases"),
        {
            "films": {
                "add": _written(work / "added", map(json.dumps, added)),
                "remove": _written(work / "gone", ["films-000", "films-010"]),
                "rename": _written(work / "names", ["films-020\tfilms-renamed"]),
            }
        },
        settings=IndexSettings(device="cpu"),
        advance=_silent,
        replaces=None,
    ).folder


def _attributes(bundle: Bundle) -> Iterable[str]:
    yield "item_id\tgenre\tdecade"
    for place, item in enumerate(bundle.domain("films").vocabulary.ids):
        genres = {_GENRES[place % 3], _GENRES[place // 3 % 3]} if place % 7 else set()
        yield f"{item}\t{'|'.join(sorted(genres))}\t{1950 + place % 5 * 10}s"


def _check_gaps(made: Mapping[str, Answer]) -> None:
    """Check that no order rests on rounding, and that every kind answers alike."""
    flat = made["flat"]["recommended"]
    for name, answers in made.items():
        for question, answer in answers["recommended"].items():
            gaps = -np.diff(answer["scores"])
            if answer["basis"] != "POPULARITY" and (gaps < GAP).any():
                raise RecGuruError(f"{name}: {question}: scores lie {gaps.min()} apart")
            if name != "updated" and answer != flat[question]:
                raise RecGuruError(f"{name}: {question}: not answered as flat does")


def _written(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _silent(steps: int = 1, *, note: str = "") -> None:
    del steps, note


if __name__ == "__main__":
    main()
