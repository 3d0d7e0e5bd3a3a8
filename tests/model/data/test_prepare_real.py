"""Preparation of the real logs gives the figures their README states."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Prepare = Callable[..., Any]  # the fixture `prepare_two`

README = {
    "beauty_toys_small": (("beauty", 1311, 825, 21427), ("toys", 1425, 1456, 21856), 1044),
    "beauty_toys": (("beauty", 22363, 12101, 198502), ("toys", 19412, 11924, 167597), 2073),
    "sport_cloth": (("sport", 32801, 16876, 273970), ("cloth", 32428, 19581, 227087), 2197),
}


@pytest.mark.parametrize("pair", README)
def test_the_figures_are_those_of_the_readme(
    prepare_two: Prepare, data_folder: Path, pair: str
) -> None:
    *domains, shared = README[pair]
    logs = [data_folder / pair / f"{name}.sequences.tsv" for name, *_ in domains]

    made = prepare_two(*logs, format="sequences")

    assert made.report["shared_users"] == shared
    assert made.report["warnings"] == []
    for name, (_, *expected) in zip(("first", "second"), domains, strict=True):
        figures = made.report["domains"][name]
        assert [figures[count] for count in ("users", "items", "interactions")] == expected


def test_the_sequences_are_those_of_the_file(prepare_two: Prepare, data_folder: Path) -> None:
    folder = data_folder / "beauty_toys_small"
    logs = [folder / f"{name}.sequences.tsv" for name in ("beauty", "toys")]

    made = prepare_two(*logs, format="sequences")

    for name, log in zip(("first", "second"), logs, strict=True):
        lines = (line.split("\t") for line in log.read_text().splitlines())
        assert made.histories(name) == {user: items.split(",") for user, items in lines}


def test_five_core_data_stays_as_it_is_under_five_core(
    prepare_two: Prepare, data_folder: Path
) -> None:
    logs = [data_folder / "beauty_toys" / f"{name}.sequences.tsv" for name in ("beauty", "toys")]

    made = prepare_two(*logs, format="sequences", core=5)

    assert made.removed("first")["k-core"] == made.removed("second")["k-core"] == 0


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.75])
def test_real_users_can_be_resampled_to_every_rate_of_the_paper(
    prepare_two: Prepare, data_folder: Path, rate: float
) -> None:
    folder = data_folder / "beauty_toys_small"
    logs = [folder / f"{name}.sequences.tsv" for name in ("beauty", "toys")]

    made = prepare_two(*logs, format="sequences", shared_rate=rate)

    assert made.report["shared_users"] == round(rate * 1311)
    users = [made.report["domains"][name]["users"] for name in ("first", "second")]
    assert sum(users) - made.report["shared_users"] == 1311 + 1425 - 1044


def test_times_of_real_logs_do_not_change_their_order(
    prepare_two: Prepare, data_folder: Path
) -> None:
    folder = data_folder / "sequences_with_times"
    logs = [folder / "clothing_shoes_and_jewelry.tsv", folder / "sports_and_outdoors.tsv"]

    made = prepare_two(*logs, format="sequences")

    for name, log in zip(("first", "second"), logs, strict=True):
        histories = made.histories(name)
        for line in log.read_text().splitlines():
            user, items, times = line.split("\t")
            events = zip(items.split(","), times.split(","), strict=True)
            expected = [item for item, _ in dict.fromkeys(events)]
            assert histories[user] == expected


def test_a_table_with_users_and_items_swapped_is_suspected(
    prepare_two: Prepare, data_folder: Path
) -> None:
    tables = []
    for name in ("beauty", "toys"):
        text = (data_folder / "beauty_toys_small" / f"{name}.sequences.tsv").read_text()
        lines = (line.split("\t") for line in text.splitlines())
        rows = [(user, item) for user, items in lines for item in items.split(",")]
        frame = pl.DataFrame(rows, schema=["item", "user"], orient="row")
        tables.append(frame.with_row_index("time").write_csv())

    made = prepare_two(*tables, format="table")

    assert Counter(warning.rpartition(";")[2] for warning in made.report["warnings"]) == {
        " remove them from the logs": 1,
        " users and items may be swapped in both": 1,
        " users and items may be swapped": 2,
    }
