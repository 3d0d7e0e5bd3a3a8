"""What the cache of GURs keeps and for whom, and that it changes no answer of the networks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.arrays import Floats, Rows
from model.bundle import Bundle
from model.gur_cache import GurCache
from model.inference import Inference

READ = 12  # items of a history that the tiny bundle's networks read
TOLERANCE = 1e-5


def rows(*numbers: int) -> Rows:
    return np.asarray(numbers, np.int32)


def gur(number: float) -> Floats:
    return np.full((1, 3), number, np.float32)


class Counted:
    """A cache and how often it could help."""

    def __init__(self, entries: int) -> None:
        self.hits = self.misses = 0
        self.cache = GurCache(entries, self._count)

    def keep(self, domain: str, history: Rows, number: float) -> None:
        """Keep a number as the GUR of a history."""
        self.cache.keep(domain, [history], gur(number))

    def find(self, domain: str, history: Rows) -> float | None:
        """Give the number that was kept for a history."""
        found = self.cache.find(domain, [history])
        return float(found[0][0]) if found else None

    def _count(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses


LONG = rows(*range(1, 30))
LIKE_LONG = [
    rows(*range(1, 29)),
    rows(*range(2, 30)),
    rows(*range(29, 0, -1)),
    rows(*range(1, 29), 30),
]


@pytest.mark.parametrize(
    ("history", "others"),
    [
        (rows(5), [rows(6), rows(5, 5), rows(0, 5), rows(5 << 8), rows()]),
        (rows(1, 2, 3), [rows(3, 2, 1), rows(1, 2), rows(2, 3), rows(1, 2, 3, 4)]),
        (rows(1, 2, 3, 4), [rows(1, 2, 3), rows(4, 3, 2, 1), rows(1, 2, 3, 4, 5)]),
        (LONG, LIKE_LONG),
    ],
)
def test_no_other_history_and_no_other_domain_finds_a_gur(
    history: Rows, others: Sequence[Rows]
) -> None:
    counted = Counted(8)
    counted.keep("books", history, 1)
    assert counted.find("books", history.copy()) == 1
    assert counted.find("films", history) is None
    assert [counted.find("books", other) for other in others] == [None] * len(others)
    counted.keep("films", history, 2)
    assert (counted.find("books", history), counted.find("films", history)) == (1, 2)


def test_the_history_that_was_not_asked_for_the_longest_goes_first() -> None:
    counted = Counted(3)
    for number in (1, 2, 3):
        counted.keep("books", rows(number), number)
    assert counted.find("books", rows(1)) == 1
    counted.keep("books", rows(2), 2)  # kept again is as good as asked for
    counted.keep("books", rows(4), 4)
    assert len(counted.cache) == 3
    assert [counted.find("books", rows(number)) for number in (1, 2, 3, 4)] == [1, 2, None, 4]


def test_there_are_never_more_gurs_than_allowed_and_those_kept_last_stay() -> None:
    counted = Counted(5)
    histories = [rows(*range(1, length)) for length in range(1, 41)]
    gurs = np.arange(40, dtype=np.float32)[:, None].repeat(3, axis=1)
    counted.cache.keep("books", histories[:20], gurs[:20])
    counted.cache.keep("books", histories[20:], gurs[20:])
    assert len(counted.cache) == 5
    found = counted.cache.find("books", histories)
    assert {place: each.tolist() for place, each in found.items()} == {
        place: [place] * 3 for place in range(35, 40)
    }


def test_what_is_kept_is_independent_of_the_batch_it_came_in() -> None:
    counted = Counted(2)
    batch = np.ones((2, 3), np.float32)
    counted.cache.keep("books", [rows(1), rows(2)], batch)
    batch[:] = 7
    assert counted.find("books", rows(2)) == 1


def test_every_history_looked_up_is_counted() -> None:
    counted = Counted(2)
    counted.cache.find("books", [rows(1), rows(2), rows(3)])
    assert (counted.hits, counted.misses) == (0, 3)
    counted.cache.keep("books", [rows(1), rows(2)], np.ones((2, 3), np.float32))
    counted.cache.find("books", [rows(1), rows(2), rows(3), rows(1)])
    assert (counted.hits, counted.misses) == (3, 4)


@pytest.fixture
def inference(tiny_bundle: Path) -> Inference:
    return Inference.load(Bundle.read(tiny_bundle), device="cpu")


def test_of_a_long_history_what_is_not_read_makes_no_difference(inference: Inference) -> None:
    counted = Counted(8)
    inference.gur_cache = counted.cache
    read = range(5, 5 + READ)
    first = inference.prefer("books", [{"films": rows(1, 2, 3, *read)}])
    again = inference.prefer("books", [{"films": rows(4, *read)}, {"films": rows(*read)}])
    assert (counted.hits, counted.misses) == (2, 1)
    for preference in again.preferences:
        np.testing.assert_allclose(preference, first.preferences[0], atol=TOLERANCE)
    inference.prefer("books", [{"films": rows(*read)[1:]}])
    assert (counted.hits, counted.misses) == (2, 2)


def test_a_gur_that_is_kept_is_not_made_again(inference: Inference) -> None:
    counted = Counted(8)
    inference.gur_cache = counted.cache
    planted = np.linspace(-1, 1, 16, dtype=np.float32)
    counted.cache.keep("films", [rows(7, 8)], planted[None])
    found = inference.encode("books", [{"films": rows(7)}, {"films": rows(7, 8)}])
    assert found.gurs[1].tolist() == planted.tolist()
    assert abs(found.gurs[0] - planted).max() > 0.1
    assert (counted.hits, counted.misses) == (1, 1)


@pytest.mark.parametrize("entries", [1, 7, 1000])
def test_users_are_encoded_alike_whatever_is_kept(
    inference: Inference, tiny_bundle: Path, entries: int
) -> None:
    plain = Inference.load(Bundle.read(tiny_bundle), device="cpu")
    counted = Counted(entries)
    inference.gur_cache = counted.cache
    generator = np.random.default_rng(4)
    users = [
        {
            "books": generator.integers(1, 41, generator.integers(0, 25)).astype(np.int32),
            "films": generator.integers(1, 301, generator.integers(0, 25)).astype(np.int32),
        }
        for _ in range(60)
    ]
    for count in range(0, 60, 3):
        asked = [users[user] for user in generator.integers(60, size=count)]
        domain = str(generator.choice(["books", "films"]))
        found, expected = inference.encode(domain, asked), plain.encode(domain, asked)
        np.testing.assert_allclose(found.gurs, expected.gurs, atol=TOLERANCE)
        np.testing.assert_allclose(found.preferences, expected.preferences, atol=TOLERANCE)
        assert found.bases == expected.bases
        alone = inference.prefer(domain, asked).preferences
        np.testing.assert_allclose(alone, expected.preferences, atol=TOLERANCE)
    assert counted.hits > 0
    assert len(counted.cache) <= entries
