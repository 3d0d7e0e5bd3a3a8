"""Blocks of whole lines, whatever the file."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.sources import text
from model.data.sources.reading import Reading
from model.data.sources.text import blocks, first_line
from model.errors import BadDataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text("ab", max_size=5), min_size=1, max_size=30),
    end=st.sampled_from(["", "\n"]),
    zipped=st.booleans(),
    size=st.integers(1, 20),
)
def test_blocks_hold_every_byte_once_and_whole_lines(
    path: Path, lines: list[str], end: str, zipped: bool, size: int
) -> None:
    content = ("\n".join(lines) + end).encode() or b"\n"
    path.write_bytes(gzip.compress(content) if zipped else content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", size)
        found = list(blocks(Reading(path)))

    assert b"".join(block.content for block in found) == content
    assert all(block.content.endswith(b"\n") for block in found[:-1])
    read = b""
    for block in found:
        assert block.first_line == read.count(b"\n") + 1
        read += block.content


def test_a_byte_order_mark_is_no_part_of_the_first_line(path: Path) -> None:
    path.write_bytes("\ufeffuser,item\n".encode())

    assert first_line(path) == "user,item"


def test_the_first_line_that_is_not_blank_counts(path: Path) -> None:
    path.write_bytes(b"\n \r\nuser,item\r\nx,y\r\n")

    assert first_line(path) == "user,item"


def test_progress_is_told_in_bytes_of_the_file_not_of_its_content(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a line\n" * 10_000))
    told: list[int] = []

    for _ in blocks(Reading(path, advance=told.append)):
        pass

    assert sum(told) == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "does not exist"),
        ("empty.txt", b"", "is empty"),
        ("plain.gz", b"not gzip", "is not a gzip file although its name ends in .gz"),
        (
            "cut.gz",
            gzip.compress(b"some lines\n" * 1000, mtime=0)[:-10],
            "is damaged gzip: Compressed file ended before the end-of-stream marker was reached",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BadDataError) as caught:
        list(blocks(Reading(path)))

    assert str(caught.value) == f"{path} {message}"


def test_flipped_bits_in_gzip_are_noticed(path: Path) -> None:
    whole = bytearray(gzip.compress(b"some lines\n" * 1000, mtime=0))
    whole[-5] ^= 1  # of the checksum
    path.write_bytes(whole)

    with pytest.raises(BadDataError, match="is damaged gzip: CRC check failed"):
        list(blocks(Reading(path)))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadDataError) as caught:
        list(blocks(Reading(tmp_path)))

    assert str(caught.value) == f"{tmp_path} is not a file"
