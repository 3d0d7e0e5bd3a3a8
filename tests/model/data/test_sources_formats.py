"""The readers of sequences, collected lists and tables."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data.sources import READERS
from model.data.sources.collected import read_collected
from model.data.sources.reading import Reading, Wanted
from model.data.sources.sequences import read_sequences
from model.data.sources.table import read_table
from model.errors import BadDataError

Read = Callable[..., tuple[list[tuple[Any, ...]], Reading]]  # the fixture `read`


def test_sequences_without_times_give_their_items_in_order(read: Read) -> None:
    rows, reading = read(read_sequences, "ann\tx,y,x\nbob\tz\n")

    assert rows == [("ann", "x"), ("ann", "y"), ("ann", "x"), ("bob", "z")]
    assert reading.records == 2


def test_sequences_with_times_pair_each_item_with_its_time(read: Read) -> None:
    rows, _ = read(read_sequences, "ann\tx,y\t10,20.5\r\nbob\tz\t5\r\n")

    assert rows == [("ann", "x", 10.0), ("ann", "y", 20.5), ("bob", "z", 5.0)]


def test_quotes_and_unicode_in_sequences_are_part_of_the_id(read: Read) -> None:
    rows, _ = read(read_sequences, '"ann\tü"x,日本\n')

    assert rows == [('"ann', 'ü"x'), ('"ann', "日本")]


def test_a_few_lines_that_do_not_fit_are_counted_and_passed_over(read: Read) -> None:
    lines = [f"user{number}\tx,y\t1,2" for number in range(400)]
    lines[10] = "user10\tx,y\t1"
    lines[20] = "user20\tx,y\t1,soon"
    lines[30] = "user30\tx,y\t1,2\textra"

    rows, reading = read(read_sequences, "\n".join(lines))

    assert len(rows) == 2 * 397
    assert (reading.records, reading.unusable) == (400, 3)
    assert reading.reasons == (
        "line 11: lists of unequal length: 2 items, 1 times;"
        " line 21: a time is not a number;"
        " line 31: 4 columns, expected 3"
    )


def test_blocks_do_not_change_what_is_read(read: Read, small_blocks: Callable[[int], None]) -> None:
    content = "".join(f"user{n}\tx{n},y{n}\t{n},{n + 1}\n" for n in range(200))
    whole, _ = read(read_sequences, content)

    small_blocks(100)

    assert read(read_sequences, content)[0] == whole


@pytest.mark.parametrize("line", ["ann x,y", "ann\tx\t1\tmore"])
def test_a_file_that_is_no_sequences_is_refused(read: Read, line: str) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_sequences, line + "\n")

    columns = line.count("\t") + 1
    assert str(caught.value).endswith(
        f"log.txt is not in the format sequences: its first line has {columns} columns"
        " separated by tabs, expected user, items and, where known, times"
    )


def test_collected_json_marks_clicks_and_finishes(read: Read) -> None:
    line = {
        "user": "ann",
        "actions": ["click", "share", "finish", None],
        "items": ["x", 7, "a\tb", "z"],
        "times": [1, 2, "3", 4],
    }

    rows, _ = read(read_collected, json.dumps(line) + "\n")

    assert rows == [
        ("ann", "x", 1.0, True),
        ("ann", "7", 2.0, False),
        ("ann", "a\tb", 3.0, True),
        ("ann", "z", 4.0, False),
    ]


def test_collected_tabs_read_as_the_json_does(read: Read) -> None:
    rows, _ = read(read_collected, "ann\tclick,share\tx,y\t1,2\n")

    assert rows == [("ann", "x", 1.0, True), ("ann", "y", 2.0, False)]


def test_collected_lines_of_other_shapes_are_counted(read: Read) -> None:
    good = '{"user": "a", "actions": ["click"], "items": ["x"], "times": [1]}'
    lines = [good] * 300
    lines[1] = '{"user": "a", "actions": "click", "items": ["x"], "times": [1]}'
    lines[2] = '{"user": "a", "actions": ["click"], "items": ["x", "y"], "times": [1]}'
    lines[3] = "broken"

    rows, reading = read(read_collected, "\n".join(lines))

    assert len(rows) == 297
    assert reading.reasons == (
        "line 2: actions is not a list;"
        " line 3: lists of unequal length: 1 actions, 2 items, 1 times;"
        " line 4: not JSON"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"user": "a", "items": []}', "its first line has no field actions, times"),
        (
            "a\tb\tc",
            (
                "its first line is no JSON object and has 3 columns separated by tabs,"
                " expected user, actions, items, times"
            ),
        ),
    ],
)
def test_a_file_that_is_not_collected_is_refused(read: Read, content: str, message: str) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_collected, content)

    assert str(caught.value).endswith(f"log.txt is not in the format collected: {message}")


ROWS = [("ann", "x", 3.0), ("bob", "y,z", 1.5)]


@pytest.mark.parametrize(
    "content",
    [
        'user,item,time\nann,x,3\nbob,"y,z",1.5\n',
        "user\titem\ttime\nann\tx\t3\nbob\ty,z\t1.5\n",
        "extra;time;user;item\n;3;ann;x\n;1.5;bob;y,z\n",
        '\ufeff"time","item","user"\r\n 3,x,ann\r\n\r\n1.5 ,"y,z",bob\r\n',
    ],
)
def test_tables_of_any_separator_give_the_same_rows(read: Read, content: str) -> None:
    assert read(read_table, content)[0] == ROWS


def test_columns_are_named_by_the_caller(read: Read) -> None:
    wanted = Wanted({"user": "who", "item": "what", "time": "at", "rating": "stars"}, rating=True)

    rows, _ = read(read_table, "at,stars,who,what\n3,4.5,ann,x\n", wanted)

    assert rows == [("ann", "x", 3.0, 4.5)]


def test_ids_with_tabs_and_line_ends_pass_through_csv_and_parquet(
    read: Read, tmp_path: Path
) -> None:
    frame = pl.DataFrame({"user": ["a\tb", 'q"'], "item": ["ü\n日", "x"], "time": [1, 2]})
    frame.write_parquet(tmp_path / "log.parquet")

    rows, _ = read(read_table, frame.write_csv())
    (same,) = read_table(Reading(tmp_path / "log.parquet"))

    assert rows == [("a\tb", "ü\n日", 1.0), ('q"', "x", 2.0)]
    assert same.rows() == rows


def test_parquet_ids_may_be_numbers_and_times_dates(tmp_path: Path) -> None:
    moment = dt.datetime(2020, 1, 2, 3, 4, 5, 500_000, tzinfo=dt.UTC)
    path = tmp_path / "log.parquet"
    pl.DataFrame(
        {"user": [7], "item": pl.Series(["x"], dtype=pl.Categorical), "time": [moment]}
    ).write_parquet(path)

    (frame,) = read_table(Reading(path))

    assert frame.rows() == [("7", "x", moment.timestamp())]


def test_parquet_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.sources.table.ROWS", 4)
    path, told = tmp_path / "log.parquet", list[int]()
    times = [*range(9), None]
    pl.DataFrame({"user": ["u"] * 10, "item": ["i"] * 10, "time": times}).write_parquet(path)

    reading = Reading(path, advance=told.append)
    frames = list(read_table(reading))

    assert [len(frame) for frame in frames] == [4, 4, 1]
    assert reading.reasons == "row 10: no time"
    assert sum(told) == path.stat().st_size


def test_parquet_of_fractional_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [7.0], "item": ["x"], "time": [1]}).write_parquet(path)

    with pytest.raises(BadDataError) as caught:
        list(read_table(Reading(path)))

    assert str(caught.value) == (
        f"{path}: column 'user' holds Float64; ids must be text or whole numbers"
    )


@pytest.mark.parametrize("times", [[dt.timedelta(1)], [[1]], [b"1"], [dt.time(1)]])
def test_parquet_times_that_are_no_moments_are_refused(tmp_path: Path, times: list[Any]) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user": ["u"], "item": ["x"], "at": times})
    frame.write_parquet(path)
    columns = {"time": "at"}

    with pytest.raises(BadDataError) as caught:
        list(read_table(Reading(path, Wanted(columns=columns))))

    kind = frame.schema["at"]
    assert str(caught.value) == f"{path}: column 'at' holds {kind}; time must be a number"


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PAR1 and no more")

    with pytest.raises(BadDataError, match=r"log\.parquet cannot be read as Parquet: "):
        list(read_table(Reading(path)))


def test_a_missing_column_is_named_with_those_there_are(read: Read) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_table, "user,thing,when\nann,x,3\n")

    assert str(caught.value).endswith(
        "log.txt has no column 'item' (it has user, thing, when);"
        " say which one to use with --column item=NAME"
    )


def test_rows_of_a_table_that_cannot_be_used_are_counted_with_their_line(read: Read) -> None:
    lines = ["user,item,time", *("ann,x,3" for _ in range(700))]
    lines[5] = "ann,x,yesterday"
    lines[20] = "ann,x"
    lines[21] = "ann,x,nan"
    lines[8] = '"ann,x,3'
    lines[9] = "ann,x,3,4"

    rows, reading = read(read_table, "\n".join(lines))

    assert len(rows) == 695
    assert (reading.records, reading.unusable) == (700, 5)
    assert reading.reasons == (
        "line 6: time 'yesterday' is not a number;"
        " line 9: a quote is not closed;"
        " line 10: 4 columns, expected 3"
    )


def test_lines_are_counted_through_all_blocks(
    read: Read, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(50)
    lines = ["user,item,time", *("ann,x,3" for _ in range(400))]
    lines[300] = "ann,x,noon"

    _, reading = read(read_table, "\n".join(lines))

    assert reading.reasons == "line 301: time 'noon' is not a number"


def test_more_than_one_unusable_line_in_a_hundred_is_refused(read: Read) -> None:
    content = "user,item,time\n" + "ann,x,3\n" * 98 + "ann,x,soon\nann,x,\n"

    with pytest.raises(BadDataError) as caught:
        read(read_table, content)

    assert str(caught.value).endswith(
        "log.txt: 2 of 100 lines cannot be used, more than 1%:"
        " line 100: time 'soon' is not a number; line 101: no time"
    )


@pytest.mark.parametrize("content", ["user,item,time\n", "user,item,time\n\n\n"])
def test_a_header_alone_holds_no_interactions(read: Read, content: str) -> None:
    with pytest.raises(BadDataError, match=r"log\.txt holds no interactions$"):
        read(read_table, content)


def test_text_that_is_not_utf8_costs_only_its_own_ids(read: Read) -> None:
    rows, _ = read(read_table, b"user,item,time\nann,\xff,3\nbob,x,4\n")

    assert rows == [("ann", "\ufffd", 3.0), ("bob", "x", 4.0)]


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_reader_refuses_an_empty_file(read: Read, name: str) -> None:
    with pytest.raises(BadDataError, match=r"log\.txt is empty$"):
        read(READERS[name], "")  # type: ignore[index]  # the keys themselves


def test_null_and_missing_lists_are_counted_as_no_lists(read: Read) -> None:
    good = '{"user": "a", "actions": ["click"], "items": ["x"], "times": [1]}'
    lines = [good] * 300
    lines[1] = '{"user": "a", "actions": null, "items": null, "times": null}'
    lines[2] = '{"user": "a"}'

    rows, reading = read(read_collected, "\n".join(lines))

    assert rows == [("a", "x", 1.0, True)] * 298
    assert (reading.records, reading.unusable) == (300, 2)
    assert reading.reasons == "line 2: actions is not a list; line 3: actions is not a list"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5.0", "5"),
        ("1e20", "1" + 20 * "0"),
        ("-1.5e-5", "-0.000015"),
        ("true", "true"),
        ('["u", 2.0, null]', '["u", 2, null]'),
        ('{"é": "ü"}', '{"é": "ü"}'),
    ],
)
def test_a_json_id_reads_the_same_beside_a_blank_line(read: Read, value: str, text: str) -> None:
    line = f'{{"user": {value}, "actions": ["click"], "items": [{value}], "times": [1]}}\n'

    fast, _ = read(read_collected, line)
    slow, _ = read(read_collected, line + "\n" + line)

    assert fast == [(text, text, 1.0, True)]
    assert slow == fast * 2


def test_half_a_character_beside_a_blank_line_makes_an_id_that_is_garbled(read: Read) -> None:
    line = '{"user": "u\\ud800", "actions": ["click"], "items": ["x"], "times": [1]}\n'

    rows, _ = read(read_collected, line + "\n")

    assert rows == [("u\ufffd", "x", 1.0, True)]
