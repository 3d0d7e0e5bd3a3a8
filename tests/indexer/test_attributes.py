"""Attributes: from a table of text, through a release, to the items that have some values."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from indexer.attributes import MAX_VALUE_BYTES, Attribute
from indexer.build import Built, Extras, build
from indexer.publish import versions
from indexer.release import Release, latest
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle
from model.errors import BadArtifactError, BadDataError, NotFoundError
from tests.indexer.index_making import SIZES, silent

FILMS = (
    "item_id\tgenre\tyear\n"
    "films-00001\tlove|crime\t1999\n"
    "films-00002\t\t1999\n"
    "nobody\thorror\t1066\n"
    "\n"
    'films-01500\tlove||"odd" é\n'
    "films-00008\t|crime|crime\t2001\r\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "films.tsv"
    path.write_bytes(FILMS.encode())
    return path


def built_with(root: Path, bundle: Bundle, attributes: Mapping[str, Path], most: int = 9) -> Built:
    settings = IndexSettings(device="cpu", kind="flat", max_attribute_values=most)
    return build(
        bundle, Store(root), settings=settings, extras=Extras(attributes=attributes), advance=silent
    )


def rows_by_value(attribute: Attribute) -> dict[str, list[int]]:
    return {value: attribute.having([value]).rows().tolist() for value in attribute.values}


def test_a_release_knows_which_items_have_which_values(
    bundle: Bundle, root: Path, table: Path
) -> None:
    built = built_with(root, bundle, {"films": table})
    indexes = Release.read(latest(root)).indexes

    attributes = indexes["films"].attributes
    assert indexes["books"].attributes == {}
    assert list(attributes) == ["genre", "year"]
    assert rows_by_value(attributes["genre"]) == {
        '"odd" é': [1500],
        "crime": [1, 8],
        "love": [1, 1500],
    }
    assert rows_by_value(attributes["year"]) == {"1999": [1, 2], "2001": [8]}
    assert attributes["genre"].having(["love", "crime", "love"]).rows().tolist() == [1, 8, 1500]
    assert attributes["genre"].having(["horror"]).rows().tolist() == []
    assert attributes["genre"].having(["horror", "crime"]).rows().tolist() == [1, 8]
    (told,) = built.attributes
    assert (told.domain, told.ids, told.unknown) == ("films", 5, 1)


def test_attributes_are_mapped_and_every_byte_of_them_is_covered_by_a_digest(
    bundle: Bundle, root: Path, table: Path
) -> None:
    folder = built_with(root, bundle, {"films": table}).folder
    bits = Release.read(folder).indexes["films"].attributes["genre"]._bits
    while not isinstance(bits, np.memmap):
        assert isinstance(bits.base, np.ndarray)
        bits = bits.base

    for path in sorted((folder / "attributes" / "films").iterdir()):
        held = path.read_bytes()
        path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
        with pytest.raises(BadArtifactError, match=f"{path} is damaged: its SHA-256 is not"):
            Release.read(folder)
        path.unlink()
        with pytest.raises(BadArtifactError, match=f"{path} is missing"):
            Release.read(folder)
        path.write_bytes(held)
    assert Release.read(folder).indexes["films"].attributes


def test_the_order_of_lines_and_columns_and_packing_do_not_change_what_is_stored(
    bundle: Bundle, root: Path, table: Path, tmp_path: Path
) -> None:
    lines = [line.split("\t") for line in FILMS.replace("\r", "").split("\n") if line]
    lines = [[item, *more, *[""] * (2 - len(more))] for item, *more in lines]
    turned = [lines[0], *lines[:0:-1]]
    other = tmp_path / "turned.tsv.gz"
    text = "\n".join("\t".join([item, year, genre]) for item, genre, year in turned)
    other.write_bytes(gzip.compress(text.encode("utf-8-sig")))

    digests = {built_with(root, bundle, {"films": each}).digest for each in (table, other)}

    assert len(digests) == 1


HEADER = "item_id\tgenre\n"
GOOD = "films-00001\tlove\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"films\.tsv does not exist"),
        ("", r"films\.tsv is empty"),
        (HEADER.encode() + b"films-1\t\xff\n", r"films\.tsv: line 2 is not UTF-8"),
        ("item_id,genre\n", "the first column must be item_id, not 'item_id,genre'; columns are p"),
        ("\n\n", "the first column must be item_id, not ''"),
        ("item_id\n" + GOOD, r"films\.tsv has no column beside item_id"),
        ("item_id\tgenre\tgenre\n", r"films\.tsv: column 'genre' stands twice"),
        ("item_id\tgen re\n" + GOOD, "column 'gen re' must be named with 1 to 64 letters, digits"),
        ("item_id\t../a\n" + GOOD, r"column '\.\./a' must be named with 1 to 64 letters, digits"),
        ("item_id\t\n" + GOOD, "column '' must be named with 1 to 64 letters, digits"),
        (HEADER, r"films\.tsv: none of its 0 item ids is known in films"),
        (HEADER + "books-00001\tlove\n", r"none of its 1 item ids is known in films"),
        (HEADER + GOOD + "\n" + GOOD, "item id 'films-00001' stands in lines 2 and 4"),
        (HEADER + GOOD + "\tlove\n", r"films\.tsv: line 3 has no item id"),
        (HEADER + GOOD + "films-00002\tlove\tcrime\n", r"tsv: line 3: 3 columns, expected 2"),
        (HEADER + "films-00001\t|\n", r"column 'genre' has 0 different values; there may be 1 to"),
        (
            HEADER + "films-00001\ta|b|c\nfilms-00002\td|e\n",
            r"column 'genre' has 5 different values; there may be 1 to 4 \(index\.max_attribute_v",
        ),
        (
            HEADER + GOOD + f"films-00002\ta|{'é' * (MAX_VALUE_BYTES // 2)}x\n",
            "line 3, column 'genre': a value has more than 512 bytes",
        ),
    ],
)
def test_a_table_of_no_use_stops_the_build_with_a_line_that_names_the_place(
    bundle: Bundle, root: Path, tmp_path: Path, text: str | bytes | None, message: str
) -> None:
    path = tmp_path / "films.tsv"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    with pytest.raises(BadDataError, match=message) as refusal:
        built_with(root, bundle, {"films": path}, most=4)

    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert versions(root) == []


def test_values_of_items_that_the_domain_does_not_know_do_not_count(
    bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "films.tsv"
    path.write_text(HEADER + GOOD + "".join(f"x{each}\tv{each}\n" for each in range(99)))

    built_with(root, bundle, {"films": path}, most=1)

    attributes = Release.read(latest(root)).indexes["films"].attributes
    assert rows_by_value(attributes["genre"]) == {"love": [1]}


def test_attributes_of_a_domain_that_is_not_there_stop_the_build(
    bundle: Bundle, root: Path, table: Path
) -> None:
    with pytest.raises(NotFoundError, match="attributes of 'songs': the bundle has books, films"):
        built_with(root, bundle, {"songs": table})


WIDTH = SIZES["films"] // 8 + 1
WRONG_BITS = "does not hold a bitmap of 1500 items for each of 3 values"


@pytest.mark.parametrize(
    ("part", "array", "message"),
    [
        ("bits", np.zeros((3, WIDTH - 1), np.uint8), WRONG_BITS),
        ("bits", np.zeros((2, WIDTH), np.uint8), WRONG_BITS),
        ("bits", np.zeros(3 * WIDTH, np.uint8), WRONG_BITS),
        ("bits", np.zeros((3, WIDTH), np.int8), WRONG_BITS),
        ("bits", np.full((3, WIDTH), 1, np.uint8), "marks rows that are not between 1 and 1500"),
        ("bits", np.full((3, WIDTH), 128, np.uint8), "marks rows that are not between 1 and 1500"),
        (
            "text",
            np.zeros(17, np.uint8),
            r"genre\.bits\.npy: the values are not in ascending order",
        ),
        ("text", np.full(17, 255, np.uint8), r"text\.npy: a value is not UTF-8"),
        ("text", np.zeros(3, np.uint8), r"text\.npy: the strings end at 17 of 3 bytes$"),
        ("ends", np.array([17], np.int64), "does not hold a bitmap of 1500 items for each of 1 va"),
        ("ends", np.array([17, 5, 17], np.int64), r"genre\.ends\.npy is damaged: a string ends"),
    ],
)
def test_damage_to_attributes_is_refused_by_name_even_unverified(
    bundle: Bundle,
    root: Path,
    table: Path,
    part: str,
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.int8 | np.int64]],
    message: str,
) -> None:
    folder = built_with(root, bundle, {"films": table}).folder / "attributes" / "films"
    assert np.load(folder / "genre.text.npy").size == 17
    np.save(folder / f"genre.{part}.npy", array)

    with pytest.raises(BadArtifactError, match=message) as refusal:
        Release.read(latest(root), verify=False)

    assert str(folder / "genre") in str(refusal.value)
