"""Delimited text with quotes: no record is swallowed, and what cannot be used is counted."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.sources import text
from model.data.sources.delimited import Layout, delimited_frames
from model.data.sources.quoted import record_blocks
from model.data.sources.reading import LINE, Reading
from model.data.sources.table import read_table
from model.errors import BadDataError

Read = Callable[..., tuple[list[tuple[Any, ...]], Reading]]  # the fixture `read`

SOUND = 400
"""Rows around those under test: what cannot be used must stay below one in a hundred."""


def table(*lines: str) -> str:
    """Put rows with titles, a column nobody asks for, before many sound ones."""
    rows = (f'u{number},x,{number},"a, title"' for number in range(SOUND))
    return "\n".join(("user,item,time,title", *lines, *rows, ""))


def test_a_quote_in_a_column_nobody_asked_for_costs_no_rows(read: Read) -> None:
    content = table('ann,x,1,TV 40"', "bob,y,2,radio", 'cy,z,3,TV 32"', "dan,w,4,lamp")

    rows, reading = read(read_table, content)

    assert rows[:4] == [("ann", "x", 1.0), ("bob", "y", 2.0), ("cy", "z", 3.0), ("dan", "w", 4.0)]
    assert (len(rows), reading.records, reading.unusable) == (404, 404, 0)


def test_two_titles_with_quotes_inside_them_cost_their_own_rows_alone(read: Read) -> None:
    content = table('ann,x,1,"A 40" TV"', 'bob,y,2,"A 32" TV"', "cy,z,3,lamp")

    rows, reading = read(read_table, content)

    assert rows[0] == ("cy", "z", 3.0)
    assert (len(rows), reading.records, reading.unusable) == (401, 403, 2)
    assert reading.reasons == "line 2: a quote is not closed; line 3: a quote is not closed"


@pytest.mark.parametrize("end", ["\n", ""])
def test_columns_too_many_behind_the_last_one_wanted_are_refused(read: Read, end: str) -> None:
    content = table("ann,x,1,title,surplus") + "bob,y,2,title," + end

    rows, reading = read(read_table, content)

    assert (len(rows), reading.unusable) == (400, 2)
    assert reading.reasons == "line 2: 5 columns, expected 4; line 403: 5 columns, expected 4"


def test_a_quote_that_is_never_closed_costs_one_row(read: Read) -> None:
    rows, reading = read(read_table, table('ann,x,1,"TV', "bob,y,2,radio"))

    assert rows[0] == ("bob", "y", 2.0)
    assert (len(rows), reading.unusable) == (401, 1)
    assert reading.reasons == "line 2: a quote is not closed"


def test_text_behind_a_closed_quote_costs_one_row(read: Read) -> None:
    rows, reading = read(read_table, table('ann,x,1,"TV" set', "bob,y,2,radio"))

    assert rows[0] == ("bob", "y", 2.0)
    assert reading.reasons == "line 2: ',' expected after '\"'"


def test_rows_without_anything_asked_for_are_counted_and_blank_ones_are_not(read: Read) -> None:
    rows, reading = read(read_table, table(",,,only a title", ",,,", '"","","",""', ""))

    assert (len(rows), reading.records, reading.unusable) == (400, 401, 1)
    assert reading.reasons == "line 2: no time"


BROKEN = b"\xff"
MULTILINE = b'"ann",x,1,"one\ntwo\nthree"'


@pytest.mark.parametrize(
    ("bad_row", "unusable"),
    [
        (b"bob," + BROKEN + b",2,title", 0),
        (b"bob,y,2," + BROKEN, 0),
        (b'bob,y,2,"' + BROKEN + b'" more', 1),
    ],
)
def test_a_byte_that_is_not_utf8_costs_no_record_of_several_lines(
    read: Read, bad_row: bytes, unusable: int
) -> None:
    content = table().encode() + MULTILINE + b"\n" + bad_row + b"\ncy,z,soon,title\n"

    rows, reading = read(read_table, content)

    assert ("ann", "x", 1.0) in rows
    assert len(rows) == SOUND + 2 - unusable
    assert reading.unusable == 1 + unusable


def test_a_byte_that_is_not_utf8_costs_no_field_that_is_longer_than_python_reads(
    read: Read,
) -> None:
    long = b"many words\n" * (csv.field_size_limit() // 10)
    content = table().encode() + b'ann,x,1,"' + long + b'"\nbob,y,2,' + BROKEN + b"\n"

    rows, reading = read(read_table, content)

    assert rows[SOUND:] == [("ann", "x", 1.0), ("bob", "y", 2.0)]
    assert reading.unusable == 0


def test_an_id_that_is_not_utf8_shows_it_beside_one_of_two_lines(read: Read) -> None:
    content = b'user,item,time\n"ann\nbell",x,1\n"bob' + BROKEN + b'",y,2\n'

    rows, _ = read(read_table, content)

    assert rows == [("ann\nbell", "x", 1.0), ("bob\ufffd", "y", 2.0)]


def test_after_records_of_several_lines_the_line_that_is_named_is_that_of_the_file(
    read: Read,
) -> None:
    content = table() + MULTILINE.decode() + '\nbob,y,2,"TV" set\n'

    _, reading = read(read_table, content)

    assert reading.reasons == f"line {1 + SOUND + 3 + 1}: ',' expected after '\"'"


def test_a_line_end_between_quotes_stays_in_its_block(
    tmp_path: Path, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(4)
    (tmp_path / "log.csv").write_text('a,"x\ny\nz"\nb,c\n')

    found = [block.content for block, _ in record_blocks(Reading(tmp_path / "log.csv"), ",")]

    assert b'a,"x\ny\nz"\n' in found


def test_a_quote_that_is_never_closed_does_not_hold_the_whole_file(
    tmp_path: Path, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(10_000)
    path = tmp_path / "log.csv"
    path.write_text('"a,b\n' + "c,d\n" * 100_000)

    found = [block.content for block, _ in record_blocks(Reading(path), ",")]

    assert max(map(len, found)) <= csv.field_size_limit() + 2 * 10_000
    assert b"".join(found) == path.read_bytes()


PIECES = ["a", '"', '""', ",", "\n", "\r\n", "b,c,1\n", '"q\nr",s,t\n', 'b,TV 40",2\n']
PIECES += ['b,"A 4" TV",5\n', '"x,y","",z\n']


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), size=st.integers(1, 80))
def test_what_python_reads_is_read_and_what_it_refuses_is_counted(
    tmp_path: Path, pieces: list[str], size: int
) -> None:
    path, content = tmp_path / "log.csv", "".join([*pieces, "last,row,1\n"])
    path.write_bytes(content.encode())
    reading = Reading(path)
    layout = Layout(",", 3, {"first": 0, "second": 1, "third": 2})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", size)
        found = pl.concat(delimited_frames(reading, layout)).drop(LINE)

    lines = content.splitlines(keepends=True)
    try:
        records = [record for record in csv.reader(lines, strict=True) if any(record)]
    except csv.Error:
        assert reading.unusable
        return
    narrow = [record for record in records if len(record) <= 3]
    padded = [tuple(field or None for field in (*record, "", "")[:3]) for record in narrow]
    assert found.with_columns(pl.all().replace("", None)).rows() == padded
    assert reading.unusable == len(records) - len(narrow)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("user,item,time\rann,x,1\r", r"lines end with \\r alone; end them with \\n$"),
        ('user,item,time,"' + "t" * 200_000, "the first line cannot be read: field larger than"),
    ],
    ids=["classic Mac", "never closed"],
)
def test_a_first_line_that_is_none_is_refused_with_the_name_of_the_file(
    read: Read, content: str, problem: str
) -> None:
    with pytest.raises(BadDataError, match=rf"log\.txt: {problem}"):
        read(read_table, content)
