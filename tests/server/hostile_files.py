"""Releases with one file spoilt, and a process that loads one after the other.

    python -m tests.server.hostile_files RELEASE WORK SEED FIRST LAST

For each number from FIRST to LAST - 1 a copy of the release folder is made below WORK, spoilt, and
loaded. Two lines of JSON say what is tried and what came of it. Digests catch what is spoilt; in a
forged release they have been made again, so that the parsers get to see it.
"""

import faulthandler
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.errors import RecGuruError
from model.files import MANIFEST, canonical_json, digest_of, digests_of
from server.engine import Engine

LIMIT_S = 5
"""Seconds that one release may take, of which it needs some hundredths."""

# Above what the process holds once it has served the intact release. With all that torch and FAISS
# map, that is 1 GB with a torch for CPUs alone, and several with one for GPUs.
ROOM_BYTES = 1 << 30

BUNDLE = "bundle"
_SHARED = {"bundle": "digest", "dataset": "dataset"}
"""What a release's manifest says of its bundle, and what the bundle's own calls it."""

Json = dict[str, Any] | list[Any] | str | float | bool | None
_FRONT_BYTES = 200
"""Where most formats keep what their parsers go by."""

_NUMBERS = [0, 1, 2, 3, 255, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
_NUMBERS += [2**32, 2**40, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
_VALUES: list[Json] = [None, True, -1, 0, 1, 7, 1.5, 1e308, float("nan"), 2**31, 2**63, 2**70]
_VALUES += ["", "x", ".", "../..", "a\0b", "\ud800", "x" * 5000, "I32", "F64", "U8", "BOOL", "BF16"]
_VALUES += [[], {}, [[]], [0, 0], [-1], [1.5], [2**40, 2**40], {"": None}, ["books"] * 3]
_SHAPES = ["()", "(0,)", "(-1,)", "(7,)", "(2, 3)", "(1.5,)", "(True,)", "('7',)", "None", "7"]
_SHAPES += [f"({2**31},)", f"({2**40}, {2**40})", f"({2**62},)", f"({2**70},)"]
_TYPES = ["'<i4'", "'<i8'", "'>i8'", "'|u1'", "'<f4'", "'|O'", "'<M8[s]'", "'<U4'", "'V0'", "''"]
_TYPES += ["'nonsense'", "[('a', '<i4')]", "None", "7", "'<i4', 'x': " + "(" * 300 + ")" * 300]
_FAISS_KINDS = [b"IxF2", b"IxFl", b"IxFI", b"IwFl", b"IwSq", b"IwPQ", b"IxPq", b"IxSQ", b"IxMp"]
_FAISS_KINDS += [b"IxM2", b"IxPT", b"IxRF", b"IHNf", b"IHNs", b"IxHE", b"IxPo", b"IxHe", b"null"]


@dataclass(frozen=True, slots=True)
class Spoilt:
    """What has been done to a release."""

    number: int
    file: str
    """Its path in the release folder."""
    kind: str
    place: str
    forged: bool
    intact: bool
    """Whether no byte differs after all."""


Spoil = Callable[[Path, np.random.Generator], str]
"""Spoils a file; says where."""


def _place(content: bytes | bytearray, generator: np.random.Generator) -> int:
    """Draw a place, two times in three in front."""
    front = min(len(content), _FRONT_BYTES) if generator.random() < 2 / 3 else len(content)
    return int(generator.integers(front + 1))


def _cut(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    place = int(generator.choice([0, _place(content, generator), max(0, len(content) - 1)]))
    path.write_bytes(content[:place])
    return f"at {place}"


def _flip(path: Path, generator: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    places = sorted({_place(content, generator) for _ in range(generator.integers(1, 9))})
    for place in places:
        if place < len(content):
            content[place] ^= 1 << int(generator.integers(8))
    path.write_bytes(content)
    return f"at {places}"


def _insert(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    place = _place(content, generator)
    new = generator.bytes(int(generator.integers(1, 65)))
    path.write_bytes(content[:place] + new + content[place:])
    return f"{len(new)} at {place}"


def _zero(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    first, last = sorted((_place(content, generator), _place(content, generator)))
    first, last = (0, len(content)) if generator.random() < 1 / 4 else (first, last)
    path.write_bytes(content[:first] + bytes(last - first) + content[last:])
    return f"from {first} to {last}"


def _extend(path: Path, generator: np.random.Generator) -> str:
    count = int(generator.choice([1, 4, 64, 4096]))
    new = generator.bytes(count) if generator.random() < 1 / 2 else bytes(count)
    path.write_bytes(path.read_bytes() + new)
    return f"by {count}"


def _number(path: Path, generator: np.random.Generator) -> str:
    """Write a number where a parser may look for a size."""
    content = bytearray(path.read_bytes())
    place, size = _place(content, generator), int(generator.choice([1, 2, 4, 8]))
    number = _NUMBERS[int(generator.integers(len(_NUMBERS)))]
    content[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    path.write_bytes(content)
    return f"{number} in {size} bytes at {place}"


def _swap(path: Path, generator: np.random.Generator) -> str:
    root = next(parent for parent in path.parents if (parent / BUNDLE).is_dir())
    others = [other for other in sorted(root.rglob("*")) if other.is_file() and other != path]
    other = others[int(generator.integers(len(others)))]
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)
    return f"with {other.relative_to(root)}"


def _make_folder(path: Path, _: np.random.Generator) -> str:
    path.unlink()
    path.mkdir()
    return "empty"


def _remove(path: Path, _: np.random.Generator) -> str:
    path.unlink()
    return ""


def _spoil_json(value: Json, generator: np.random.Generator) -> tuple[Json, str]:
    """Put another value, or none, somewhere into a JSON value."""
    if not isinstance(value, dict | list) or not value or generator.random() < 1 / 8:
        new = _VALUES[int(generator.integers(len(_VALUES)))]
        return new, f" = {new!r:.40}"
    chosen: Any = int(generator.integers(len(value)))
    if isinstance(value, dict):
        chosen = sorted(value)[chosen]
    changed = dict(value) if isinstance(value, dict) else list(value)
    if generator.random() < 1 / 8:
        del changed[chosen]
        return changed, f".{chosen} removed"
    changed[chosen], where = _spoil_json(value[chosen], generator)
    return changed, f".{chosen}{where}"


def _value(path: Path, generator: np.random.Generator) -> str:
    value, where = _spoil_json(json.loads(path.read_bytes()), generator)
    path.write_text(json.dumps(value), encoding="utf-8")
    return where


def _tensor_header(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    value, where = _spoil_json(json.loads(content[8:end]), generator)
    header = json.dumps(value).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    return where


def _array_header(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:end].decode()
    descr, shape = header.split("'descr': ")[1].split(",")[0], header.split("'shape': ")[1]
    if generator.random() < 1 / 2:
        new = _TYPES[int(generator.integers(len(_TYPES)))]
        header = header.replace(descr, new)
    else:
        new = _SHAPES[int(generator.integers(len(_SHAPES)))]
        header = header.replace(shape.partition("}")[0], f"{new}, ")
    packed = header.rstrip().encode() + b"\n"
    path.write_bytes(content[:8] + len(packed).to_bytes(2, "little") + packed + content[end:])
    return f" = {new:.40}"


def _archive(path: Path, generator: np.random.Generator) -> str:
    """Make it the archive of arrays that numpy opens in the same call."""
    if generator.random() < 1 / 2:
        path.write_bytes(b"PK\x03\x04" + path.read_bytes())
        return "broken"
    with path.open("wb") as file:
        np.savez(file, rows=np.arange(3))
    return "whole"


def _faiss_kind(path: Path, generator: np.random.Generator) -> str:
    content = path.read_bytes()
    kind = _FAISS_KINDS[int(generator.integers(len(_FAISS_KINDS)))]
    path.write_bytes(kind + content[4:])
    return kind.decode()


_KINDS: Mapping[str, Spoil] = {
    "cut": _cut,
    "flipped": _flip,
    "inserted": _insert,
    "zeroed": _zero,
    "extended": _extend,
    "number": _number,
    "swapped": _swap,
    "folder": _make_folder,
    "removed": _remove,
}
_KINDS_OF: Mapping[str, Mapping[str, Spoil]] = {
    ".json": {"value": _value},
    ".safetensors": {"header": _tensor_header},
    ".npy": {"header": _array_header, "archive": _archive},
    ".faiss": {"kind": _faiss_kind},
}


def spoil(folder: Path, number: int, seed: int) -> Spoilt:
    """Spoil a file of a release folder, as the number and the seed say."""
    generator = np.random.default_rng([seed, number])
    before = digests_of(folder) | {MANIFEST: (folder / MANIFEST).read_text(encoding="utf-8")}
    files = sorted(before)
    name = files[number % len(files)]
    path = folder / name
    own = _KINDS_OF[path.suffix]
    kinds = {**_KINDS, **own}
    # What is made for the format reaches furthest.
    chosen = list(own if generator.random() < 1 / 3 else kinds)
    kind = chosen[int(generator.integers(len(chosen)))]
    place = kinds[kind](path, generator)
    after = digests_of(folder)
    with suppress(OSError, UnicodeDecodeError):
        after[MANIFEST] = (folder / MANIFEST).read_text(encoding="utf-8")
    forged = bool(generator.random() < 3 / 4)
    if forged:
        forge(folder, name)
    return Spoilt(number, name, kind, place, forged, after == before)


def forge(folder: Path, name: str) -> None:
    """Write the digests of the files as they are into the manifests, as far as those can be read.

    Args:
        folder: A release folder.
        name: The file that was spoilt; a manifest keeps what was spoilt in it.
    """
    inner, outer = _stated(folder / BUNDLE / MANIFEST), _stated(folder / MANIFEST)
    if inner and name != f"{BUNDLE}/{MANIFEST}":
        files = digests_of(folder / BUNDLE)
        inner |= {"files": files, "digest": digest_of(files)}
        (folder / BUNDLE / MANIFEST).write_bytes(canonical_json(inner))
    if outer and name != MANIFEST:
        files = digests_of(folder)
        outer |= {"files": files, "digest": digest_of(files)}
        outer |= {key: inner[own] for key, own in _SHARED.items() if own in inner}
        (folder / MANIFEST).write_bytes(canonical_json(outer))


def _stated(manifest: Path) -> dict[str, Any]:
    """Read a manifest, as nothing where it is none."""
    with suppress(OSError, ValueError):
        value = json.loads(manifest.read_bytes())
        return value if isinstance(value, dict) else {}
    return {}


def load(folder: Path) -> dict[str, object]:
    """Load and probe a release; return seconds, and the refusal or the fault if there was one."""
    begun_s = time.monotonic()
    outcome: dict[str, object] = {}
    try:
        Engine.load(folder, device="cpu").probe()
    except RecGuruError as error:
        outcome["refusal"] = str(error)
    except Exception:  # noqa: BLE001  # to be told of, then on to the next
        outcome["fault"] = traceback.format_exc()
    return outcome | {"seconds": time.monotonic() - begun_s}


def main() -> None:
    """Load spoilt copies of a release, one after the other."""
    release, work = map(Path, sys.argv[1:3])
    seed, first, last = map(int, sys.argv[3:])
    torch.set_num_threads(1)  # as the server does
    assert load(release).keys() == {"seconds"}
    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    room = held * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    for number in range(first, last):
        folder = work / f"release-{number}"
        shutil.copytree(release, folder)
        _say(asdict(spoil(folder, number, seed)))
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        _say(load(folder))
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(folder)


def _say(line: Mapping[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
