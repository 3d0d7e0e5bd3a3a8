"""What is run, and what is not run again."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.comparison.compare import compare, rebuild
from model.comparison.settings import CompareSettings
from model.comparison.systems import Entry, Task
from model.errors import BadArtifactError, BadSettingError, NotFoundError, RecGuruError
from model.evaluation.protocol import Scorer
from model.files import holding
from tests.model.comparison.systems_in_tests import (
    Comparing,
    Fits,
    Quality,
    noise,
    registry_of,
    shares,
    slow,
    write_folder,
)
from tests.model.dataset_making import random_dataset, with_other_held_out_rows

ROOT = Path(__file__).parents[3]
WAIT_S = 60


def without_costs(report: dict[str, Any]) -> dict[str, Any]:
    systems = {
        name: {key: about[key] for key in about if key not in {"minutes", "peak_mib", "resumed"}}
        for name, about in report["systems"].items()
    }
    return {**report, "systems": systems}


def test_each_system_runs_with_each_seed_and_one_that_draws_nothing_once(
    comparing: Comparing,
) -> None:
    report = comparing("noise", "shares").report

    assert comparing.fits.done == ["noise 0", "shares 0", "noise 1"]
    assert report["systems"]["noise"]["seeds"] == [0, 1]
    assert report["systems"]["shares"]["seeds"] == [0]


def test_what_is_finished_is_left_alone(comparing: Comparing) -> None:
    before = comparing("noise", "shares").report
    files = {path: path.stat().st_mtime_ns for path in (comparing.out / "results").iterdir()}

    after = comparing("noise", "shares").report

    assert comparing.fits.done == []
    assert comparing.said == [
        "noise seed 0: finished before",
        "shares seed 0: finished before",
        "noise seed 1: finished before",
    ]
    assert after == before
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_other_settings_do_their_own_system_again(comparing: Comparing) -> None:
    comparing("noise", "shares")

    changed = comparing("noise", "shares", settings={"shares": {"lift": 0.5}})

    assert comparing.fits.done == ["shares 0"]
    assert changed.report["systems"]["shares"]["settings"] == {"knows": False, "lift": 0.5}


def test_other_negatives_do_everything_again(comparing: Comparing) -> None:
    comparing("noise", "shares")

    comparing("noise", "shares", question_seed=1)

    assert comparing.fits.done == ["noise 0", "shares 0", "noise 1"]


def test_another_dataset_does_everything_again(comparing: Comparing, tmp_path: Path) -> None:
    comparing("noise", "shares")

    other = random_dataset(np.random.default_rng(2), users=60, items=50)
    comparing.data = write_folder(other, tmp_path / "other")
    comparing("noise", "shares")

    assert comparing.fits.done == ["noise 0", "shares 0", "noise 1"]


def test_another_version_of_a_library_does_everything_again(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparing("shares")
    monkeypatch.setattr("model.comparison.runs.library_versions", lambda: {"torch": "9"})

    comparing("shares")

    assert comparing.fits.done == ["shares 0"]


def test_other_code_is_said_and_does_nothing_again(
    comparing: Comparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparing("shares", "knowing", trials=2)
    monkeypatch.setattr("model.comparison.runs.code_digest", lambda: "0" * 64)

    comparing("shares", "knowing", trials=2)

    runs = ["knowing trial 0", "knowing trial 1"]
    runs += ["shares seed 0", "knowing seed 0", "knowing seed 1"]
    again = "finished before (by other code; remove it to run it again)"
    assert comparing.said == [f"{run}: {again}" for run in runs]
    assert comparing.fits.done == []


def test_a_killed_comparison_goes_on_after_its_last_finished_run(
    data: Path, tmp_path: Path
) -> None:
    out, fits = tmp_path / "out", Fits()
    code = f"""
from pathlib import Path
from model.comparison.compare import compare
from model.comparison.settings import CompareSettings
from tests.model.comparison.systems_in_tests import Fits, noise, registry_of, slow
settings = CompareSettings(seeds=(0,), resamples=100)
registry = registry_of(noise(Fits()), slow({WAIT_S}))
compare(Path({str(data)!r}), Path({str(out)!r}), settings, say=print, registry=registry)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        deadline = time.monotonic() + WAIT_S
        while not list(out.glob("work/slow-0/*/begun")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait(WAIT_S)
    first = out / "results" / "noise-0.json"
    before = (first.stat().st_mtime_ns, first.read_bytes())
    assert not (out / "report.json").exists()

    settings = CompareSettings(seeds=(0,), resamples=100)
    registry = registry_of(noise(fits), slow(0))
    resumed = compare(data, out, settings, say=lambda _: None, registry=registry)
    assert fits.done == []
    at_once = compare(data, tmp_path / "once", settings, say=lambda _: None, registry=registry)

    assert (first.stat().st_mtime_ns, first.read_bytes()) == before
    assert resumed.report["systems"]["slow"]["resumed"]
    assert not at_once.report["systems"]["slow"]["resumed"]
    assert without_costs(resumed.report) == without_costs(at_once.report)


def test_a_failing_run_costs_no_other_and_is_named(data: Path, tmp_path: Path) -> None:
    def broken(task: Task) -> Scorer:
        raise ZeroDivisionError(f"no rows for seed {task.seed}")

    fits = Fits()
    registry = registry_of(Entry("broken", "Broken", Quality, broken), noise(fits))
    settings = CompareSettings(seeds=(0,), resamples=100)

    done = compare(data, tmp_path / "out", settings, say=lambda _: None, registry=registry)

    assert done.failures == ["broken seed 0: ZeroDivisionError: no rows for seed 0"]
    assert list(done.report["systems"]) == ["noise"]
    with pytest.raises(RecGuruError, match=r"^no run succeeded; the first: broken seed 0: "):
        compare(
            data,
            tmp_path / "none",
            settings,
            say=lambda _: None,
            registry=registry_of(registry["broken"]),
        )


def test_a_run_that_another_process_makes_is_left_to_it(data: Path, tmp_path: Path) -> None:
    fits, out = Fits(), tmp_path / "out"
    registry = registry_of(noise(fits), shares(fits))
    settings = CompareSettings(seeds=(0,), resamples=100)
    theirs = out / "work" / "noise-0.lock"
    theirs.parent.mkdir(parents=True)

    with holding(theirs):
        done = compare(data, out, settings, say=lambda _: None, registry=registry)

    assert done.failures == [
        f"noise seed 0: {theirs} is held by another process that works there; let it end"
    ]
    assert list(done.report["systems"]) == ["shares"]
    assert fits.done == ["shares 0"]


def test_what_an_unfinished_run_left_goes_when_the_run_or_the_code_is_another(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lie there for ever: a work folder is named by the facts and the code of its run."""

    def fit(task: Task) -> Scorer:
        (task.work / "checkpoint").touch()
        raise RecGuruError("the disk is full")

    def left(lift: float) -> set[Path]:
        changes = {"failing": {"lift": lift}}
        settings = {"systems": ("failing",), "seeds": (0,), "settings": changes}
        with pytest.raises(RecGuruError, match="the disk is full"):
            compare(
                data,
                tmp_path / "out",
                CompareSettings.model_validate(settings),
                say=lambda _: None,
                registry=registry_of(Entry("failing", "Failing", Quality, fit)),
            )
        return set((tmp_path / "out" / "work" / "failing-0").rglob("checkpoint"))

    first, same, other = left(1.0), left(1.0), left(2.0)
    assert first == same
    monkeypatch.setattr("model.comparison.runs.code_digest", lambda: "0" * 64)
    changed = left(2.0)
    assert len(first) == len(other) == len(changed) == 1
    assert len(first | other | changed) == 3


def test_what_always_computes_on_the_cpu_is_not_done_again_for_another_device(
    comparing: Comparing,
) -> None:
    comparing("noise", seeds=(0,))
    comparing("noise", seeds=(0,), device="cuda")
    assert comparing.fits.done == []


def test_what_was_computed_on_another_device_is_done_again(comparing: Comparing) -> None:
    comparing.registry["noise"] = replace(comparing.registry["noise"], on_device=True)
    comparing("noise", seeds=(0,))
    path = comparing.out / "results" / "noise-0.json"
    content = json.loads(path.read_text())
    content["facts"]["device"] = "cuda"
    path.write_text(json.dumps(content))

    comparing("noise", seeds=(0,))

    assert comparing.fits.done == ["noise 0"]


def test_a_report_of_several_folders_is_that_of_one(data: Path, tmp_path: Path) -> None:
    registry = registry_of(noise(Fits()), shares(Fits()))

    def run(out: str, *systems: str) -> dict[str, Any]:
        settings = CompareSettings(systems=systems, seeds=(0, 1), resamples=100)
        done = compare(data, tmp_path / out, settings, say=lambda _: None, registry=registry)
        return done.report

    whole = run("whole", "noise", "shares")
    run("first", "shares")
    run("second", "noise")
    folders = [tmp_path / "first", tmp_path / "second", tmp_path / "whole"]
    settings = CompareSettings(resamples=100)
    merged = rebuild(folders, tmp_path / "merged", settings, registry=registry).report

    assert without_costs(merged) == without_costs(whole)
    assert (tmp_path / "merged" / "report.md").exists()


def test_results_without_their_ranks_keep_their_figures_and_lose_the_intervals(
    comparing: Comparing,
) -> None:
    before = comparing("noise", "shares").report
    for path in (comparing.out / "results").glob("*.ranks.npz"):
        path.unlink()

    settings = CompareSettings(resamples=100)
    after = rebuild([comparing.out], comparing.out, settings, registry=comparing.registry).report

    books = after["domains"]["books"]["all"]
    assert books["systems"] == before["domains"]["books"]["all"]["systems"]
    assert books["differences"]["best_baseline"]["systems"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": ("magic",)}, r"^system 'magic' is unknown; there are noise, shares, knowing,"),
        ({"against": "shares"}, r"^system 'shares' is not compared; there are noise$"),
        ({"settings": {"magic": {}}}, r"^setting compare\.settings: no system 'magic'; there are "),
        ({"spaces": {"all": {"lift": [1]}}}, r"^setting compare\.spaces: no system 'all'; "),
    ],
)
def test_an_unknown_system_is_refused_by_name(
    comparing: Comparing, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        comparing(**{"systems": ("noise",), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"noise": {"lift": "much"}}}, r"^setting compare\.settings\.noise\.lift: "),
        ({"settings": {"noise": {"deep": {"er": 1}}}}, r"^setting compare\.settings\.noise\.deep"),
        (
            {"trials": 2, "spaces": {"noise": {"height": [1]}}},
            r"^setting compare\.spaces\.noise\.height: there is no such setting",
        ),
        ({"settings": {"noise": {"seed": 7}}}, r"^setting compare\.settings\.noise\.seed: seeds"),
        ({"spaces": {"noise": {"seed": [7]}}}, r"^setting compare\.spaces\.noise\.seed: seeds"),
    ],
)
def test_a_setting_that_is_refused_stops_before_anything_runs_or_is_written(
    comparing: Comparing, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSettingError, match=message):
        comparing("shares", "noise", **change)
    assert comparing.fits.done == []
    assert not comparing.out.exists()


def test_a_damaged_result_is_refused_by_name(comparing: Comparing) -> None:
    comparing("shares")
    path = comparing.out / "results" / "shares-0.json"
    path.write_text(path.read_text().replace('"minutes"', '"hours"'))

    with pytest.raises(BadArtifactError, match=r"shares-0\.json cannot be read: .*; remove it to"):
        rebuild([comparing.out], comparing.out, CompareSettings(), registry=comparing.registry)


def test_damaged_ranks_are_refused_by_name(comparing: Comparing) -> None:
    comparing("shares")
    path = comparing.out / "results" / "shares-0.ranks.npz"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(BadArtifactError, match=r"shares-0\.ranks\.npz is damaged: its SHA-256 "):
        comparing("shares")


def test_results_of_two_datasets_do_not_stand_in_one_table(
    comparing: Comparing, tmp_path: Path
) -> None:
    comparing("shares")
    other = with_other_held_out_rows(
        random_dataset(np.random.default_rng(1), users=60, items=50), np.random.default_rng(2)
    )
    elsewhere = Comparing(write_folder(other, tmp_path / "other"), tmp_path / "elsewhere")
    elsewhere("noise")

    folders = [comparing.out, elsewhere.out]
    with pytest.raises(BadArtifactError, match=r"noise-0\.json and .* differ in their dataset$"):
        rebuild(folders, tmp_path / "merged", CompareSettings(), registry=comparing.registry)


def test_runs_of_one_system_with_two_settings_do_not_stand_in_one_table(
    comparing: Comparing,
) -> None:
    comparing("noise")
    comparing("noise", seeds=(0,), settings={"noise": {"lift": 0.5}})

    message = r"noise-0\.json and .*noise-1\.json differ in their settings; remove one of them$"
    with pytest.raises(BadArtifactError, match=message):
        rebuild([comparing.out], comparing.out, CompareSettings(), registry=comparing.registry)


def test_a_report_alone_against_a_system_it_has_not_is_refused(data: Path, tmp_path: Path) -> None:
    comparing = Comparing(data, tmp_path / "out")
    comparing("noise", "shares")
    settings = CompareSettings(against="typo", resamples=100)

    with pytest.raises(NotFoundError) as caught:
        rebuild([comparing.out], comparing.out, settings, registry=comparing.registry)

    assert str(caught.value) == "system 'typo' is not compared; there are noise, shares"
