"""The three Amazon releases, in every shape their files have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.data.sources.amazon import read_amazon
from model.data.sources.reading import Reading, Wanted
from model.data.sources.titles import read_titles
from model.errors import BadDataError

Read = Callable[..., tuple[list[tuple[Any, ...]], Reading]]  # the fixture `read`

USER, ITEM = "A105S56ODHGJEK", "B0017TZD7S"
USER_2023 = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"


def review(**changes: object) -> str:
    fields = {
        "reviewerID": USER,
        "asin": ITEM,
        "reviewText": 'said "fine",\n twice',
        "overall": 4.0,
        "verified": True,
        "unixReviewTime": 1514764800,
    }
    return json.dumps({**fields, **changes}) + "\n"


def ratings(order: str, lines: int = 20) -> str:
    """Make a headerless ratings file with the columns in the order given."""
    rows = ({"user": f"A{number:013d}", "item": f"B{number:09d}"} for number in range(lines))
    first, second = order.split(",")
    return "".join(f"{row[first]},{row[second]},5.0,1400000000\n" for row in rows)


@pytest.mark.parametrize("name", ["reviews.json", "reviews.json.gz"])
def test_reviews_of_2014_and_2018_are_read(read: Read, name: str) -> None:
    rows, _ = read(read_amazon, review() + review(asin="0439893577", overall=1), name=name)

    assert rows == [(USER, ITEM, 4.0, 1514764800.0), (USER, "0439893577", 1.0, 1514764800.0)]


def test_reviews_of_2023_go_by_the_parent_item(read: Read) -> None:
    line = {
        "rating": 5.0,
        "asin": "B00000000C",
        "parent_asin": ITEM,
        "user_id": USER_2023,
        "timestamp": 1588687728923,
        "verified_purchase": True,
    }

    rows, _ = read(read_amazon, json.dumps(line))

    assert rows == [(USER_2023, ITEM, 5.0, 1588687728923.0)]


def test_verified_purchases_are_marked_where_asked_for(read: Read) -> None:
    content = review() + review(verified=False) + review(verified=None)

    rows, _ = read(read_amazon, content, Wanted(verified=True))

    assert [row[-1] for row in rows] == [True, False, False]


def test_a_few_lines_that_are_not_json_are_counted_and_passed_over(read: Read) -> None:
    lines = [review()] * 400
    lines[10] = "{broken\n"
    lines[20] = "[1, 2]\n"
    lines[30] = review(unixReviewTime="yesterday")
    lines[40] = "\n"

    rows, reading = read(read_amazon, "".join(lines))

    assert len(rows) == 396
    assert (reading.records, reading.unusable) == (399, 3)
    assert reading.reasons == (
        "line 11: not JSON; line 21: not a JSON object; line 31: time 'yesterday' is not a number"
    )


def test_a_line_nested_too_deeply_is_not_json(read: Read) -> None:
    rows, reading = read(read_amazon, review() * 200 + "[" * 100_000 + "\n")

    assert len(rows) == 200
    assert reading.reasons == "line 201: not JSON"


def test_blank_lines_do_not_move_the_lines_that_are_named(read: Read) -> None:
    lines = [review()] * 200
    lines[5] = "\n"
    lines[100] = review(unixReviewTime=None)

    _, reading = read(read_amazon, "".join(lines))

    assert reading.reasons == "line 101: no time"


def test_sound_blocks_read_the_same_as_those_with_a_bad_line(
    read: Read, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(2000)
    odd = review(reviewerID=12, asin='ü\t"x', overall="3")
    content = (review() + odd) * 200

    fast, _ = read(read_amazon, content)
    slow, _ = read(read_amazon, content.replace(odd + review(), odd + "no\n" + review(), 1))

    assert fast == slow
    assert fast[1] == ("12", 'ü\t"x', 3.0, 1514764800.0)


def test_more_than_one_line_in_a_hundred_that_is_not_json_is_refused(read: Read) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_amazon, (review() + "nonsense\n") * 50)

    assert str(caught.value).endswith(
        "log.txt: 50 of 100 lines cannot be used, more than 1%:"
        " line 2: not JSON; line 4: not JSON; line 6: not JSON"
    )


@pytest.mark.parametrize("order", ["user,item", "item,user"])
def test_the_order_of_a_ratings_file_shows_in_its_ids(read: Read, order: str) -> None:
    rows, reading = read(read_amazon, ratings(order))

    assert rows[3] == ("A0000000000003", "B000000003", 5.0, 1400000000.0)
    assert reading.notes == [f"log.txt: column order {order}, from the ids' shape"]


def test_ratings_with_a_header_are_read_by_it(read: Read) -> None:
    content = f"user_id,parent_asin,rating,timestamp\n{USER_2023},{ITEM},3.0,1588687728923\n"

    assert read(read_amazon, content)[0] == [(USER_2023, ITEM, 3.0, 1588687728923.0)]


UNDECIDED = (
    " has no header, and its ids do not show which of the first two columns"
    " holds users and which items; say it with --column user=1 --column item=2 (2014 release)"
    " or --column user=2 --column item=1 (2018 release)"
)


@pytest.mark.parametrize(
    "content",
    [
        "user1,item1,5.0,1400000000\n",  # neither shape
        f"{ITEM},{ITEM},5.0,1400000000\n",  # items twice
        f"{USER},{USER},5.0,1400000000\n",
        ratings("user,item") + ratings("item,user"),  # two releases in one file
    ],
)
def test_a_ratings_file_that_could_be_either_is_refused(read: Read, content: str) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_amazon, content)

    assert str(caught.value).endswith("log.txt" + UNDECIDED)


@pytest.mark.parametrize(("user", "expected"), [("1", "u"), ("2", "i")])
def test_the_caller_may_say_the_order(read: Read, user: str, expected: str) -> None:
    wanted = Wanted({"user": user, "item": "2" if user == "1" else "1"})

    rows, _ = read(read_amazon, "u,i,5.0,1400000000\n", wanted)

    assert rows[0][0] == expected


@pytest.mark.parametrize("columns", [{"user": "1"}, {"user": "1", "item": "1"}, {"user": "who"}])
def test_half_an_order_is_refused(read: Read, columns: dict[str, str]) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_amazon, ratings("user,item"), Wanted(columns))

    assert str(caught.value).endswith(
        "log.txt has no header: give both places, --column user=1 --column item=2"
        " or --column user=2 --column item=1"
    )


@pytest.mark.parametrize(
    ("content", "wanted", "message"),
    [
        ('{"user": 1}', Wanted(), " is not an Amazon file: it has no field reviewerID or user_id"),
        (
            '{"reviewerID": "x", "asin": "y", "overall": 1}',
            Wanted(verified=True),
            " has no field unixReviewTime, verified",
        ),
        (
            "a,b,c\n",
            Wanted(),
            (
                " is not an Amazon file: its first line is no JSON object, and has 3 columns"
                " where a ratings file has 4"
            ),
        ),
        (
            "user_id,rating,timestamp\n",
            Wanted(),
            " has no column parent_asin",
        ),
        (
            ratings("user,item"),
            Wanted(verified=True),
            " does not say which purchases were verified",
        ),
        (
            review(),
            Wanted({"user": "1", "item": "2"}),
            (
                " names its fields; --column is for ratings files without a header,"
                " or use --format table"
            ),
        ),
        ("{broken\nmore\n", Wanted(), " is not JSON lines: line 1: not JSON"),
    ],
)
def test_what_a_file_lacks_is_named(read: Read, content: str, wanted: Wanted, message: str) -> None:
    with pytest.raises(BadDataError) as caught:
        read(read_amazon, content, wanted)

    assert str(caught.value).endswith("log.txt" + message)


def test_titles_come_from_metadata_of_every_release(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    lines = [
        json.dumps({"asin": "B000000001", "title": "Salt &amp; pepper\n mill"}),
        "{'asin': 'B000000002', 'title': \"Bob's bits\", 'related': {'also': ['B000000001']}}",
        json.dumps({"title": "A parent", "parent_asin": "B000000003"}),
        json.dumps({"asin": "B000000004", "title": None}),
        json.dumps({"asin": "B000000001", "title": "A second one"}),
        json.dumps({"asin": "B000000009", "title": "Not asked for"}),
    ]
    path.write_text("\n".join(lines))

    titles = read_titles(Reading(path), {f"B00000000{number}" for number in range(1, 6)})

    assert titles == {
        "B000000001": "Salt & pepper mill",
        "B000000002": "Bob's bits",
        "B000000003": "A parent",
    }


def test_titles_come_from_items_tables(tmp_path: Path) -> None:
    path = tmp_path / "items.tsv"
    path.write_text("x\tA title, with\ttab\r\ny\tÜ &amp; ü\nz\t\n")

    titles = read_titles(Reading(path), {"x", "y", "z"})

    assert titles == {"x": "A title, with tab", "y": "Ü &amp; ü"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x\ttitle\ny title\n", "line 2: no tab between id and title"),
        ('{"asin": "x", "title": "t"}\n{"title": "t"}\n', "line 2: no asin"),
        (
            '{"asin": "x", "title": "t"}\n{"asin": "x", "title": }\n',
            "line 2: neither JSON nor a Python literal",
        ),
    ],
)
def test_titles_that_cannot_be_read_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "titles"
    path.write_text(content)

    with pytest.raises(BadDataError) as caught:
        read_titles(Reading(path), {"x"})

    assert str(caught.value) == (f"{path}: 1 of 2 lines cannot be used, more than 1%: {reason}")
