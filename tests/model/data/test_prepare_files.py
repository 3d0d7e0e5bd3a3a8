"""The files of a preparation: those that change or fail meanwhile, and what titles may hold."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import polars as pl
import pytest

from model.data.dataset import Dataset
from model.data.prepare import DomainInput, prepare
from model.data.prepare_settings import PrepareSettings
from model.data.sources.reading import Reading
from model.data.sources.table import read_table
from model.data.sources.text import BLOCK_BYTES, blocks
from model.errors import BadDataError

SEQUENCES = PrepareSettings(format="sequences")

Inputs = tuple[DomainInput, DomainInput]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Write the logs of two domains; the first has titles."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.tsv").write_text(f"ann\t{name}1,{name}2,{name}3\n")
    (tmp_path / "titles.tsv").write_text("a1\tThe first\na3\tThe last\n")
    first = DomainInput("a", tmp_path / "a.tsv", tmp_path / "titles.tsv")
    return first, DomainInput("b", tmp_path / "b.tsv")


def add_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("bob\tx\n")


def rewrite_alike(path: Path) -> None:
    content, before = path.read_text(), path.stat()
    path.write_text(content.swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("name", ["a.tsv", "b.tsv", "titles.tsv"])
@pytest.mark.parametrize("change", [add_line, rewrite_alike])
def test_a_file_that_changes_while_another_is_read_is_refused(
    inputs: Inputs, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    told: list[int] = []

    def change_once(size: int) -> None:  # after the first log has been read
        told.append(size)
        if len(told) == 1:
            change(tmp_path / name)

    with pytest.raises(BadDataError) as caught:
        prepare(inputs, SEQUENCES, tmp_path / "out", advance=change_once)

    assert str(caught.value) == (
        f"{tmp_path / name} has changed while it was read; run this again when nobody writes to it"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv", "titles.tsv"]


class BadDisk(io.BytesIO):
    """A file that cannot be read behind a byte; the system does not say which file that is."""

    def __init__(self, content: bytes, sound: int) -> None:
        super().__init__(content)
        self._sound = sound

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, unless one of them is bad."""
        if self.tell() + (size or 0) > self._sound:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


@contextmanager
def bad_disk(bad: Path, *, opened: int = 1, sound: int = 0) -> Iterator[None]:
    """Let a file be unreadable behind the byte `sound` from the n-th time on that it is opened."""
    content, really, times = bad.read_bytes(), Path.open, count(1)

    def open_(path: Path, mode: str = "r", **named: str | None) -> object:
        if path == bad and next(times) >= opened:
            return BadDisk(content, sound)
        return really(path, mode, **named)  # type: ignore[call-overload]  # any of them

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_)
        yield


READS = {"first line": 1, "log": 2, "digest": 3}


@pytest.mark.parametrize("opened", READS.values(), ids=READS)
def test_a_log_that_cannot_be_read_is_named_and_not_what_is_written(
    inputs: Inputs, tmp_path: Path, opened: int
) -> None:
    with bad_disk(tmp_path / "a.tsv", opened=opened), pytest.raises(BadDataError) as caught:
        prepare(inputs, SEQUENCES, tmp_path / "out")

    assert str(caught.value) == f"{tmp_path}/a.tsv cannot be read: Input/output error"
    assert not (tmp_path / "out").exists()


def test_a_log_that_cannot_be_read_to_its_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    path.write_bytes(b"a line\n" * 10)

    with bad_disk(path, sound=BLOCK_BYTES), pytest.raises(BadDataError) as caught:
        list(blocks(Reading(path)))

    assert str(caught.value) == f"{path} cannot be read: Input/output error"


def test_a_table_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\nann,x,1\n")

    with bad_disk(path), pytest.raises(BadDataError) as caught:
        list(read_table(Reading(path)))

    assert str(caught.value) == f"{path} cannot be read: Input/output error"


def test_the_name_of_a_parquet_file_is_no_pattern(tmp_path: Path) -> None:
    for name, user in (("log[1].parquet", "ann"), ("log1.parquet", "bob")):
        pl.DataFrame({"user": [user], "item": ["x"], "time": [1]}).write_parquet(tmp_path / name)

    (frame,) = read_table(Reading(tmp_path / "log[1].parquet"))

    assert frame.rows() == [("ann", "x", 1.0)]


def test_a_few_lines_of_a_file_of_titles_are_left_out_with_a_warning(
    inputs: Inputs, tmp_path: Path
) -> None:
    with (tmp_path / "titles.tsv").open("a") as file:
        file.writelines(f"other{number}\tA title\n" for number in range(200))
        file.write("a2 has no tab\n")

    report = prepare(inputs, SEQUENCES, tmp_path / "out")

    assert report["warnings"] == [
        (
            "titles.tsv: 1 of 203 lines cannot be used and are left out:"
            " line 203: no tab between id and title"
        )
    ]


def test_half_a_character_in_a_title_does_not_keep_a_dataset_from_being_written(
    inputs: Inputs, tmp_path: Path
) -> None:
    halved = "cut \N{GRINNING FACE}".encode("utf-16", "surrogatepass")[:-2]
    lines = [
        json.dumps({"asin": "a1", "title": halved.decode("utf-16", "surrogatepass")}),
        json.dumps({"asin": "a2", "title": "whole \N{GRINNING FACE}"}),
        r"{'asin': 'a3', 'title': 'cut \ude00 too'}",
    ]
    (tmp_path / "titles.tsv").write_text("\n".join(lines))
    assert r"\ud83d" in lines[0].partition("cut")[2]

    prepare(inputs, SEQUENCES, tmp_path / "out")

    items = Dataset.read(tmp_path / "out").domain("a").vocabulary
    titles = [items.title(row) for row in (1, 2, 3)]
    assert titles == ["cut \ufffd", "whole \N{GRINNING FACE}", "cut \ufffd too"]
