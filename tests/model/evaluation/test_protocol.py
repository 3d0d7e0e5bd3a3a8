"""What is asked and what may be known, against cases by hand and a slow reading of the rule."""

import numpy as np
import pytest

from model.data.dataset import Dataset
from model.errors import NotFoundError
from model.evaluation.protocol import Questions, Split, questions
from tests.model.dataset_making import dataset_of, random_dataset, with_other_held_out_rows

SPLITS: tuple[Split, Split] = ("validation", "test")


@pytest.fixture
def small() -> Dataset:
    """Two domains: `ann` and `bob` are shared, `bob` has two films and so none held out."""
    return dataset_of(
        {"ann": [1, 2, 3, 4, 5, 6], "bob": [7, 8, 9], "cat": [5, 6]},
        {"ann": [10, 11, 12, 13], "bob": [14, 15], "dan": [1, 2, 3]},
        items=(9, 15),
    )


def _histories(asked: Questions) -> list[dict[str, list[int]]]:
    return [
        {name: rows.tolist() for name, rows in asked.history(place).items()}
        for place in range(len(asked))
    ]


def test_a_test_question_shows_training_and_validation_rows_of_both_domains(small: Dataset) -> None:
    asked = questions(small, "books", split="test")

    assert asked.targets.tolist() == [9, 6]  # bob first: the shorter history
    assert _histories(asked) == [
        {"books": [7, 8], "films": [14, 15]},
        {"books": [1, 2, 3, 4, 5], "films": [10, 11, 12]},
    ]


def test_a_validation_question_shows_training_rows_alone(small: Dataset) -> None:
    asked = questions(small, "films", split="validation")

    assert asked.targets.tolist() == [2, 12]
    assert _histories(asked) == [{"films": [1]}, {"films": [10, 11], "books": [1, 2, 3, 4]}]


def test_slices_are_the_shared_users_and_those_with_at_most_three_training_rows(
    small: Dataset,
) -> None:
    asked = questions(small, "books", split="test")
    alone = questions(small, "films", split="test")

    assert asked.shared.tolist() == [True, True]
    assert asked.short.tolist() == [True, False]  # one and four training rows
    assert alone.shared.tolist() == [False, True]  # dan, then ann


def test_three_training_rows_are_short_and_four_are_not() -> None:
    dataset = dataset_of({"ann": [1, 2, 3, 4, 5], "bob": [1, 2, 3, 4, 5, 6]}, {}, items=(9, 1))

    assert questions(dataset, "books").short.tolist() == [True, False]


def test_users_with_fewer_than_three_rows_are_not_asked_about(small: Dataset) -> None:
    assert questions(small, "books").users.tolist() == [1, 0]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("domain", ["books", "films"])
def test_questions_follow_the_rule_read_slowly(split: Split, domain: str) -> None:
    dataset = random_dataset(np.random.default_rng(5), users=80, items=60)
    sequences = {
        each.name: {user: each.sequences[i].tolist() for i, user in enumerate(each.users)}
        for each in dataset.domains
    }
    back = 1 if split == "test" else 2
    asked = questions(dataset, domain, split=split)
    users = dataset.domain(domain).users

    found = {}
    for place, history in enumerate(_histories(asked)):
        found[users[int(asked.users[place])]] = (history, int(asked.targets[place]))

    expected = {}
    for user, rows in sequences[domain].items():
        if len(rows) >= 3:
            history = {domain: rows[:-back]}
            for other, elsewhere in sequences.items():
                if other != domain and user in elsewhere:
                    kept = elsewhere[user]
                    history[other] = kept[:-back] if len(kept) >= 3 else kept
            expected[user] = (history, rows[-back])
    assert found == expected
    assert len(expected) > 40


@pytest.mark.parametrize("domain", ["books", "films"])
def test_no_history_holds_a_test_row_of_any_domain(domain: str) -> None:
    generator = np.random.default_rng(9)
    held_out = range(51, 101)  # rows that stand nowhere but at the end of a sequence
    lists = [
        {
            f"u{user:03d}": [
                *generator.permutation(50)[: generator.integers(2, 9)].tolist(),
                int(generator.choice(held_out)),
            ]
            for user in range(begin, begin + 60)
        }
        for begin in (0, 30)
    ]
    shifted = [
        {u: [row + (row < 50) for row in rows] for u, rows in each.items()} for each in lists
    ]
    dataset = dataset_of(shifted[0], shifted[1], items=(100, 100))

    for split in SPLITS:
        asked = questions(dataset, domain, split=split)
        for history in _histories(asked):
            assert max(max(rows) for rows in history.values()) <= 50
        assert (asked.targets > 50).all() == (split == "test")


def test_other_test_rows_change_neither_histories_nor_what_is_asked_for_validation() -> None:
    generator = np.random.default_rng(11)
    dataset = random_dataset(generator, users=60, items=300)
    changed = with_other_held_out_rows(dataset, generator)

    for split in SPLITS:
        before = questions(dataset, "films", split=split)
        after = questions(changed, "films", split=split)
        assert _histories(before) == _histories(after)
        assert (before.users == after.users).all()
    assert (before.targets != after.targets).any()


def test_short_histories_come_first_and_batches_cover_all_in_order() -> None:
    asked = questions(random_dataset(np.random.default_rng(2), users=90, items=40), "books")

    lengths = [len(asked.history(place)["books"]) for place in range(len(asked))]
    batches = list(asked.batches(16))

    assert lengths == sorted(lengths)
    assert [place for batch in batches for place in batch] == list(range(len(asked)))
    assert {len(batch) for batch in batches[:-1]} == {16}


def test_a_user_has_the_same_negatives_in_both_splits_and_for_the_same_seed_only() -> None:
    dataset = random_dataset(np.random.default_rng(4), users=70, items=500)
    drawn = {}
    for split, seed in (("validation", 0), ("test", 0), ("test", 1)):
        asked = questions(dataset, "films", split=split, seed=seed)  # type: ignore[arg-type]  # literals
        drawn[split, seed] = asked.negatives[np.argsort(asked.users)]

    assert (drawn["validation", 0] == drawn["test", 0]).all()
    assert (drawn["test", 0] != drawn["test", 1]).any()


def test_an_unknown_domain_is_refused_by_name(small: Dataset) -> None:
    message = "^domain 'games' is not in the dataset; it has books, films$"
    with pytest.raises(NotFoundError, match=message):
        questions(small, "games")


def test_cold_questions_hide_the_history_of_shared_users_and_nothing_else(small: Dataset) -> None:
    asked, cold = questions(small, "films"), questions(small, "films", cold=True)

    assert asked.users.tolist() == [2, 0]  # dan, who is in films alone, then ann
    assert cold.users.tolist() == [0]
    assert _histories(cold) == [{"books": [1, 2, 3, 4, 5]}]
    assert cold.targets.tolist() == [13]
    assert (cold.negatives == asked.negatives[1:]).all()
    assert cold.known[0].tolist() == [10, 11, 12]  # still passed over in the full ranking


def test_who_asks_is_known_in_both_domains_unless_cold(small: Dataset) -> None:
    asked, cold = questions(small, "films"), questions(small, "films", cold=True)

    who = asked.users_at(range(2))
    hidden = cold.users_at(range(1))
    assert {name: places.tolist() for name, places in who.items()} == {
        "films": [2, 0],
        "books": [-1, 0],
    }
    assert {name: places.tolist() for name, places in hidden.items()} == {
        "films": [-1],
        "books": [0],
    }
