"""Strings outside, rows inside, and nothing lost between memory and disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError

IDS = ["B0001", "a\tb", "a b", "käse", "Ünder", "日本語", "𝄞 clef", "Z"]
ASCENDING = sorted(IDS)
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


def written(vocabulary: Vocabulary, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    vocabulary.write(folder)
    return folder


@given(strings=texts)
def test_a_table_gives_its_strings_back_by_place_and_in_order(strings: list[str]) -> None:
    table = StringTable.of(strings)
    assert len(table) == len(strings)
    assert list(table) == strings
    assert [table[place] for place in range(len(strings))] == strings
    assert table[1:-1] == strings[1:-1]
    assert table[::-2] == strings[::-2]


@given(strings=texts.filter(len), places=st.lists(st.integers(0, 10**6)))
def test_strings_are_taken_at_places_in_any_order(strings: list[str], places: list[int]) -> None:
    wanted = [place % len(strings) for place in places]
    found = StringTable.of(strings).take(np.asarray(wanted, np.int32))
    assert found == [strings[place] for place in wanted]
    assert StringTable.of([]).take(np.empty(0, np.int32)) == []


def test_a_table_counts_from_the_end_and_ends_where_it_ends() -> None:
    table = StringTable.of(["ä", "", "c"])
    assert (table[-1], table[-3]) == ("c", "ä")
    for outside in (3, -4):
        with pytest.raises(IndexError):
            table[outside]


def test_a_long_table_is_the_same_across_the_blocks_it_is_read_in(tmp_path: Path) -> None:
    strings = [f"ü{place}" if place % 3 else "" for place in range(250_001)]
    StringTable.of(strings).write(tmp_path / "long")
    assert list(StringTable.read(tmp_path / "long")) == strings


@pytest.mark.parametrize("strings", [IDS, [], [""], ["", ""], ["\x00", "a\n", "\u2028"]])
def test_a_table_is_the_same_after_writing_and_reading(strings: list[str], tmp_path: Path) -> None:
    StringTable.of(strings).write(tmp_path / "names")
    assert list(StringTable.read(tmp_path / "names")) == strings


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        StringTable.of(IDS).write(tmp_path / name)
    for part in ("text.npy", "ends.npy"):
        first, second = tmp_path / f"first.{part}", tmp_path / f"second.{part}"
        assert first.read_bytes() == second.read_bytes()


def test_a_table_lies_on_disk_as_utf_8_and_where_each_string_ends(tmp_path: Path) -> None:
    StringTable.of(["é", "", "ab"]).write(tmp_path / "names")
    assert np.load(tmp_path / "names.text.npy").tobytes() == b"\xc3\xa9ab"
    assert np.load(tmp_path / "names.ends.npy").tolist() == [2, 2, 4]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([1, 3], "{ends} does not fit {text}: the strings end at 3 of 2 bytes"),
        ([], "{ends} is damaged: it holds float64 of shape (0,), not int64 in a row"),
        ([3, 2], "{ends} is damaged: a string ends before it begins"),
        ([-1, 2], "{ends} is damaged: a string ends before it begins"),
        ([2.0], "{ends} is damaged: it holds float64 of shape (1,), not int64 in a row"),
        ([[2]], "{ends} is damaged: it holds int64 of shape (1, 1), not int64 in a row"),
    ],
)
def test_a_table_whose_ends_do_not_fit_its_text_is_refused_by_its_file(
    ends: list[float] | list[list[int]], said: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "names.text.npy", np.frombuffer(b"ab", np.uint8))
    np.save(tmp_path / "names.ends.npy", np.asarray(ends))
    with pytest.raises(BadArtifactError) as caught:
        StringTable.read(tmp_path / "names")
    assert str(caught.value) == said.format(
        ends=tmp_path / "names.ends.npy", text=tmp_path / "names.text.npy"
    )


@pytest.mark.parametrize("part", ["text", "ends"])
def test_a_table_of_which_a_file_is_missing_or_cut_short_is_refused_by_its_file(
    part: str, tmp_path: Path
) -> None:
    StringTable.of(["a", "b"]).write(tmp_path / "names")
    path = tmp_path / f"names.{part}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadArtifactError, match=r"cannot be read: mmap length is greater") as cut:
        StringTable.read(tmp_path / "names")
    path.unlink()
    with pytest.raises(BadArtifactError) as missing:
        StringTable.read(tmp_path / "names")
    assert str(cut.value).startswith(f"{path} ")
    assert str(missing.value) == f"{path} cannot be read: No such file or directory"


def test_a_table_of_pickled_objects_is_never_read(tmp_path: Path) -> None:
    StringTable.of(["a"]).write(tmp_path / "names")
    np.save(tmp_path / "names.ends.npy", np.asarray(["a", None], object), allow_pickle=True)
    with pytest.raises(
        BadArtifactError, match=r"names\.ends\.npy cannot be read: .*Python objects"
    ):
        StringTable.read(tmp_path / "names")


def test_rows_begin_at_1_and_unknown_ids_are_padding() -> None:
    vocabulary = Vocabulary(StringTable.of(ASCENDING))
    rows = vocabulary.rows([ASCENDING[2], "nowhere", ASCENDING[0], ASCENDING[2]])
    assert rows.dtype == np.int32
    assert rows.tolist() == [3, 0, 1, 3]
    assert vocabulary.rows([]).tolist() == []


@given(
    ids=st.sets(st.text(st.characters(exclude_categories=["Cs"])), max_size=30),
    asked=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
)
def test_rows_are_those_a_dictionary_gives(ids: set[str], asked: list[str]) -> None:
    ordered = sorted(ids)
    vocabulary = Vocabulary(StringTable.of(ordered))
    rows = {item_id: row for row, item_id in enumerate(ordered, start=1)}
    everything = [*asked, *ordered[::-1]]
    assert vocabulary.rows(everything).tolist() == [rows.get(each, 0) for each in everything]


class Clashing(str):
    """A string whose hash others share."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self) % 2


def test_ids_of_one_hash_are_told_apart() -> None:
    vocabulary = Vocabulary(StringTable.of(ASCENDING))
    clashing = [Clashing(item_id) for item_id in ASCENDING]
    vocabulary._hashes = np.sort([hash(item_id) for item_id in clashing])
    vocabulary._by_hash = np.argsort([hash(item_id) for item_id in clashing], kind="stable").astype(
        np.int32
    )
    unknown = [Clashing("nowhere"), Clashing("")]
    assert vocabulary.rows([*clashing, *unknown]).tolist() == [*range(1, 9), 0, 0]


def test_an_id_comes_back_from_its_row() -> None:
    vocabulary = Vocabulary(StringTable.of(ASCENDING))
    assert [vocabulary.item_id(int(row)) for row in vocabulary.rows(IDS)] == IDS
    assert "käse" in vocabulary
    assert "Käse" not in vocabulary


@pytest.mark.parametrize("row", [0, -1, 9])
def test_a_row_outside_the_vocabulary_has_no_id_and_no_title(row: int) -> None:
    vocabulary = Vocabulary(StringTable.of(ASCENDING), StringTable.of(ASCENDING))
    for look in (vocabulary.item_id, vocabulary.title):
        with pytest.raises(IndexError, match=rf"^row {row} is outside 1\.\.8$"):
            look(row)


@pytest.mark.parametrize("titles", [None, [""] * 8, ["first", "", "dr\titte", *"abcde"]])
def test_a_vocabulary_is_the_same_after_writing_and_reading(
    titles: list[str] | None, tmp_path: Path
) -> None:
    titled = None if titles is None else StringTable.of(titles)
    folder = written(Vocabulary(StringTable.of(ASCENDING), titled), tmp_path / "domain")
    read = Vocabulary.read(folder)
    assert list(read.ids) == ASCENDING
    assert [read.title(row) for row in range(1, 9)] == (titles or [""] * 8)
    assert (read.titles is None) == (titles is None)


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "b", "b"], ["a", "c", "b"]])
def test_ids_that_repeat_or_stand_out_of_order_are_refused(ids: list[str], tmp_path: Path) -> None:
    StringTable.of(ids).write(tmp_path / "items")
    with pytest.raises(BadArtifactError) as caught:
        Vocabulary.read(tmp_path)
    problem = "the item ids are not in ascending order, each once"
    assert str(caught.value) == f"{tmp_path}: {problem}"
    with pytest.raises(ValueError, match=f"^{problem}$"):
        Vocabulary(StringTable.of(ids))


def test_ids_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    folder = written(Vocabulary(StringTable.of(["a", "b"])), tmp_path / "domain")
    np.save(folder / "items.text.npy", np.frombuffer(b"a\xff", np.uint8))
    with pytest.raises(
        BadArtifactError, match=r"domain/items\.text\.npy: an item id is not UTF-8$"
    ):
        Vocabulary.read(folder)


def test_titles_must_be_as_many_as_items(tmp_path: Path) -> None:
    folder = written(
        Vocabulary(StringTable.of(["a", "b"]), StringTable.of(["A"])), tmp_path / "domain"
    )
    with pytest.raises(BadArtifactError) as caught:
        Vocabulary.read(folder)
    assert str(caught.value) == f"{folder}: 1 titles for 2 items"
