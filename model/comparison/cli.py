"""`recguru compare`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.allocator import keep_freed_memory
from model.console import limit_threads, make_app, print_json
from model.settings import DeviceChoice

if TYPE_CHECKING:
    from model.comparison.settings import CompareSettings

comparison_app = make_app("Compare systems.")

_MOST_PERCENT = 100


_Out = Annotated[Path, typer.Option(help="Folder of results, trials and the report.")]
_Data = Annotated[Path | None, typer.Option(help="Dataset folder, from `recguru data prepare`.")]
_Systems = Annotated[
    str | None, typer.Option(metavar="A,B|all|ablations", help="What to compare.  [all]")
]
_Seeds = Annotated[
    str | None, typer.Option(metavar="0,1,2", help="Each system is trained with each.  [0,1,2]")
]
_Trials = Annotated[
    int | None,
    typer.Option(
        min=1, max=10_000, help="Settings each system is tried with on validation rows.  [1]"
    ),
]
_Against = Annotated[
    str | None,
    typer.Option(metavar="SYSTEM", help="Show all differences to it.  [sasrec-strong]"),
]
_Device = Annotated[
    DeviceChoice | None, typer.Option(help="Where those train that can use a GPU.  [cpu]")
]
_Overlap = Annotated[
    str | None,
    typer.Option(metavar="10,30,50,75", help="Compare at these per cent of shared users."),
]
_ReportOnly = Annotated[
    bool, typer.Option("--report-only", help="Run nothing; report what is finished.")
]
_Results = Annotated[
    list[Path] | None,
    typer.Option(help="With --report-only: a folder of finished runs; repeatable.  [OUT]"),
]
_Config = Annotated[Path | None, typer.Option(help="TOML file; its table [compare] is read.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@comparison_app.command()
def compare(  # noqa: PLR0913  # every flag is a parameter
    *,
    out: _Out,
    data: _Data = None,
    systems: _Systems = None,
    seeds: _Seeds = None,
    trials: _Trials = None,
    against: _Against = None,
    device: _Device = None,
    overlap: _Overlap = None,
    report_only: _ReportOnly = False,
    results: _Results = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    r"""Train and evaluate systems on one dataset and put them into one table.

    What is finished in OUT and was made from the same is not done again, so an interrupted
    comparison goes on where it was. Writes report.json, report.md and, with the extra `plots`,
    report.png; of a study a report in overlap-PERCENT for each share, and overlap.json, overlap.md
    and overlap.png.

    \b
    Example:
      recguru compare --data dataset --systems popularity,co-occurrence --seeds 0 --out comparison
      recguru compare --data dataset --systems all --seeds 0,1,2 --trials 8 --out comparison
      recguru compare --report-only --results first --results second --out merged
      recguru compare --data dataset --systems all --overlap 10,30,50,75 --out study
      recguru compare --report-only --results study --overlap 10,30,50,75 --out report
    """
    flags = {
        "systems": None if systems is None else _words(systems, "--systems"),
        "seeds": _numbers(seeds, "--seeds"),
        "trials": trials,
        "against": against,
        "device": device,
    }
    percents = _numbers(overlap, "--overlap")
    _check(data, percents, results, report_only=report_only)
    limit_threads()
    keep_freed_memory()

    from model.comparison.settings import CompareSettings
    from model.errors import BadSettingError
    from model.settings import load_settings

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise BadSettingError("compare trains in one process; start it without torchrun")
    settings = load_settings(CompareSettings, table="compare", config=config, flags=flags)
    if data is None and percents:
        _rebuild_study(results or [out], out, settings, percents, as_json=as_json)
    elif data is None:
        _rebuild(results or [out], out, settings, as_json=as_json)
    elif percents:
        _study(data, out, settings, percents, as_json=as_json)
    else:
        _compare(data, out, settings, as_json=as_json)


def _compare(data: Path, out: Path, settings: "CompareSettings", *, as_json: bool) -> None:
    from model.comparison.compare import compare as run_comparison

    done = run_comparison(data, out, settings, say=_say)
    _show(done.report, out, as_json=as_json)
    _fail_for(done.failures)


def _rebuild(
    folders: Sequence[Path], out: Path, settings: "CompareSettings", *, as_json: bool
) -> None:
    from model.comparison.compare import rebuild

    _show(rebuild(folders, out, settings).report, out, as_json=as_json)


def _study(
    data: Path, out: Path, settings: "CompareSettings", percents: Sequence[int], *, as_json: bool
) -> None:
    from model.comparison.overlap import study_overlap

    study = study_overlap(data, out, settings, percents, say=_say)
    _show_study(study.content, out, as_json=as_json)
    _fail_for(study.failures)


def _rebuild_study(
    folders: Sequence[Path],
    out: Path,
    settings: "CompareSettings",
    percents: Sequence[int],
    *,
    as_json: bool,
) -> None:
    from model.comparison.overlap import rebuild_study

    _show_study(rebuild_study(folders, out, settings, percents), out, as_json=as_json)


def _show_study(content: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    from model.comparison.overlap import MARKDOWN, study_summary
    from model.comparison.plots import plot_overlap

    plot_overlap(content, out)
    if as_json:
        print_json(content)
    else:
        typer.echo(study_summary(content))
        typer.echo(f"study in {out / MARKDOWN}")


def _show(report: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    from model.comparison.compare import MARKDOWN
    from model.comparison.plots import plot_comparison
    from model.comparison.summary import summary

    plot_comparison(report, out)
    if as_json:
        print_json(report)
    else:
        typer.echo(summary(report))
        typer.echo(f"report in {out / MARKDOWN}")


def _fail_for(failures: Sequence[str]) -> None:
    from model.errors import RecGuruError

    if failures:
        raise RecGuruError(f"{len(failures)} failed and stand in no table: {'; '.join(failures)}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _check(
    data: Path | None,
    percents: Sequence[int] | None,
    results: Sequence[Path] | None,
    *,
    report_only: bool,
) -> None:
    if report_only == (data is not None):
        raise typer.BadParameter("give one of the two", param_hint="--data, --report-only")
    if results and not report_only:
        raise typer.BadParameter("needs --report-only", param_hint="--results")
    if percents is not None and max(percents) > _MOST_PERCENT:
        raise typer.BadParameter("more than 100 %", param_hint="--overlap")


def _words(text: str, flag: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise typer.BadParameter(f"{text!r} is not a list like A,B,C", param_hint=flag)
    return words


def _numbers(text: str | None, flag: str) -> list[int] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise typer.BadParameter(f"{text!r} is not a list of numbers like 0,1,2", param_hint=flag)
    return [int(word) for word in words]
