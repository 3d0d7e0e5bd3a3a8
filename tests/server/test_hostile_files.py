"""A release with a spoilt file is refused in one line or serves; nothing else, and at once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from indexer.publish import latest
from model.errors import BadArtifactError
from model.files import MANIFEST
from server.engine import Engine
from tests.server.hostile_files import LIMIT_S, forge
from tests.server.processes import CHECKOUT

SEED = 11
START_S = 60.0  # torch is slow to come where the cores are busy
MOST_CRASHES = 10
MANIFEST_OF_BUNDLE = f"bundle/{MANIFEST}"
TABLES = "bundle/books/tables.safetensors"
WEIGHTS = "bundle/networks.safetensors"
TEXT = "bundle/films/items.text.npy"
ENDS = "bundle/films/items.ends.npy"
INDEX = "index/films.faiss"
SET = "candidates/films/every-third.npy"
BITS = "attributes/films/genre.bits.npy"
VALUES = "attributes/films/genre.text.npy"

Change = Callable[[Path], object]


def tried(release: Path, work: Path, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Load spoilt copies of a release in a process; give what was tried and what came of it."""
    first = 0
    for _ in range(MOST_CRASHES):
        command = [sys.executable, "-m", "tests.server.hostile_files"]
        done = subprocess.run(
            [*command, *map(str, (release, work, SEED, first, count))],
            cwd=CHECKOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=START_S + count / 4,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        yield from zip(lines[::2], lines[1::2], strict=False)
        if done.returncode == 0:
            return
        assert len(lines) % 2, done.stderr  # else it did not end in a release
        yield lines[-1], {"fault": f"exit status {done.returncode}: {done.stderr[-3000:]}"}
        first = lines[-1]["number"] + 1
    pytest.fail(f"more than {MOST_CRASHES} releases end the process that loads them")


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_spoilt_release_is_refused_or_serves(releases: Path, tmp_path: Path, count: int) -> None:
    outcomes = list(tried(latest(releases), tmp_path, count))

    assert [spoilt["number"] for spoilt, _ in outcomes] == list(range(count))
    faults = [(spoilt, outcome["fault"]) for spoilt, outcome in outcomes if "fault" in outcome]
    assert not faults
    assert not [spoilt for spoilt, outcome in outcomes if outcome["seconds"] > LIMIT_S]
    refusals = [(spoilt, outcome.get("refusal")) for spoilt, outcome in outcomes]
    unclear = [
        (spoilt, refusal)
        for spoilt, refusal in refusals
        if refusal and ("\n" in refusal or f"release-{spoilt['number']}" not in refusal)
    ]
    assert not unclear
    # What no digest covers in a manifest, such as a space, may change.
    missed = [
        spoilt
        for spoilt, refusal in refusals
        if not (refusal or spoilt["forged"] or spoilt["intact"] or spoilt["file"] == MANIFEST)
    ]
    assert not missed
    assert sum(refusal is not None for _, refusal in refusals) > count / 2


def written(content: bytes) -> Change:
    return lambda path: path.write_bytes(content)


def headed(header: str) -> Change:
    """Give an npy file another header."""
    packed = header.encode() + b"\n"
    front = b"\x93NUMPY\x01\x00" + len(packed).to_bytes(2, "little") + packed
    return lambda path: path.write_bytes(front + path.read_bytes()[128:])


def saved(array: NDArray[np.uint8]) -> Change:
    """Put another array into an npy file."""
    return lambda path: np.save(path, array)


def archived(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, rows=np.arange(3))


def stating(**values: object) -> Change:
    """Give a manifest other values, or none where the value is `...`."""

    def change(path: Path) -> None:
        manifest = json.loads(path.read_bytes()) | values
        kept = {key: value for key, value in manifest.items() if value is not ...}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return change


def holding(name: str, *, axes: int | None = None, dtype: str = "float32") -> Change:
    """Change an array of a safetensors file: keep the first numbers alone, or write other types."""

    def change(path: Path) -> None:
        arrays = load_file(path)
        first = tuple([0] * (arrays[name].ndim - axes)) if axes is not None else ()
        arrays[name] = np.array(arrays[name][first], dtype)
        save_file(arrays, path)

    return change


def overwritten(number: float) -> Change:
    """Put a number in place of the last of a FAISS index."""
    packed = np.float32(number).tobytes()
    return lambda path: path.write_bytes(path.read_bytes()[: -len(packed)] + packed)


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
UNREADABLE = r"items\.(text|ends)\.npy cannot be read: "
DAMAGED = r"bundle/manifest\.json is damaged: "


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TEXT, written(b""), UNREADABLE),
        (TEXT, written(b"PK\x03\x04 no archive"), UNREADABLE),
        (TEXT, archived, UNREADABLE),
        (ENDS, headed("{'descr': '<i8', 'shape': (300,),"), UNREADABLE + ".*multi-line"),
        (ENDS, headed(HEADER % ("<i8", "(True,)")), UNREADABLE),
        (ENDS, headed(HEADER % ("<i8", f"({2**70},)")), UNREADABLE),
        (ENDS, headed(HEADER % ("|O", "(300,)")), UNREADABLE + ".*Python objects"),
        (SET, written(b"PK\x03\x04 no archive"), r"every-third\.npy cannot be read: "),
        (SET, archived, r"every-third\.npy cannot be read: "),
        (SET, headed(HEADER % ("<i4", f"({2**44},)")), r"every-third\.npy cannot be read: "),
        (SET, saved(np.full(38, 255, np.uint8)), r"every-third\.npy is no bitmap of rows between"),
        (BITS, written(b""), r"genre\.bits\.npy cannot be read: "),
        (BITS, archived, r"genre\.bits\.npy cannot be read: "),
        (BITS, headed(HEADER % ("|u1", f"({2**60}, 38)")), r"genre\.bits\.npy cannot be read: "),
        (BITS, headed(HEADER % ("|u1", "(38, 4)")), r"genre\.bits\.npy does not hold a bitmap of "),
        (BITS, saved(np.full((4, 38), 255, np.uint8)), r"genre\.bits\.npy marks rows that are not"),
        (VALUES, written(b""), r"genre\.text\.npy cannot be read: "),
        (VALUES, saved(np.zeros(21, np.uint8)), r"text\.npy: the strings end at \d+ of 21 bytes$"),
        (INDEX, overwritten(np.nan), r"films\.faiss holds other vectors than the item table$"),
        (INDEX, overwritten(1.5), r"films\.faiss holds other vectors than the item table$"),
        (MANIFEST_OF_BUNDLE, stating(domains=...), f"{DAMAGED}domains is no list"),
        (MANIFEST_OF_BUNDLE, stating(domains=7), f"{DAMAGED}domains is no list"),
        (MANIFEST_OF_BUNDLE, stating(domains=[1.5]), f"{DAMAGED}1.5 names no domain"),
        (MANIFEST_OF_BUNDLE, stating(domains=["../books"]), f"{DAMAGED}'../books' names no"),
        (MANIFEST_OF_BUNDLE, stating(domains=["x" * 300]), "cannot be read: .*too long"),
        (MANIFEST_OF_BUNDLE, stating(network=...), f"{DAMAGED}network is no dict"),
        (MANIFEST_OF_BUNDLE, stating(network=[0, 0]), f"{DAMAGED}network is no dict"),
        (MANIFEST_OF_BUNDLE, stating(files="books"), f"{DAMAGED}files is no dict"),
        (TABLES, holding("popularity", axes=0), r"tables of 2 and 0 axes, not 2 and 1$"),
        (TABLES, holding("item_table", axes=0), r"tables of 0 and 1 axes, not 2 and 1$"),
        (TABLES, holding("item_table", axes=1), r"tables of 1 and 1 axes, not 2 and 1$"),
        (TABLES, holding("item_table", dtype="int32"), r"item_table is int32, not float32$"),
        (TABLES, holding("popularity", dtype="float64"), r"popularity is float64, not float32$"),
        (
            WEIGHTS,
            holding("gur_encoder.encoder.norm.bias", dtype="float64"),
            r"networks\.safetensors: gur_encoder\.encoder\.norm\.bias is float64, not float32$",
        ),
    ],
)
def test_what_no_digest_catches_is_refused_by_name(
    releases: Path, tmp_path: Path, name: str, change: Change, message: str
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(latest(releases), folder)
    change(folder / name)
    forge(folder, name)

    with pytest.raises(BadArtifactError, match=message) as refusal:
        Engine.load(folder, device="cpu").probe()

    assert str(folder) in str(refusal.value)
    assert len(str(refusal.value)) < 1000
