"""What the report says of finished runs: against numbers worked by hand and a slow bootstrap."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.bootstrap import intervals
from model.comparison.plots import plot_comparison
from model.comparison.report import make_report
from model.comparison.results import (
    Outcome,
    Result,
    Tuning,
    ranks_path,
    read_ranks,
    read_record,
)
from model.comparison.runs import Finished
from model.comparison.summary import summary
from model.comparison.tables import as_markdown
from model.errors import BadArtifactError
from model.evaluation.report import FIGURES
from tests.model.comparison.finished_runs import write_run


@pytest.fixture
def finished(tmp_path: Path) -> list[Finished]:
    """Write two baselines, one of them with two seeds, and one system of ours."""
    return [
        write_run(tmp_path, "weak", 0, [9, 4, 30, 8]),
        write_run(tmp_path, "good", 0, [1, 3, 20, 7]),
        write_run(tmp_path, "good", 1, [3, 1, 10, 11]),
        write_run(tmp_path, "mine", 0, [1, 1, 1, 40], ours=True),
    ]


def test_means_and_deviations_over_seeds_are_those_worked_by_hand(
    finished: list[Finished],
) -> None:
    report = make_report(finished, against=None, resamples=100)
    good = report["domains"]["books"]["all"]["systems"]["good"]["full"]

    first = (1 + 1 / 2 + 0 + 1 / 3) / 4  # ranks 1, 3, 7 are worth 1, 1/2, 1/3; 20 is beyond 10
    second = (1 / 2 + 1 + 1 / math.log2(11) + 0) / 4
    assert good["ndcg@10"]["mean"] == pytest.approx((first + second) / 2)
    assert good["ndcg@10"]["deviation"] == pytest.approx(abs(first - second) / math.sqrt(2))
    assert good["hr@5"]["mean"] == pytest.approx(2 / 4)
    assert good["hr@5"]["deviation"] == pytest.approx(0)
    assert report["systems"]["good"]["minutes"] == {
        "mean": 2.5,
        "deviation": pytest.approx(math.sqrt(0.5)),
    }
    assert report["systems"]["weak"]["minutes"]["deviation"] is None
    assert report["domains"]["books"]["short"]["users"] == 1
    assert report["domains"]["books"]["cold"]["users"] == 3


def test_the_best_baseline_is_that_of_the_slice_and_none_of_ours(
    finished: list[Finished],
) -> None:
    report = make_report(finished, against="weak", resamples=100)
    parts = report["domains"]["books"]

    assert parts["all"]["differences"]["best_baseline"]["to"] == "good"
    assert set(parts["all"]["differences"]["best_baseline"]["systems"]) == {"weak", "mine"}
    assert set(parts["all"]["differences"]["against"]["systems"]) == {"good", "mine"}


def test_the_best_baseline_is_best_in_the_full_ranking(tmp_path: Path) -> None:
    found = [  # sampled, 15 and 30 become 8 and 15
        write_run(tmp_path, "sharp", 0, [1, 30, 30, 30]),
        write_run(tmp_path, "broad", 0, [15, 15, 15, 15]),
        write_run(tmp_path, "mine", 0, [2, 2, 2, 2], ours=True),
    ]
    report = make_report(found, against=None, resamples=100)["domains"]["books"]["all"]

    sampled = {name: each["sampled"]["ndcg@10"]["mean"] for name, each in report["systems"].items()}
    assert sampled["broad"] > sampled["sharp"]
    assert report["differences"]["best_baseline"]["to"] == "sharp"


def test_runs_of_one_system_on_two_devices_do_not_stand_in_one_table(tmp_path: Path) -> None:
    one, other, apart = (
        write_run(tmp_path, *run, [1, 2, 3, 4])
        for run in (
            ("good", 0),
            ("good", 1),
            ("mine", 0),
        )
    )

    def on_gpu(run: Finished) -> Finished:
        facts = run.result.facts.model_copy(update={"device": "cuda"})
        return Finished(run.result.model_copy(update={"facts": facts}), run.path)

    with pytest.raises(
        BadArtifactError, match=r"good-0\.json and .*good-1\.json differ in their dev"
    ):
        make_report([one, on_gpu(other)], against=None, resamples=10)
    assert make_report([one, other, on_gpu(apart)], against=None, resamples=10)["systems"]


def test_a_difference_is_that_of_the_users_means_over_the_seeds(finished: list[Finished]) -> None:
    report = make_report(finished, against=None, resamples=100)
    to = report["domains"]["books"]["shared"]["differences"]["best_baseline"]

    good = ((1 + 1 / 2 + 1 / 3) / 3 + (1 / 2 + 1 + 0) / 3) / 2
    mine = (1 + 1 + 0) / 3
    assert to["to"] == "good"
    assert to["systems"]["mine"]["mean"] == pytest.approx(mine - good)
    assert to["systems"]["mine"]["relative"] == pytest.approx((mine - good) / good)


def test_the_strong_sasrec_is_compared_with_unless_another_is_named(
    finished: list[Finished], tmp_path: Path
) -> None:
    strong = write_run(tmp_path, "sasrec-strong", 0, [2, 2, 2, 2])

    without = make_report(finished, against=None, resamples=100)
    with_it = make_report([*finished, strong], against=None, resamples=100)

    assert without["domains"]["books"]["all"]["differences"]["against"] is None
    assert with_it["domains"]["books"]["all"]["differences"]["against"]["to"] == "sasrec-strong"


def test_intervals_are_those_of_a_slow_bootstrap() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.1, 1, (3, 170)) ** 3

    found = intervals(differences, resamples=400, seed=5)

    again = np.random.default_rng(5)
    means: list[list[float]] = [[], [], []]
    for _ in range(400):
        users = again.integers(0, 170, 170)
        for place, values in enumerate(differences):
            means[place].append(sum(float(values[user]) for user in users) / 170)
    for (low, high), sample in zip(found, means, strict=True):
        assert low == pytest.approx(np.quantile(sample, 0.025))
        assert high == pytest.approx(np.quantile(sample, 0.975))


def test_an_interval_does_not_depend_on_how_many_resamples_are_drawn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differences = np.random.default_rng(1).normal(0, 1, (2, 50))
    at_once = intervals(differences, resamples=300, seed=2)
    monkeypatch.setattr("model.comparison.bootstrap._DRAWS_TOGETHER", 350)

    assert intervals(differences, resamples=300, seed=2) == pytest.approx(at_once)


def test_an_interval_is_about_two_standard_errors_to_each_side() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, (1, 4000))

    ((low, high),) = intervals(differences, resamples=1000, seed=0)

    error = 1 / math.sqrt(4000)
    mean = float(differences.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_ranks_come_back_as_they_were_written(tmp_path: Path) -> None:
    full = [1, 70_000, 300, 2]
    run = write_run(tmp_path, "deep", 0, full)

    found = read_ranks(run.path, run.result)

    assert found is not None
    assert found["books"].warm.full.tolist() == full
    assert found["books"].full("shared").tolist() == [1, 70_000, 2]
    assert found["books"].full("short").tolist() == [300]
    assert found["books"].full("cold").tolist() == [2, 140_000, 4]
    assert found["books"].warm.sampled.tolist() == [1, 35_000, 150, 1]


def test_the_text_holds_every_figure_and_marks_the_best(finished: list[Finished]) -> None:
    report = make_report(finished, against="weak", resamples=100)

    text = as_markdown(report)

    best = report["domains"]["books"]["all"]["systems"]["mine"]["full"]["ndcg@10"]["mean"]
    assert f"| **{100 * best:.2f}** |" in text
    good = report["domains"]["books"]["cold"]["systems"]["good"]["sampled"]
    for figure in FIGURES:
        mean, deviation = good[figure]["mean"], good[figure]["deviation"]
        assert f"{100 * mean:.2f} ± {100 * deviation:.2f}" in text
    to = report["domains"]["books"]["all"]["differences"]["best_baseline"]["systems"]["mine"]
    assert f"{100 * to['mean']:+.2f} [{100 * to['low']:+.2f}, {100 * to['high']:+.2f}]" in text
    assert "| GOOD | `good` | 0, 1 | 2.50 ± 0.71 | 100 | depth 2 |" in text
    assert "No system was tuned" in text
    assert f"{100 * best:.2f}" in summary(report)


def test_the_terminal_shows_differences_of_systems_whose_ranks_were_kept(tmp_path: Path) -> None:
    base = write_run(tmp_path, "base", 0, [3, 3, 3, 3])
    ahead = write_run(tmp_path, "ahead", 0, [1, 1, 1, 1])
    bare = write_run(tmp_path, "bare", 0, [2, 2, 2, 2])
    ranks_path(bare.path).unlink()

    lines = summary(make_report([base, ahead, bare], against="base", resamples=100)).splitlines()

    cold = 100 * (1 / math.log2(3) - 1 / math.log2(7))  # ranks 2 and 6
    assert lines[6:9] == [
        "books: difference to BASE, full NDCG@10 in points of %, 95 % interval",
        " " * 5 + "".join(f"{part:>22}" for part in ("all", "shared", "short", "cold")),
        "AHEAD"
        + "+50.00 [+50.00, +50.00]".rjust(22) * 3
        + f"{cold:+.2f} [{cold:+.2f}, {cold:+.2f}]".rjust(22),
    ]
    assert "difference" not in summary(make_report([base, bare], against="bare", resamples=100))


def test_the_terminal_shows_how_far_the_family_is_from_each_slices_best_baseline(
    tmp_path: Path,
) -> None:
    runs = [  # asked about users 0, 1 and 3 alone, the shared ones, "there" is ahead
        write_run(tmp_path, "here", 0, [3, 3, 1, 3]),
        write_run(tmp_path, "there", 0, [2, 2, 40, 2]),
        write_run(tmp_path, "mine", 0, [1, 1, 1, 1], ours=True),
        write_run(tmp_path, "less", 0, [3, 3, 1, 3], ours=True),
    ]
    lines = summary(make_report(runs, against=None, resamples=100)).splitlines()

    ahead = 100 * (1 - 1 / math.log2(3))  # ranks 1 and 2
    behind = 100 * (1 / 2 - 1 / math.log2(3))  # ranks 3 and 2
    block = lines[7:]
    assert block[0] == (
        "books: difference to the best baseline, full NDCG@10 in points of %, 95 % interval"
    )
    assert block[1] == " " * 15 + "MINE".rjust(22) + "LESS".rjust(22)
    assert block[2].startswith("all to HERE    ")
    assert block[3] == (
        "shared to THERE"
        + f"{ahead:+.2f} [{ahead:+.2f}, {ahead:+.2f}]".rjust(22)
        + f"{behind:+.2f} [{behind:+.2f}, {behind:+.2f}]".rjust(22)
    )
    assert [line.split()[:3] for line in block[4:6]] == [
        ["short", "to", "HERE"],
        ["cold", "to", "THERE"],
    ]
    assert "best baseline" not in summary(make_report(runs[:2], against=None, resamples=100))


def test_the_terminal_says_what_a_table_was_made_from_and_what_it_cost(
    finished: list[Finished], tmp_path: Path
) -> None:
    ranks = {"shared_rank": 3, "shared_looked_up": 800, "untied_rank": 9, "untied_looked_up": 200}
    judged = write_run(
        tmp_path, "one", 5, [1, 2, 3, 4], alignment={"domain_accuracy": 0.5, **ranks}, resumed=True
    )

    lines = summary(make_report([*finished, judged], against=None, resamples=100)).splitlines()

    assert lines[0] == f"dataset {'d' * 12}, seeds 0, 1, 5; numpy 2; code {'c' * 12}"
    assert [" ".join(line.split()) for line in lines[-5:]] == [
        "training minutes domain accuracy rank, tied rank, untied",
        "WEAK 2.00 - - -",
        "GOOD 2.50 ± 0.71 - - -",
        "MINE 2.00 - - -",
        "ONE ≥ 7.00 50.00 3 of 800 9 of 200",
    ]


def test_the_text_says_how_settings_were_chosen(tmp_path: Path) -> None:
    tried = [
        Outcome(number=0, changes={}, ndcg_at_10={"books": 0.2}, mean=0.2, minutes=1),
        Outcome(number=1, changes={"depth": 2}, ndcg_at_10={"books": 0.3}, mean=0.3, minutes=2),
    ]
    tuning = Tuning(budget=5, trials=tuple(tried), chosen=1)
    runs = [
        write_run(tmp_path, "deep", 0, [1, 2, 3, 4], tuning=tuning),
        write_run(tmp_path, "plain", 0, [1, 2, 3, 4]),
    ]

    report = make_report(runs, against=None, resamples=100)
    text = as_markdown(report)

    assert "**DEEP** (`deep`): 2 settings tried of a budget of 5; trial 1 chosen." in text
    assert "| 0 | nothing | 20.00 | 1.00 |" in text
    assert "| 1 | depth 2 | **30.00** | 2.00 |" in text
    assert "Not tuned, with the settings above: PLAIN." in text
    assert [line.split() for line in summary(report).splitlines()[-3:]] == [
        ["trial", "0", "trial", "1"],
        ["DEEP", "20.00", "30.00*", "depth", "2"],
        ["not", "tuned:", "PLAIN"],
    ]
    assert "tuning" not in summary(make_report(runs[1:], against=None, resamples=100))


def test_the_text_says_how_far_the_domains_are_one(tmp_path: Path) -> None:
    ranks = {"shared_rank": 3, "shared_looked_up": 800, "untied_rank": 9, "untied_looked_up": 200}
    runs = [
        write_run(tmp_path, "plain", 0, [1, 2, 3, 4]),
        write_run(tmp_path, "one", 0, [1, 2, 3, 4], alignment={"domain_accuracy": 0.5, **ranks}),
        write_run(tmp_path, "one", 1, [4, 3, 2, 1], alignment={"domain_accuracy": 0.6, **ranks}),
    ]

    report = make_report(runs, against=None, resamples=100)

    assert "| ONE | 55.00 ± 7.07 | 3 of 800 | 9 of 200 |" in as_markdown(report)
    assert report["systems"]["plain"]["alignment"] == {}
    assert "Alignment" not in as_markdown(make_report(runs[:1], against=None, resamples=100))


def test_runs_that_set_nobody_apart_have_no_figures_of_newcomers(tmp_path: Path) -> None:
    full = [1, 2, 3, 4]
    former = write_run(tmp_path, "former", 0, full)
    newer = write_run(tmp_path, "newer", 0, full, newcomer_share=0.5)

    report = make_report([former, newer], against="newer", resamples=100)
    alone = make_report([former], against=None, resamples=100)

    found = report["domains"]["books"]["newcomers"]
    assert [about["newcomer_share"] for about in report["systems"].values()] == [0.0, 0.5]
    assert found["users"] == 2
    figures = found["systems"]["newer"]["full"]
    assert figures["ndcg@10"]["mean"] == pytest.approx((1 / math.log2(5) + 1 / math.log2(9)) / 2)
    assert found["systems"]["former"]["full"]["ndcg@10"]["mean"] is None
    assert found["differences"]["against"]["systems"] == {}
    assert alone["domains"]["books"]["newcomers"]["users"] == 0
    assert summary(report).splitlines()[3].split()[-1] == "-"
    assert "newcomers" not in summary(alone)
    assert found["differences"]["best_baseline"]["to"] == "newer"
    told = (
        "50 % of the shared users, the newcomers, were two users each in training, but not to FOR"
    )
    assert told in as_markdown(report)
    assert "two users'" in as_markdown(report)
    assert "two users'" not in as_markdown(alone)


def test_runs_with_other_newcomers_do_not_stand_in_one_table(tmp_path: Path) -> None:
    full = [1, 2, 3, 4]
    runs = [
        write_run(tmp_path, system, 0, full, newcomer_share=share)
        for system, share in (("none", 0.0), ("one", 0.2), ("other", 0.3))
    ]

    make_report(runs[:2], against=None, resamples=100)
    with pytest.raises(BadArtifactError, match=r"one-0.json and .*other-0.json differ in their ne"):
        make_report(runs, against=None, resamples=100)

    both = [runs[0], write_run(tmp_path, "none", 1, full, newcomer_share=0.2)]
    for pair in (both, both[::-1]):
        with pytest.raises(BadArtifactError, match=r"differ in their newcomer_share; remove one"):
            make_report(pair, against=None, resamples=100)


def test_facts_written_before_newcomers_were_set_apart_say_that_nobody_was(tmp_path: Path) -> None:
    run = write_run(tmp_path, "former", 0, [1, 2, 3, 4])
    content = json.loads(run.path.read_text(encoding="utf-8"))
    del content["facts"]["newcomer_share"]
    run.path.write_text(json.dumps(content), encoding="utf-8")

    assert read_record(run.path, Result) == run.result


def test_ranks_written_before_newcomers_were_set_apart_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, "former", 0, [1, 2, 3, 4])
    place = run.path.with_suffix(".ranks.npz")
    with np.load(place) as arrays:
        kept = {name: array for name, array in arrays.items() if "newcomers" not in name}
    np.savez_compressed(place, allow_pickle=False, **kept)
    digest = hashlib.sha256(place.read_bytes()).hexdigest()

    found = read_ranks(run.path, run.result.model_copy(update={"ranks": digest}))

    assert found is not None
    assert found["books"].full("cold").tolist() == [2, 4, 8]
    assert found["books"].full("newcomers").tolist() == []


def test_a_report_can_be_drawn(finished: list[Finished], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = plot_comparison(make_report(finished, against=None, resamples=100), tmp_path)

    assert path == tmp_path / "report.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_slice_without_users_has_no_figures_and_no_table(tmp_path: Path) -> None:
    nobody: dict[str, Any] = {name: dict.fromkeys(FIGURES) for name in ("full", "sampled")}
    run = write_run(tmp_path, "lone", 0, [1, 2, 3, 4])
    domains = {"books": {**run.result.domains["books"], "cold": {"users": 0, **nobody}}}
    run = Finished(run.result.model_copy(update={"domains": domains}), run.path)

    report = make_report([run], against=None, resamples=100)

    assert report["domains"]["books"]["cold"]["systems"]["lone"]["full"]["mrr"]["mean"] is None
    assert "cold start" not in as_markdown(report)
