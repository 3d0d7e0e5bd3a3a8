"""The dataset folder, and what of a sequence may be learned from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.dataset import Dataset, DomainData, Sequences, write_dataset
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError, NotFoundError
from model.files import MANIFEST

Lists = list[list[int]]
lists_of_rows = st.lists(st.lists(st.integers(1, 9), max_size=7), max_size=8)

BOOKS: Lists = [[1, 2, 3, 1], [2], [3, 1]]
FILMS: Lists = [[4, 2], [1, 1, 1, 2, 3], [], [5]]


def domain(name: str, users: list[str], items: list[str], lists: Lists) -> DomainData:
    return DomainData(
        name,
        Vocabulary(StringTable.of(items), StringTable.of(["", *items[1:]])),
        StringTable.of(users),
        Sequences.of(lists),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a dataset of two domains with three and four users, two of them shared."""
    place = tmp_path / "dataset"
    place.mkdir()
    books = domain("books", ["a\tb", "käthe", "日"], ["x", "y", "ß"], BOOKS)
    films = domain("films", ["käthe", "o", "p", "日"], ["1", "2", "3", "4", "5"], FILMS)
    shared = np.asarray([[1, 0], [2, 3]], np.int32)
    write_dataset(place, (books, films), shared, made={"by": "hand"}, report={"users": 7})
    return place


@given(lists=lists_of_rows)
def test_sequences_give_each_users_rows_back(lists: Lists) -> None:
    sequences = Sequences.of(lists)
    assert len(sequences) == len(lists)
    assert [sequences[user].tolist() for user in range(len(lists))] == lists
    assert sequences.lengths.tolist() == [len(rows) for rows in lists]
    assert sequences.starts.tolist() == [
        sum(len(rows) for rows in lists[:user]) for user in range(len(lists))
    ]


@given(lists=lists_of_rows)
def test_training_rows_are_all_but_the_last_two_of_three_or_more(lists: Lists) -> None:
    users = [f"{user:03d}" for user in range(len(lists))]
    data = domain("d", users, [str(item) for item in range(1, 10)], lists)
    training = data.training()
    expected = [rows[:-2] if len(rows) >= 3 else rows for rows in lists]
    assert [training[user].tolist() for user in range(len(lists))] == expected
    assert data.held_out().tolist() == [2 if len(rows) >= 3 else 0 for rows in lists]
    assert training.rows.dtype == np.int32


@given(lists=lists_of_rows, seed=st.integers(0, 2**32 - 1))
def test_any_number_of_last_rows_can_be_dropped(lists: Lists, seed: int) -> None:
    lengths = np.asarray([len(rows) for rows in lists], np.int64)
    counts = np.random.default_rng(seed).integers(0, lengths + 1)
    left = Sequences.of(lists).without_last(counts)
    expected = [rows[: len(rows) - count] for rows, count in zip(lists, counts, strict=True)]
    assert [left[user].tolist() for user in range(len(lists))] == expected


@pytest.mark.parametrize("users", [[2, 0, 2, 1], [1], []])
def test_users_are_taken_in_the_order_asked_for(users: list[int]) -> None:
    lists = [[3, 1, 2], [], [5, 4]]

    taken = Sequences.of(lists).take(np.array(users, np.int64))

    assert [taken[place].tolist() for place in range(len(taken))] == [lists[user] for user in users]


@pytest.mark.parametrize("verify", [True, False])
def test_a_dataset_is_the_same_after_writing_and_reading(verify: bool, folder: Path) -> None:
    dataset = Dataset.read(folder, verify=verify)
    books, films = dataset.domains
    assert (books.name, films.name) == ("books", "films")
    assert list(books.users) == ["a\tb", "käthe", "日"]
    assert list(books.vocabulary.ids) == ["x", "y", "ß"]
    assert [books.vocabulary.title(row) for row in (1, 2, 3)] == ["", "y", "ß"]
    assert [books.sequences[user].tolist() for user in range(3)] == BOOKS
    assert [films.sequences[user].tolist() for user in range(4)] == FILMS
    assert dataset.shared.tolist() == [[1, 0], [2, 3]]
    assert dataset.report == {"users": 7}
    assert all(books.users[one] == films.users[two] for one, two in dataset.shared)


def test_sequences_are_read_from_disk_only_where_they_are_needed(folder: Path) -> None:
    rows = Dataset.read(folder).domain("films").sequences.rows
    assert isinstance(rows, np.memmap)
    assert not rows.flags.writeable


def test_the_same_content_has_the_same_digest_and_bytes(folder: Path, tmp_path: Path) -> None:
    read = Dataset.read(folder)
    again = tmp_path / "again"
    again.mkdir()
    digest = write_dataset(
        again, read.domains, read.shared, made={"by": "hand"}, report={"users": 7}
    )
    assert digest == read.digest
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 18
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_a_domain_is_found_by_its_name_and_others_are_named(folder: Path) -> None:
    dataset = Dataset.read(folder)
    assert dataset.domain("films") is dataset.domains[1]
    with pytest.raises(NotFoundError) as caught:
        dataset.domain("songs")
    assert str(caught.value) == "domain 'songs' is not in the dataset; it has books, films"


@pytest.mark.parametrize(
    "name", ["shared_users.npy", "books/users.text.npy", "films/sequences.rows.npy"]
)
def test_a_changed_byte_is_found_and_its_file_named(name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BadArtifactError) as caught:
        Dataset.read(folder)
    expected = f"{folder / name} is damaged: its SHA-256 is not the manifest's"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared_users.npy", "{0}/shared_users.npy cannot be read: "),
        ("films/sequences.ends.npy", "the sequences in {0}/films cannot be read: "),
        ("films/sequences.rows.npy", "the sequences in {0}/films cannot be read: "),
        ("films/users.text.npy", "{0}/films/users.text.npy cannot be read: "),
    ],
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_missing_or_broken_file_is_named_even_where_digests_are_not_checked(
    name: str, message: str, damage: Callable[[Path], None], folder: Path
) -> None:
    damage(folder / name)
    with pytest.raises(BadArtifactError) as caught:
        Dataset.read(folder, verify=False)
    assert str(caught.value).startswith(message.format(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows", [4, 2, 1, 1, 1, 2, 3, 6]),  # there are 5 items
        ("rows", [4, 2, 1, 1, 0, 2, 3, 5]),
        ("rows", [4, 2, 1]),
        ("ends", [2, 7, 7]),
        ("ends", [7, 2, 7, 8]),
        ("ends", [-1, 2, 7, 8]),
    ],
)
def test_sequences_that_do_not_fit_their_users_and_items_are_refused(
    name: str, content: list[int], folder: Path
) -> None:
    kind = np.int32 if name == "rows" else np.int64
    np.save(folder / "films" / f"sequences.{name}.npy", np.asarray(content, kind))
    with pytest.raises(BadArtifactError) as caught:
        Dataset.read(folder, verify=False)
    expected = f"the sequences in {folder / 'films'} do not fit its users and items"
    assert str(caught.value) == expected


@pytest.mark.parametrize("shared", [[[0, 4]], [[3, 0]], [[-1, 0]], [[0, 0, 0]], [0, 0], 0])
def test_shared_users_that_are_in_no_domain_are_refused(shared: object, folder: Path) -> None:
    np.save(folder / "shared_users.npy", np.asarray(shared, np.int32))
    with pytest.raises(BadArtifactError) as caught:
        Dataset.read(folder, verify=False)
    expected = f"{folder / 'shared_users.npy'} does not fit the users of the two domains"
    assert str(caught.value) == expected


def test_domains_may_share_no_user_at_all(folder: Path, tmp_path: Path) -> None:
    read = Dataset.read(folder)
    place = tmp_path / "apart"
    place.mkdir()
    write_dataset(place, read.domains, np.empty((0, 2), np.int32), made={}, report={})
    assert Dataset.read(place).shared.shape == (0, 2)


def test_a_folder_of_another_kind_is_no_dataset(folder: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BadArtifactError, match=r"is a recguru-bundle, not a recguru-dataset$"):
        Dataset.read(tiny_bundle)
    (folder / MANIFEST).unlink()
    with pytest.raises(NotFoundError, match=r"is not a recguru-dataset: there is no manifest"):
        Dataset.read(folder)
