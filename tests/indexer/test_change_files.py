"""Files of changes: every mistake is told in one line that names file and line."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from indexer.change_files import Role, read_changes
from model.bundle import DomainTables
from model.errors import BadDataError
from tests.indexer.index_making import tables_of

WIDTH = 3
LIKE = '{"item_id": "new", "like": ["books-00001"]}\n'
KNOWN = '{"item_id": "é", "title": "T", "like": ["books-00003", "books-00001", "?"]}'
OWN = '{"item_id": "own", "vector": [1, 2.5, -3e-2]}'
HUGE = "x" * 513


@pytest.fixture(scope="module")
def tables() -> DomainTables:
    """Return a domain of three items; the first two point in opposite directions."""
    rows = [[0, 0, 0], [1, 2, 3], [-1, -2, -3], [4, 0, 0]]
    return tables_of("books", np.array(rows, np.float32))


def files_of(folder: Path, contents: Mapping[Role, str | bytes]) -> dict[Role, Path]:
    files = {}
    for role, content in contents.items():
        files[role] = folder / role
        files[role].write_bytes(content if isinstance(content, bytes) else content.encode())
    return files


def test_what_files_say_is_read(tables: DomainTables, tmp_path: Path) -> None:
    files = files_of(
        tmp_path,
        {
            "add": f"\ufeff{KNOWN}\r\n\n{OWN}",
            "remove": "books-00001\r\n\n",
            "rename": "books-00002\tnew name\n",
            "popularity": "new name\t3\né\t0.5\nbooks-00003\t0\n",
        },
    )

    read = read_changes(tables, files, cosine=False)

    like, own = read.changes.added
    assert (like.item_id, like.title, like.like.tolist()) == ("é", "T", [3, 1])
    assert like.vector.tolist() == [2.5, 1, 1.5]
    assert own.vector.tolist() == np.array([1, 2.5, -3e-2], np.float32).tolist()
    assert len(own.like) == 0
    assert read.changes.removed == ("books-00001",)
    assert read.changes.renamed == {"books-00002": "new name"}
    assert read.changes.popularity == {"new name": 3, "é": 0.5, "books-00003": 0}
    assert read.unknown_like == 1


def test_ids_that_change_places_are_renamed_at_once(tables: DomainTables, tmp_path: Path) -> None:
    names = "books-00001\tbooks-00002\nbooks-00003\tnew\nbooks-00002\tbooks-00001\n"
    counts = "books-00001\t2\nbooks-00002\t1\n"
    files = files_of(tmp_path, {"rename": names, "popularity": counts})

    read = read_changes(tables, files, cosine=False).changes

    swapped = {"books-00001": "books-00002", "books-00002": "books-00001"}
    assert read.renamed == swapped | {"books-00003": "new"}
    assert read.popularity == {"books-00001": 2, "books-00002": 1}


def test_where_scores_are_cosines_an_added_vector_has_length_one(
    tables: DomainTables, tmp_path: Path
) -> None:
    lines = '{"item_id": "a", "like": ["books-00003"]}\n{"item_id": "b", "vector": [0, 3, 4]}\n'
    read = read_changes(tables, files_of(tmp_path, {"add": lines}), cosine=True)
    vectors = [each.vector.tolist() for each in read.changes.added]
    assert vectors == [[1, 0, 0], pytest.approx([0, 0.6, 0.8])]


@pytest.mark.parametrize(
    ("contents", "role", "message"),
    [
        (
            {"add": f"{LIKE}nonsense"},
            "add",
            "line 2: Invalid JSON: expected ident at column 2",
        ),
        ({"add": "[]"}, "add", "line 1: Input should be an object"),
        ({"add": '\n{"like": ["books-00001"]}'}, "add", "line 2: item_id: Field required"),
        (
            {"add": '{"item_id": "a", "lik": ["books-00001"]}'},
            "add",
            "line 1: lik: Extra inputs are not permitted",
        ),
        (
            {"add": '{"item_id": "a"}'},
            "add",
            "line 1: an item to add has either a vector or what it is like",
        ),
        (
            {"add": '{"item_id": "a", "like": [], "vector": []}'},
            "add",
            "line 1: an item to add has either a vector or what it is like",
        ),
        (
            {"add": '{"item_id": "a", "like": ["books-00001"], "vector": [1, 2, 3]}'},
            "add",
            "line 1: an item to add has either a vector or what it is like",
        ),
        (
            {"add": LIKE + '{"item_id": "a", "vector": [1, 2]}'},
            "add",
            "line 2: the vector has 2 numbers; those of books have 3",
        ),
        (
            {"add": '{"item_id": "a", "vector": [1, NaN, 2]}'},
            "add",
            "line 1: vector: 1: Input should be a finite number",
        ),
        (
            {"add": '{"item_id": "a", "vector": [1, 1e39, 2]}'},
            "add",
            "line 1: the vector holds a number beyond the range of float32",
        ),
        (
            {"add": '{"item_id": "a", "like": ["nobody", "nothing"]}'},
            "add",
            "line 1: none of the items in like is in books",
        ),
        (
            {"add": LIKE + '{"item_id": "books-00002", "vector": [1, 2, 3]}'},
            "add",
            "line 2: item 'books-00002' is already in books",
        ),
        (
            {"add": LIKE + LIKE},
            "add",
            "line 2: item 'new' is added twice: an id has one part",
        ),
        (
            {"add": json.dumps({"item_id": HUGE, "vector": [1, 2, 3]})},
            "add",
            "line 1: an item id has 1 to 512 bytes of UTF-8",
        ),
        (
            {"add": '{"item_id": "", "vector": [1, 2, 3]}'},
            "add",
            "line 1: an item id has 1 to 512 bytes of UTF-8",
        ),
        (
            {"add": '{"item_id": "a\\tb", "vector": [1, 2, 3]}'},
            "add",
            "line 1: an item id holds no tab and no end of line",
        ),
        ({"add": LIKE.encode() + b"\xff"}, "add", "line 2 is not UTF-8"),
        (
            {"remove": "books-00001\nnobody\n"},
            "remove",
            "line 2: item 'nobody' is not in books",
        ),
        (
            {"remove": "books-00001\nbooks-00001\n"},
            "remove",
            "line 2: item 'books-00001' is removed twice: an id has one part",
        ),
        ({"remove": b"books-00001\n\xc3(\n"}, "remove", "line 2 is not UTF-8"),
        (
            {"remove": "books-00003\nbooks-00001\nbooks-00002\n"},
            "remove",
            "no item would be left in books",
        ),
        (
            {"rename": "books-00001\tbooks-00002\n"},
            "rename",
            "line 1: item 'books-00002' is already in books",
        ),
        (
            {"rename": "nobody\tnew\n"},
            "rename",
            "line 1: item 'nobody' is not in books",
        ),
        (
            {"rename": "books-00001 new\n"},
            "rename",
            "line 1: it is to hold the old id and the new one, parted by one tab",
        ),
        (
            {"rename": "books-00001\ta\tb\n"},
            "rename",
            "line 1: it is to hold the old id and the new one, parted by one tab",
        ),
        (
            {"rename": "books-00001\ta\nbooks-00002\ta\n"},
            "rename",
            "line 2: item 'a' is what another is renamed to twice: an id has one part",
        ),
        (
            {"rename": "books-00001\ta\na\tb\n"},
            "rename",
            "line 2: item 'a' is not in books",
        ),
        (
            {"rename": "books-00001\tbooks-00001\n"},
            "rename",
            "line 1: item 'books-00001' is renamed to what it is",
        ),
        (
            {"rename": "books-00001\tbooks-00002\nbooks-00002\ta\nbooks-00003\tbooks-00002\n"},
            "rename",
            "line 3: item 'books-00002' is what another is renamed to twice: an id has one part",
        ),
        (
            {"rename": "books-00001\tbooks-00002\nbooks-00002\tbooks-00003\n"},
            "rename",
            "line 2: item 'books-00003' is already in books",
        ),
        (
            {"remove": "books-00002\n", "rename": "books-00001\tbooks-00002\n"},
            "rename",
            (
                "line 1: item 'books-00002' is removed and is what another is renamed to: an id "
                "has one part"
            ),
        ),
        (
            {
                "rename": "books-00001\ta\n",
                "add": '{"item_id": "books-00001", "vector": [1, 2, 3]}',
            },
            "add",
            "line 1: item 'books-00001' is renamed and is added: an id has one part",
        ),
        (
            {"remove": "books-00001\n", "rename": "books-00001\ta\n"},
            "rename",
            "line 1: item 'books-00001' is removed and is renamed: an id has one part",
        ),
        (
            {"remove": "books-00002\n", "add": '{"item_id": "books-00002", "vector": [1, 2, 3]}'},
            "add",
            "line 1: item 'books-00002' is removed and is added: an id has one part",
        ),
        (
            {"rename": "books-00002\tnew\n", "add": LIKE},
            "add",
            "line 1: item 'new' is what another is renamed to and is added: an id has one part",
        ),
        (
            {"popularity": "books-00001\t1\nnobody\t1\n"},
            "popularity",
            "line 2: item 'nobody' is not in books",
        ),
        (
            {"remove": "books-00001\n", "popularity": "books-00001\t1\n"},
            "popularity",
            "line 1: item 'books-00001' is not in books",
        ),
        (
            {"rename": "books-00001\ta\n", "popularity": "a\t1\nbooks-00001\t1\n"},
            "popularity",
            "line 2: item 'books-00001' is not in books",
        ),
        (
            {"popularity": "books-00001\t1\nbooks-00001\t1\n"},
            "popularity",
            "line 2: item 'books-00001' stands twice",
        ),
        (
            {"popularity": "books-00001\tmany\n"},
            "popularity",
            "line 1: the count 'many' is no number",
        ),
        (
            {"popularity": "books-00001\t-1\n"},
            "popularity",
            "line 1: the count '-1' is not between 0 and 9007199254740992",
        ),
        (
            {"popularity": "books-00001\tnan\n"},
            "popularity",
            "line 1: the count 'nan' is not between 0 and 9007199254740992",
        ),
        (
            {"popularity": "books-00001\t0\n"},
            "popularity",
            "no item has a count above 0",
        ),
    ],
)
def test_a_mistake_is_told_in_a_line(
    tables: DomainTables,
    tmp_path: Path,
    contents: Mapping[Role, str | bytes],
    role: Role,
    message: str,
) -> None:
    files = files_of(tmp_path, contents)

    with pytest.raises(BadDataError) as refused:
        read_changes(tables, files, cosine=False)

    assert str(refused.value) == f"{role} file {files[role]}: {message}"


@pytest.mark.parametrize("cosine", [False, True])
def test_a_vector_too_long_for_its_numbers_is_refused_however_items_are_scored(
    tables: DomainTables, tmp_path: Path, *, cosine: bool
) -> None:
    files = files_of(tmp_path, {"add": '{"item_id": "a", "vector": [1e200, 1e200, 0]}'})

    with pytest.raises(BadDataError, match="line 1: the vector holds a number beyond the range"):
        read_changes(tables, files, cosine=cosine)


@pytest.mark.parametrize(
    "line",
    [
        '{"item_id": "a", "vector": [0, 0, 0]}',
        '{"item_id": "a", "like": ["books-00001", "books-00002"]}',
    ],
)
def test_where_scores_are_cosines_a_vector_must_have_a_direction(
    tables: DomainTables, tmp_path: Path, line: str
) -> None:
    files = files_of(tmp_path, {"add": line})
    assert read_changes(tables, files, cosine=False).changes.added[0].vector.tolist() == [0, 0, 0]

    with pytest.raises(BadDataError, match="line 1: the vector has no direction, and scores are"):
        read_changes(tables, files, cosine=True)


def test_a_file_that_is_not_there_is_named(tables: DomainTables, tmp_path: Path) -> None:
    with pytest.raises(BadDataError) as refused:
        read_changes(tables, {"add": tmp_path / "none"}, cosine=False)
    assert str(refused.value) == f"add file {tmp_path / 'none'}: No such file or directory"
