"""What settings are tried, and which are chosen."""

from typing import Any

from model.comparison.results import Trial
from tests.model.comparison.systems_in_tests import Comparing


def test_settings_are_chosen_on_validation_rows_whatever_the_test_rows_say(
    comparing: Comparing,
) -> None:
    plain = comparing("knowing", trials=1).report
    fitted_once = list(comparing.fits.done)
    tuned = comparing("knowing", trials=4).report

    def level(report: dict[str, Any]) -> float:
        found: float = report["domains"]["books"]["all"]["systems"]["knowing"]["full"]["mrr"][
            "mean"
        ]
        return found

    tuning = tuned["systems"]["knowing"]["tuning"]
    assert fitted_once == ["knowing 0", "knowing 1"]
    assert plain["systems"]["knowing"]["tuning"] is None
    assert comparing.fits.done == ["knowing 0"] * 5 + ["knowing 1"]
    assert tuned["systems"]["knowing"]["settings"]["knows"] is True
    assert tuning["budget"] == 4
    chosen = tuning["trials"][tuning["chosen"]]
    assert chosen["changes"] == {"knows": True}
    assert chosen["mean"] == chosen["ndcg_at_10"]["books"] == chosen["ndcg_at_10"]["films"] == 1
    assert level(tuned) < level(plain)  # it puts the popular last


def test_a_trial_that_diverges_is_kept_and_not_chosen(comparing: Comparing) -> None:
    tuning = comparing("knowing", trials=4).report["systems"]["knowing"]["tuning"]

    failed = [trial for trial in tuning["trials"] if trial["failure"]]
    assert [trial["failure"] for trial in failed] == ["it diverged"] * 2
    assert tuning["chosen"] not in [trial["number"] for trial in failed]


def test_a_trial_that_finds_nothing_is_better_than_one_that_diverges(comparing: Comparing) -> None:
    report = comparing(
        "knowing",
        trials=2,
        settings={"knowing": {"knows": True, "lift": 2.0}},
        spaces={"knowing": {"lift": [-1.0]}},
    ).report

    tuning = report["systems"]["knowing"]["tuning"]
    assert tuning["trials"][0]["failure"] == "it diverged"
    assert tuning["trials"][1]["mean"] == 0
    assert tuning["chosen"] == 1


def test_a_larger_budget_adds_trials_to_those_that_are_finished(comparing: Comparing) -> None:
    few = comparing("knowing", trials=2).report["systems"]["knowing"]["tuning"]["trials"]
    comparing("knowing", trials=4)
    again = comparing("knowing", trials=4).report["systems"]["knowing"]["tuning"]["trials"]

    assert comparing.fits.done == []
    assert again[:2] == few
    assert len(list((comparing.out / "trials").iterdir())) == 4


def test_a_space_that_is_given_replaces_the_systems_own(comparing: Comparing) -> None:
    spaces = {"knowing": {"lift": [0.25, 0.5]}}
    tuning = comparing("knowing", trials=9, spaces=spaces).report["systems"]["knowing"]["tuning"]

    assert sorted(trial["changes"].get("lift", 1.0) for trial in tuning["trials"]) == [
        0.25,
        0.5,
        1.0,
    ]


def test_a_trial_that_is_not_done_again_says_how_it_differs_from_the_defaults_of_today(
    comparing: Comparing,
) -> None:
    spaces = {"knowing": {"lift": [0.25, 0.5, 1.0], "knows": [True, False]}}
    comparing("knowing", trials=9, spaces=spaces)

    settings = {"knowing": {"lift": 0.25}}
    comparing("knowing", trials=9, spaces=spaces, settings=settings)

    defaults = {"lift": 0.25, "knows": False}
    assert any("trial" in said and "finished before" in said for said in comparing.said)
    for path in (comparing.out / "trials").iterdir():
        trial = Trial.model_validate_json(path.read_bytes())
        tried = trial.facts.settings
        unlike = {key: value for key, value in tried.items() if value != defaults[key]}
        assert trial.outcome.changes == unlike
