"""The parts of the demo that do not need a training."""

from pathlib import Path

import pytest

from benchmarks.demo import MARKER, choose, claim, command, log_options, run
from client.histories import known_histories
from model.data.dataset import Dataset
from model.errors import BadDataError, RecGuruError


def test_a_folder_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work", encoding="utf-8")

    with pytest.raises(RecGuruError) as refused:
        claim(tmp_path)

    assert str(refused.value) == (
        f"{tmp_path} was not made by the demo; choose another --out or remove it"
    )
    assert mine.read_text(encoding="utf-8") == "years of work"


def test_a_folder_of_an_earlier_demo_is_emptied_but_not_what_it_links_to(tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "demo"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    claim(out)
    (out / "run").mkdir()
    (out / "run/metrics.jsonl").touch()
    (out / "link").symlink_to(elsewhere)

    claim(out)

    assert [path.name for path in out.iterdir()] == [MARKER]
    assert (elsewhere / "kept").exists()


def test_logs_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("toys.sequences.tsv", "beauty.sequences.tsv", "toys.items.tsv", "notes.txt"):
        (tmp_path / name).touch()

    assert log_options(tmp_path) == [
        f"--domain=beauty={tmp_path}/beauty.sequences.tsv",
        f"--domain=toys={tmp_path}/toys.sequences.tsv",
        f"--titles=toys={tmp_path}/toys.items.tsv",
    ]


def test_anything_but_two_logs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toys.sequences.tsv").touch()

    with pytest.raises(BadDataError) as refused:
        log_options(tmp_path)

    assert str(refused.value) == f"{tmp_path} holds 1 files *.sequences.tsv, not 2"


def test_an_earlier_demo_stays_where_the_logs_are_not_there(tmp_path: Path) -> None:
    claim(tmp_path / "demo")
    (tmp_path / "demo/run").mkdir()

    with pytest.raises(BadDataError) as refused:
        run(tmp_path / "demo", tmp_path / "nowhere")

    assert str(refused.value) == f"there is no folder {tmp_path}/nowhere"
    assert (tmp_path / "demo/run").exists()


def test_logs_in_the_folder_that_is_emptied_are_refused(tmp_path: Path) -> None:
    claim(tmp_path)
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("toys", "beauty"):
        (logs / f"{name}.sequences.tsv").touch()

    with pytest.raises(BadDataError, match="which is emptied first; choose another --out"):
        run(tmp_path, logs)

    assert len(list(logs.iterdir())) == 2


def test_the_three_people_are_known_in_both_domains_in_one_and_not_in_the_target(
    tiny_dataset: Path,
) -> None:
    dataset = Dataset.read(tiny_dataset)

    target, people = choose(dataset)

    known = [set(known_histories(dataset, person.histories[1])) for person in people]
    assert target == "books"
    assert known == [{"books", "films"}, {"books"}, {"films"}]


def test_a_command_that_fails_ends_the_demo_with_its_exit_code() -> None:
    with pytest.raises(RecGuruError) as ended:
        command("evaluate", "--data", "nowhere", "--out", "report.json")

    assert str(ended.value) == (
        "`recguru evaluate --data nowhere --out report.json` ended with exit code 2; "
        "its output is above"
    )
