"""Text files of any size as blocks of whole lines, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.data.sources.reading import Reading
from model.errors import BadDataError

BLOCK_BYTES = 8 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive whole lines of a file."""

    first_line: int
    """The first of them, counted from 1."""
    content: bytes


@contextmanager
def reading_of(path: Path) -> Iterator[None]:
    """Name the file that is read in the block where that fails.

    The system names none when a disk fails, and whoever writes meanwhile would name their own.

    Raises:
        BadDataError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise BadDataError(f"{path} cannot be read: {error.strerror or error}") from None


def check_file(path: Path) -> None:
    """Check that a path is a file with something in it.

    Raises:
        BadDataError: If it is not.
    """
    if not path.exists():
        raise BadDataError(f"{path} does not exist")
    if not path.is_file():
        raise BadDataError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise BadDataError(f"{path} is empty")


def blocks(reading: Reading) -> Iterator[Block]:
    """Read a text file block by block.

    Args:
        reading: The file; told how far it has been read.

    Raises:
        BadDataError: If the file is missing, empty, cannot be read, or is not whole gzip where it
            should be.
    """
    line, rest = 1, b""
    for part, size in _parts(reading.path):
        reading.advance(size)
        content = rest + part if line > 1 or rest else part.removeprefix(_BYTE_ORDER_MARK)
        cut = content.rfind(b"\n") + 1
        rest = content[cut:]
        if cut:
            content = content[:cut]
            yield Block(line, content)
            line += line_ends(content)
    if rest:
        yield Block(line, rest)


def line_ends(content: bytes) -> int:
    """Count the line ends in some bytes."""
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


def first_line(path: Path) -> str:
    """Return the first line of a text file that is not blank, without its end; "" if all are blank.

    Raises:
        BadDataError: As `blocks` does.
    """
    for block in blocks(Reading(path)):
        start = block.content.lstrip()
        if start:
            begin = block.content.rfind(b"\n", 0, len(block.content) - len(start)) + 1
            line = block.content[begin:].partition(b"\n")[0]
            return line.removesuffix(b"\r").decode(errors="replace")
    return ""


def _parts(path: Path) -> Iterator[tuple[bytes, int]]:
    """Read a file's content in parts, each with the bytes of the file itself that it took."""
    check_file(path)
    with reading_of(path), path.open("rb") as raw:
        zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not zipped and path.suffix == ".gz":
            raise BadDataError(f"{path} is not a gzip file although its name ends in .gz")
        said = 0
        try:
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                while part := file.read(BLOCK_BYTES):
                    end = raw.tell()
                    yield part, end - said
                    said = end
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadDataError(f"{path} is damaged gzip: {error}") from None
