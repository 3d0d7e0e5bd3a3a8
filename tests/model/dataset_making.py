"""Datasets in memory, from lists of rows by user id."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, DomainData, Sequences
from model.data.vocabulary import StringTable, Vocabulary

Lists = Mapping[str, Sequence[int]]

GAINS = 1 / np.log2(np.arange(2, 12))
"""What the first ten ranks are worth."""
_KINDS, _ITEMS_OF_A_KIND = 3, 8
CHANCE_OF_KINDS = GAINS.sum() / (_KINDS * _ITEMS_OF_A_KIND - 4)
"""NDCG@10 of who ranks `dataset_of_kinds` at random."""


def dataset_of(first: Lists, second: Lists, *, items: tuple[int, int]) -> Dataset:
    """Make a dataset of the domains `books` and `films`; users with one id in both are shared."""
    domains = (_domain("books", first, items[0]), _domain("films", second, items[1]))
    return _dataset(domains)


def read_logs(folder: Path) -> Dataset:
    """Read the logs of two domains as they stand, nothing filtered."""
    domains = []
    for path in sorted(folder.glob("*.sequences.tsv")):
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        lists = {line[0]: line[1].split(",") for line in lines}
        vocabulary = Vocabulary(StringTable.of(sorted({i for ids in lists.values() for i in ids})))
        sequences = Sequences.of([vocabulary.rows(lists[user]) for user in sorted(lists)])
        name = path.name.removesuffix(".sequences.tsv")
        domains.append(DomainData(name, vocabulary, StringTable.of(sorted(lists)), sequences))
    return _dataset((domains[0], domains[1]))


def random_dataset(generator: np.random.Generator, *, users: int, items: int) -> Dataset:
    """Make domains of skewed popularity, of 1 to 12 rows a user; half of the users are shared."""
    lists: list[dict[str, Sequence[int]]] = []
    for begin, size in ((0, items), (users // 2, items * 2)):
        popular = 1 / np.arange(1, size + 1)
        popular /= popular.sum()
        lists.append(
            {
                f"u{begin + user:05d}": (
                    generator.choice(size, generator.integers(1, 13), replace=False, p=popular) + 1
                ).tolist()
                for user in range(users)
            }
        )
    return dataset_of(lists[0], lists[1], items=(items, 2 * items))


def with_other_held_out_rows(
    dataset: Dataset, generator: np.random.Generator, *, back: int = 1
) -> Dataset:
    """Replace every test row, or with `back` 2 every validation row, by one drawn at random."""
    domains = []
    for domain in dataset.domains:
        rows = np.array(domain.sequences.rows)
        tests = domain.sequences.ends[domain.held_out() > 0] - back
        rows[tests] = generator.integers(1, len(domain.vocabulary) + 1, len(tests))
        changed = Sequences(rows, domain.sequences.ends)
        domains.append(DomainData(domain.name, domain.vocabulary, domain.users, changed))
    return Dataset((domains[0], domains[1]), dataset.shared, "1" * 64, {})


def _domain(name: str, lists: Lists, items: int) -> DomainData:
    vocabulary = Vocabulary(StringTable.of(f"{name}-{item:05d}" for item in range(items)))
    users = sorted(lists)
    sequences = Sequences.of([lists[user] for user in users])
    return DomainData(name, vocabulary, StringTable.of(users), sequences)


def _dataset(domains: tuple[DomainData, DomainData]) -> Dataset:
    places = {user: place for place, user in enumerate(domains[1].users)}
    pairs = [(i, places[user]) for i, user in enumerate(domains[0].users) if user in places]
    return Dataset(domains, np.asarray(pairs, np.int32).reshape(-1, 2), "0" * 64, {})


@cache
def dataset_of_kinds() -> Dataset:
    """Make domains of three kinds of items; every user wants one kind, the same in both."""
    generator = np.random.default_rng(5)
    lists: list[dict[str, list[int]]] = []
    for begin, end in ((0, 120), (31, 140)):
        lists.append({})
        for user in range(begin, end):
            first = user % _KINDS * _ITEMS_OF_A_KIND + 1
            rows = first + generator.permutation(_ITEMS_OF_A_KIND)[: generator.integers(5, 8)]
            lists[-1][f"u{user:05d}"] = rows.tolist()
    size = _KINDS * _ITEMS_OF_A_KIND
    return dataset_of(lists[0], lists[1], items=(size, size))
