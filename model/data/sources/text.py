"""Text files of any size as blocks of whole lines, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from model.data.sources.reading import Reading
from model.errors import BadDataError

BLOCK_BYTES = 8 << 20
_LONGEST_RECORD = 64 << 20  # bytes; a longer one is a quote that was never closed
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive whole lines of a file."""

    first_line: int
    """The first of them, counted from 1."""
    content: bytes


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


def blocks(reading: Reading, *, quoted: bool = False) -> Iterator[Block]:
    """Read a text file block by block.

    Args:
        reading: The file; told how far it has been read.
        quoted: Whether a line end between double quotes belongs to the record.

    Raises:
        BadDataError: If the file is missing, empty, or not whole gzip where it should be.
    """
    line, rest = 1, b""
    with _opened(reading.path) as (file, raw):
        said = 0
        while part := file.read(BLOCK_BYTES):
            reading.advance(raw.tell() - said)
            said = raw.tell()
            if line == 1 and not rest:
                part = part.removeprefix(_BYTE_ORDER_MARK)
            content = rest + part
            cut = _last_record_end(content) if quoted else content.rfind(b"\n") + 1
            rest = content[cut:]
            if cut:
                content = content[:cut]
                yield Block(line, content)
                line += _line_ends(content)
    if rest:
        yield Block(line, rest)


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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    check_file(path)
    with path.open("rb") as raw:
        zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not zipped:
            if path.suffix == ".gz":
                raise BadDataError(f"{path} is not a gzip file although its name ends in .gz")
            yield raw, raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as file:
                yield file, raw  # type: ignore[misc]  # typeshed has no base shared by both
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadDataError(f"{path} is damaged gzip: {error}") from None


def _line_ends(content: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


def _last_record_end(content: bytes) -> int:
    """Find where the last record with no quote left open ends; 0 if there is none yet."""
    cut = content.rfind(b"\n") + 1
    open_quotes = b'"' in content and content.count(b'"', 0, cut) % 2
    while open_quotes and cut:
        earlier = content.rfind(b"\n", 0, cut - 1) + 1
        open_quotes = (open_quotes + content.count(b'"', earlier, cut)) % 2
        cut = earlier
    if not cut and len(content) > _LONGEST_RECORD:
        return content.rfind(b"\n") + 1
    return cut
