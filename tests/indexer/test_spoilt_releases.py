"""Releases of any kind that are damaged or mixed are refused, and the file is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.publish import latest
from indexer.release import Release
from model.errors import BadArtifactError
from model.files import MANIFEST, canonical_json, digest_of, digests_of, write_bytes_atomically
from tests.commands import Command
from tests.golden.asked import HERE
from tests.indexer.command_making import write_material
from tests.indexer.update_making import listed

CHECKOUT = Path(__file__).parents[2]
SOME = {"flat", "hnsw", "ivf-pq"}
APPROXIMATE = ["flat-f16", "flat-int8", "hnsw", "ivf", "ivf-int8", "ivf-pq"]
KINDS = [path for path in sorted(HERE.glob("release-*/*")) if path.is_dir()]


@pytest.mark.parametrize(
    ("releases", "cuts", "flips"),
    [
        pytest.param([kind for kind in KINDS if kind.name in SOME], 2, 1, id="some"),
        *(pytest.param([kind], 16, 200, id=kind.name, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_file_cut_short_or_flipped_is_refused_by_name_and_ends_no_process(
    tmp_path: Path, releases: list[Path], cuts: int, flips: int
) -> None:
    command = [sys.executable, "-m", "tests.indexer.spoilt_releases", str(tmp_path)]
    done = subprocess.run(
        [*command, str(cuts), str(flips), *map(str, releases)],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"after {last}: {done.stderr[-3000:]}"
    counted = json.loads(last[0])
    files = sum(path.is_file() for release in releases for path in release.rglob("*"))
    assert files * (cuts + flips) * 0.95 < counted["tried"] <= files * (cuts + flips)
    assert 0 < counted["served"] < counted["tried"]


def mixed(folder: Path, name: str, theirs: Path, *, listed: bool, forged: bool) -> str:
    """Put a file of another release in place of one's own; give why that is refused, if it is.

    Args:
        folder: The release, which is as it was afterwards.
        name: The file.
        theirs: The other release.
        listed: Whether the manifest's entry of the file comes along.
        forged: Whether the manifest's own digest is made anew.
    """
    path, manifest = folder / name, folder / MANIFEST
    before = path.read_bytes(), manifest.read_bytes()
    write_bytes_atomically(path, (theirs / name).read_bytes())
    if listed:
        stated, others = (json.loads((each / MANIFEST).read_bytes()) for each in (folder, theirs))
        stated["files"][name] = others["files"][name]
        if forged:
            stated["digest"] = digest_of(stated["files"])
        write_bytes_atomically(manifest, canonical_json(stated))
    try:
        Release.read(folder)
    except BadArtifactError as error:
        return str(error)
    finally:
        write_bytes_atomically(path, before[0])
        write_bytes_atomically(manifest, before[1])
    return ""


@pytest.mark.parametrize(
    "kind", ["flat", *(pytest.param(kind, marks=pytest.mark.slow) for kind in APPROXIMATE)]
)
def test_files_of_two_releases_never_mix(tmp_path: Path, kind: str, recguru: Command) -> None:
    material = write_material(tmp_path)
    assert recguru(*material.build(tmp_path / "ours", kind=kind)).code == 0
    listed(material.folder / "chosen", [f"films-{item:05d}" for item in range(9, 900, 2)])
    colours = (material.folder / "colours").read_text(encoding="utf-8")
    (material.folder / "colours").write_text(colours.replace("\t7\n", "\t9\n"), encoding="utf-8")
    assert recguru(*material.build(tmp_path / "theirs", bundle="new", kind=kind)).code == 0
    ours, theirs = latest(tmp_path / "ours"), latest(tmp_path / "theirs")
    before, other = digests_of(ours), digests_of(theirs)
    assert before.keys() == other.keys()
    differing = [name for name in before if before[name] != other[name]]

    for name in differing:
        assert str(ours / name) in mixed(ours, name, theirs, listed=False, forged=False)
        said = mixed(ours, name, theirs, listed=True, forged=False)
        assert said == f"{ours / MANIFEST} is damaged: its digest does not match its list"
    forged = {name: mixed(ours, name, theirs, listed=True, forged=True) for name in differing}
    believed = {name for name, said in forged.items() if not said}
    # Whoever writes the digest anew has made a release that a build might have made. Where an index
    # is only asked for proposals, or a set holds rows that are there, nothing contradicts it.
    assert "candidates/films/chosen.npy" in believed
    assert believed <= {
        "candidates/films/chosen.npy",
        *(f"index/{name}" for name in ("books.faiss", "films.faiss") if kind != "flat"),
        *(f"index/{name}" for name in ("books.json", "films.json")),
    }
    assert all(str(ours) in said for said in forged.values() if said)
