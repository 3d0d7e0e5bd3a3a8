"""From files to a dataset folder, whole."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.dataset import Dataset
from model.data.prepare import DomainInput, prepare, titles_beside
from model.data.prepare_settings import PrepareSettings
from model.errors import RecGuruError

Prepare = Callable[..., Any]  # the fixture `prepare_two`

ROOT = Path(__file__).parents[3]


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def random_table(users: int, items: int, rows: int, seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{user}" for user in generator.integers(0, users, rows)],
            "item": [f"{seed}-{item}" for item in generator.integers(0, items, rows)],
            "time": generator.integers(0, 50, rows),
            "rating": generator.integers(1, 6, rows),
        }
    )


events = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cy", "dé"]),
        st.sampled_from("uvwx"),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=30,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=events, second=events)
def test_a_whole_preparation_is_what_a_slow_one_in_plain_python_does(
    prepare_two: Prepare, first: list[tuple[str, str, int]], second: list[tuple[str, str, int]]
) -> None:
    expected = [
        slowly([(*event, time) for time, event in enumerate(rows)]) for rows in (first, second)
    ]
    tables = [
        pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
        .with_row_index("time")
        .write_csv()
        for rows in (first, second)
    ]
    options = {"format": "table", "min_rating": 2, "core": 2, "collapse_repeats": True}

    if not all(expected):
        with pytest.raises(RecGuruError, match="nothing is left"):
            prepare_two(*tables, **options, min_length=2)
        return
    made = prepare_two(*tables, **options, min_length=2)

    assert [made.histories(name) for name in ("first", "second")] == expected
    assert made.shared() == sorted(expected[0].keys() & expected[1].keys())


def slowly(rows: list[tuple[str, str, int, int]]) -> dict[str, list[str]]:
    """Prepare one domain by the words of the paper; times are all different."""
    kept = [(user, item) for user, item, rating, _ in rows if rating > 2]
    histories: dict[str, list[str]] = {}
    for user, item in kept:
        history = histories.setdefault(user, [])
        if not history or history[-1] != item:
            history.append(item)
    while True:
        counts: dict[str, int] = {}
        for history in histories.values():
            for item in history:
                counts[item] = counts.get(item, 0) + 1
        smaller = {
            user: [item for item in history if counts[item] >= 2]
            for user, history in histories.items()
        }
        smaller = {user: history for user, history in smaller.items() if len(history) >= 2}
        if smaller == histories:
            return dict(sorted(histories.items()))
        histories = smaller


def test_items_take_rows_and_users_places_in_ascending_order(prepare_two: Prepare) -> None:
    made = prepare_two("ü\tz,B,ä\nann\tB\n", "bob\tz\n", format="sequences")

    first = made.dataset.domain("first")
    assert list(first.users) == ["ann", "ü"]
    assert list(first.vocabulary.ids) == ["B", "z", "ä"]
    assert [first.sequences[place].tolist() for place in (0, 1)] == [[1], [2, 1, 3]]


def test_the_same_input_and_options_give_the_same_bytes(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second")):
        random_table(300, 60, 8000, number).write_csv(tmp_path / f"{name}.csv")
    options = ["--format=table", "--core=5", "--shared-rate=0.5", "--seed=4"]
    folders = []
    for threads in (1, 2):
        out = tmp_path / f"dataset{threads}"
        subprocess.run(
            [
                *(sys.executable, "-c", "from model.data.cli import data_app; data_app()"),
                *("prepare", *options, f"--out={out}"),
                *(f"--domain={name}={tmp_path / name}.csv" for name in ("first", "second")),
            ],
            env={**os.environ, "POLARS_MAX_THREADS": str(threads), "PYTHONHASHSEED": str(threads)},
            cwd=ROOT,
            check=True,
            timeout=60,
            capture_output=True,
        )
        folders.append(bytes_of(out))

    assert folders[0] == folders[1]


def test_lines_in_another_order_give_the_same_sequences(prepare_two: Prepare) -> None:
    tables = [random_table(50, 30, 2000, seed) for seed in (1, 2)]
    shuffled = [table.sample(fraction=1, shuffle=True, seed=3) for table in tables]

    once, again = (
        prepare_two(*(table.write_csv() for table in pair), format="table")
        for pair in (tables, shuffled)
    )

    assert once.histories("first") == again.histories("first")
    assert once.dataset.digest == again.dataset.digest


def test_csv_and_parquet_of_the_same_rows_give_the_same_digest(
    prepare_two: Prepare, tmp_path: Path
) -> None:
    tables = [random_table(50, 30, 2000, seed) for seed in (1, 2)]
    for number, table in enumerate(tables):
        table.write_parquet(tmp_path / f"{number}.parquet")

    text = prepare_two(*(table.write_csv() for table in tables), format="table")
    binary = prepare_two(tmp_path / "0.parquet", tmp_path / "1.parquet", format="table")

    assert text.dataset.digest == binary.dataset.digest


def test_the_manifest_says_what_it_was_made_from_and_not_where(prepare_two: Prepare) -> None:
    log = "ann\tx,y,z\n"

    made = prepare_two(log, log, format="sequences", name="a.tsv")

    text = (made.folder / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["made"]["inputs"]["first"] == {
        "log": {
            "file": "a.tsv",
            "bytes": len(log),
            "sha256": hashlib.sha256(log.encode()).hexdigest(),
        }
    }
    assert manifest["made"]["options"]["min_length"] == 1
    assert str(made.folder.parent) not in text
    assert {"digest": manifest["digest"], **manifest["report"]} == made.report


def test_ids_with_tabs_and_unicode_reach_the_dataset(prepare_two: Prepare) -> None:
    table = pl.DataFrame(
        {"user": ["a\tb", "a\tb"], "item": ["日\t本", '"😀", ü'], "time": [1, 2]}
    ).write_csv()

    made = prepare_two(table, table, format="table")

    assert made.histories("first") == {"a\tb": ["日\t本", '"😀", ü']}
    assert made.shared() == ["a\tb"]


def test_collected_lists_go_through_the_papers_steps(prepare_two: Prepare) -> None:
    good = {
        "user": "ann",
        "actions": ["click", "click", "share", "finish", "click", "finish", "click", "click"],
        "items": ["a", "a", "b", "c", "d", "e", "f\ufffd", "g"],
        "times": [1, 2, 3, 4, 5, 6, 7, 8],
    }
    longer = {**good, "items": ["a", "z", "b", "c", "d", "e", "f", "g"], "user": "bob"}
    log = "\n".join(json.dumps(line) for line in (good, longer))

    made = prepare_two(log, log, format="collected")

    assert made.histories("first") == {"bob": ["a", "z", "c", "d", "e", "f", "g"]}
    assert made.removed("first") == {
        "read": 0,
        "bad ids": 1,
        "other actions": 2,
        "duplicates": 0,
        "repeats": 1,
        "length": 5,
    }


def test_the_report_gives_the_figures_of_the_papers_tables(prepare_two: Prepare) -> None:
    first = "".join(f"u{user}\t{','.join(f'a{i}' for i in range(user))}\n" for user in range(1, 21))
    second = "".join(f"u{user}\tb1,b2\n" for user in range(16, 36))

    made = prepare_two(first, second, format="sequences")

    figures = made.report["domains"]["first"]
    del figures["steps"]
    assert figures == {
        "users": 20,
        "items": 20,
        "interactions": 210,
        "length": {
            "mean": 10.5,
            "min": 1,
            "p5": 1,
            "p25": 5,
            "p50": 10,
            "p75": 15,
            "p95": 19,
            "max": 20,
        },
        "shared_users": 5,
        "shared_share": 0.25,
        "records": 20,
        "unusable_records": 0,
    }
    assert made.report["shared_users"] == 5
    assert (made.report["notes"], made.report["warnings"]) == ([], [])


def test_resampling_is_a_step_of_the_account(prepare_two: Prepare) -> None:
    first = "".join(f"u{user}\ta{user}\n" for user in range(10))
    second = first.replace("a", "b")

    made = prepare_two(first, second, format="sequences", shared_rate=0.3)

    users = [made.report["domains"][name]["users"] for name in ("first", "second")]
    assert made.report["shared_users"] == 3
    assert sum(users) == 10 + 3
    removed = [made.removed(name)["shared rate"] for name in ("first", "second")]
    assert [10 - users[0], 10 - users[1]] == removed


def test_zero_shared_users_are_fine_and_said(prepare_two: Prepare) -> None:
    made = prepare_two("ann\tx\n", "bob\ty\n", format="sequences")

    assert made.dataset.shared.shape == (0, 2)
    assert made.report["notes"] == ["first and second share no users"]


def test_titles_stand_in_the_order_of_the_items(tmp_path: Path) -> None:
    log = tmp_path / "shop.sequences.tsv"
    log.write_text("ann\tx,y,z\n")
    (tmp_path / "shop.items.tsv").write_text("z\tThe last\nx\tThe first\nunused\tOther\n")
    titles = titles_beside(log)
    assert titles is not None
    inputs = DomainInput("a", log, titles), DomainInput("b", log)

    report = prepare(inputs, PrepareSettings(format="sequences"), tmp_path / "out")

    first, second = Dataset.read(tmp_path / "out").domains
    assert [first.vocabulary.title(row) for row in (1, 2, 3)] == ["The first", "", "The last"]
    assert second.vocabulary.titles is None
    assert report["notes"] == ["a: titles of 2 of 3 items from shop.items.tsv"]
