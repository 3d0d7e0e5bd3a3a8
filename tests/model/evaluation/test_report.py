"""Figures by slice against values worked by hand, and the report as file and as table."""

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from model.evaluation.protocol import Questions, questions
from model.evaluation.ranking import Ranks
from model.evaluation.report import figures, make_report, print_report, write_report
from tests.model.dataset_making import dataset_of

DATASET = dataset_of(
    {"ann": [1, 2, 3], "bob": [4, 5, 6], "cat": [1, 2, 3, 4, 5, 6, 7]},
    {"ann": [1, 2, 3, 4, 5, 6, 7]},
    items=(7, 7),
)


@pytest.fixture
def asked() -> Questions:
    """Return three questions: about a shared user and another of short history, then a long one."""
    return questions(DATASET, "books")


RANKS = Ranks(full=np.array([1, 12, 7]), sampled=np.array([1, 4, 2]))


def test_figures_of_all_users_and_of_each_slice(asked: Questions) -> None:
    made = figures(asked, RANKS)

    assert made["users"] == 3
    assert made["full"]["hr@5"] == pytest.approx(1 / 3)
    assert made["full"]["hr@20"] == pytest.approx(1)
    assert made["full"]["ndcg@10"] == pytest.approx((1 + 1 / math.log2(8)) / 3)
    assert made["full"]["mrr"] == pytest.approx((1 + 1 / 12 + 1 / 7) / 3)
    assert made["sampled"]["hr@5"] == pytest.approx(1)
    assert made["slices"]["shared"]["users"] == 1
    assert made["slices"]["shared"]["full"]["hr@5"] == pytest.approx(1)
    assert made["slices"]["short"]["users"] == 2
    assert made["slices"]["short"]["full"]["mrr"] == pytest.approx((1 + 1 / 12) / 2)


def test_every_figure_of_the_protocol_is_there(asked: Questions) -> None:
    names = {f"{name}@{k}" for name in ("hr", "ndcg") for k in (5, 10, 20)} | {"mrr"}
    made = figures(asked, RANKS)

    for part in (made, *made["slices"].values()):
        assert set(part["full"]) == set(part["sampled"]) == names


def test_a_slice_without_users_has_null_figures() -> None:
    alone = questions(DATASET, "films")  # ann alone, with a long history
    made = figures(alone, Ranks(np.array([1]), np.array([1])))

    assert made["slices"]["short"]["users"] == 0
    assert set(made["slices"]["short"]["full"].values()) == {None}
    assert made["slices"]["shared"]["full"]["mrr"] == 1


def test_users_whose_history_is_hidden_are_a_slice_of_their_own(asked: Questions) -> None:
    cold = questions(DATASET, asked.domain, cold=True)
    assert len(cold) == 1
    answered = [(asked, RANKS), (cold, Ranks(np.array([4]), np.array([2])))]

    report = make_report(answered, dataset=DATASET.digest, system="popularity")

    made = report["domains"][asked.domain]
    assert made["users"] == 3
    assert made["slices"]["cold"]["users"] == 1
    assert made["slices"]["cold"]["full"]["mrr"] == pytest.approx(1 / 4)
    assert made["slices"]["shared"]["full"]["mrr"] != pytest.approx(1 / 4)


def test_a_report_says_what_it_is_of_and_is_read_back_as_written(
    asked: Questions, tmp_path: Path
) -> None:
    report = make_report(
        [(asked, RANKS)], dataset=DATASET.digest, system="popularity", release="20240101"
    )
    path = tmp_path / "reports" / "REPORT.json"
    write_report(path, report)

    read = json.loads(path.read_text(encoding="utf-8"))
    assert read == report
    assert {key: value for key, value in read.items() if key != "domains"} == {
        "dataset": "0" * 64,
        "release": "20240101",
        "system": "popularity",
        "split": "test",
        "seed": 0,
        "negatives": 200,
    }
    assert set(read["domains"]["books"]) == {"users", "full", "sampled", "slices"}
    assert [file.name for file in path.parent.iterdir()] == ["REPORT.json"]


def test_the_table_fits_a_terminal_and_shows_each_slice_and_what_is_empty(asked: Questions) -> None:
    alone = questions(DATASET, "films")
    many = dataclasses.replace(asked, domain="clothing_shoes_and_jewelry")
    report = make_report(
        [(many, RANKS), (alone, Ranks(np.array([1]), np.array([1])))],
        dataset=DATASET.digest,
        system="popularity",
    )
    screen = io.StringIO()
    print_report(report, console=Console(file=screen, width=80))

    lines = screen.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    (title,) = (line for line in lines if "popularity" in line)
    assert title.strip() == "popularity, test rows"
    short = [line.split() for line in lines if line.split()[:1] == ["short"]]
    assert short == [
        ["short", "2", "0.5000", "0.5000", "0.5417", "1.0000", "0.7153", "0.6250"],
        ["short", "0", "-", "-", "-", "-", "-", "-"],
    ]
