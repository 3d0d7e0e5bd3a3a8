"""Releases of which every file is cut short and flipped, and a process that reads them all.

    python -m tests.indexer.spoilt_releases WORK CUTS FLIPS RELEASE...

Each file of a copy of each release is cut at CUTS places and has FLIPS bits flipped, one at a time.
With digests checked it must be refused by name. Without, it must be refused or answer soundly. A
line of output says what is tried next, the last one how many were served without digests.
"""

import faulthandler
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from indexer.release import Release
from indexer.search import DomainIndex, Query
from model.derived import cold_items
from model.errors import RecGuruError
from model.files import MANIFEST, write_bytes_atomically

LIMIT_S = 10
ROOM_BYTES = 1 << 30
"""Above what the process holds once it has read an intact release."""


def spoilt(content: bytes, cuts: int, flips: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Cut content at places spread evenly, its last byte among them, and flip bits drawn anew."""
    for place in sorted({*np.linspace(len(content) - 1, 0, cuts).astype(int).tolist()}):
        yield f"cut at {place}", content[:place]
    generator = np.random.default_rng(seed)
    for bit in generator.integers(8 * len(content), size=flips).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)


def check_refused(folder: Path, path: Path) -> None:
    """Read a release with digests checked, and see its file refused by name."""
    _, refusal = read(folder, verify=True)
    # What a manifest says it is decides whose folder it is, not which file is damaged.
    named = folder if path == folder / MANIFEST else path
    assert str(named) in refusal, refusal or "not refused"


def check_sound(folder: Path) -> bool:
    """Read a release without digests; say whether it answers, as it then must soundly."""
    release, refusal = read(folder, verify=False)
    if release is None:
        assert str(folder) in refusal, refusal
        return False
    for index in release.indexes.values():
        ask(index)
    return True


def read(folder: Path, *, verify: bool) -> tuple[Release | None, str]:
    """Read all of a release, or say in one line why not."""
    try:
        release = Release.read(folder, verify=verify, threads=1)
        release.bundle.weights()
        cold_items(release.bundle)
    except RecGuruError as error:
        refusal = str(error)
    else:
        return release, ""
    assert "\n" not in refusal, refusal
    return None, refusal


def ask(index: DomainIndex) -> None:
    """Ask an index all kinds of queries, and see that answers are rows, each once."""
    vector = index.item_table[1]
    sets = [None, *index.candidate_sets.values()]
    sets += [each.having(each.values[:2]) for each in index.attributes.values()]
    queries = [Query(vector, 10, candidates=each) for each in sets]
    for query, answer in zip(queries, index.search([*queries]), strict=True):
        rows = answer.rows.tolist()
        wanted = len(index) if query.candidates is None else len(query.candidates)
        assert len(set(rows)) == len(rows) == min(10, wanted)
        assert 1 <= min(rows, default=1) <= max(rows, default=1) <= len(index)


def main() -> None:
    """Spoil and read what the arguments name."""
    work, cuts, flips = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    tried = served = 0
    for source in map(Path, sys.argv[4:]):
        folder = work / source.name
        shutil.copytree(source, folder)
        assert check_sound(folder)
        limit_memory()
        for number, path in enumerate(sorted(each for each in folder.rglob("*") if each.is_file())):
            whole = path.read_bytes()
            for how, content in spoilt(whole, cuts, flips, number):
                say({"release": source.name, "file": str(path.relative_to(folder)), "how": how})
                faulthandler.dump_traceback_later(LIMIT_S, exit=True)
                write_bytes_atomically(path, content)  # the file before may be mapped still
                if not same(path, whole, content):
                    check_refused(folder, path)
                served += check_sound(folder)
                tried += 1
                faulthandler.cancel_dump_traceback_later()
            write_bytes_atomically(path, whole)
        Release.read(folder)
    say({"tried": tried, "served": served})


def same(path: Path, whole: bytes, content: bytes) -> bool:
    """Say whether a release's manifest lacks its last line end alone, which says nothing."""
    return path.name == MANIFEST and content == whole[:-1]


def limit_memory() -> None:
    """Give this process no more room than it needs."""
    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    room = held * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))


def say(line: dict[str, object]) -> None:
    """Write a line of output at once: the process may end in the next moment."""
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
