"""`recguru indexer build|measure|info`, also the command `indexer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.console import make_app, print_json, progress, run, warn

if TYPE_CHECKING:
    from indexer.build import Built
    from indexer.candidates import CandidateSet

app = make_app("Build, measure and inspect releases: what a server loads.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; default auto.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with this command's settings.")]


@app.command()
def build(  # noqa: PLR0913  # one parameter an option
    *,
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle of a training.")],
    out: Annotated[Path, typer.Option(help="Release root; the release appears in it.")],
    index: Annotated[str | None, typer.Option(help="Kind of index: auto or flat.")] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A candidate set: item ids, one a line."),
    ] = None,
    activate: Annotated[
        bool, typer.Option(help="Point LATEST at the release, or leave it where it is.")
    ] = True,
    device: Device = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Build a release of a bundle, try it, publish it, and point LATEST at it.

    The release holds a copy of the bundle, an index of each domain and the candidate sets. Until it
    is complete nothing that reads the root sees it. Settings: table [index].

    \b
    Example:
      recguru indexer build --bundle run/bundle --out releases
      recguru indexer build --bundle run/bundle --out releases --candidates new=new_items.txt
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    files = _candidate_files(candidates or [])
    from indexer.build import build as run_build
    from indexer.build import steps
    from indexer.spec import IndexSettings
    from model.bundle import Bundle
    from model.settings import load_settings

    flags = {"kind": index, "device": device}
    settings = load_settings(IndexSettings, table="index", config=config, flags=flags)
    read = Bundle.read(bundle)
    with progress("building", steps(read)) as advance:
        built = run_build(
            read, out, settings=settings, candidates=files, advance=advance, activate=activate
        )
    for candidate_set in built.sets:
        if candidate_set.unknown:
            warn(
                f"candidate set {candidate_set.name}: {candidate_set.unknown} of "
                f"{candidate_set.ids} item ids are known in no domain and are left out"
            )
    _print_built(built, as_json=as_json)


@app.command()
def measure(
    *,
    releases: Annotated[
        Path | None, typer.Option(help="Release root; its latest release is measured.")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="Release folder to measure.")] = None,
    queries: Annotated[int | None, typer.Option(help="Queries a domain; default 1,000.")] = None,
    device: Device = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure recall against exact search, latency, and size of a release's indexes.

    The queries are means of random groups of items' vectors, as no users are at hand. Settings:
    table [measure].

    \b
    Example:
      recguru indexer measure --releases releases
      recguru indexer measure --release releases/20260101T120000.000000Z-0123456789ab --json
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    folder = _folder_to_measure(releases, release)
    from indexer.measure import QUERIES, MeasureSettings
    from indexer.measure import measure as run_measure
    from indexer.release import Release
    from model.settings import load_settings

    flags = {"queries": queries, "device": device}
    settings = load_settings(MeasureSettings, table="measure", config=config, flags=flags)
    read = Release.read(folder, device=settings.device, threads=settings.threads)
    with progress("measuring", len(read.indexes)) as advance:
        domains = run_measure(read, settings, advance=advance)
    figures = {
        "release": read.version,
        "settings": settings.model_dump(),
        "queries_are": QUERIES,
        "domains": domains,
    }
    if as_json:
        print_json(figures)
    else:
        _print_measured(figures)


@app.command()
def info(
    *,
    releases: Annotated[Path, typer.Option(help="Release root.")],
    as_json: Json = False,
) -> None:
    """Check all files of the latest release, say what it holds and which versions are there.

    \b
    Example:
      recguru indexer info --releases releases
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.publish import latest, versions
    from indexer.release import Release

    release = Release.read(latest(releases))
    figures = {
        "latest": release.version,
        "digest": release.digest,
        "bundle": release.bundle.digest,
        "dataset": release.dataset,
        "domains": {
            name: {
                "items": len(index),
                "width": index.width,
                "kind": index.kind,
                "candidate_sets": {key: len(rows) for key, rows in index.candidate_sets.items()},
            }
            for name, index in release.indexes.items()
        },
        "versions": versions(releases),
    }
    if as_json:
        print_json(figures)
    else:
        _print_info(figures)


def _folder_to_measure(releases: Path | None, release: Path | None) -> Path:
    from indexer.publish import latest

    if releases is not None and release is None:
        return latest(releases)
    if release is not None and releases is None:
        return release
    raise typer.BadParameter("give either --releases or --release")


def _candidate_files(options: list[str]) -> dict[str, Path]:
    """Read `NAME=FILE` options."""
    from indexer.candidates import NAME

    files: dict[str, Path] = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not equals or not file:
            raise typer.BadParameter(f"--candidates {option!r} is not NAME=FILE")
        if not NAME.fullmatch(name):
            raise typer.BadParameter(
                f"--candidates: the name {name!r} must be 1 to 64 letters, digits, '.', '_' or "
                "'-', and begin with a letter or digit"
            )
        if name in files:
            raise typer.BadParameter(f"--candidates: the name {name!r} stands twice")
        files[name] = Path(file)
    return files


def _set_sizes(candidate_set: "CandidateSet") -> dict[str, int]:
    return {domain: len(rows) for domain, rows in candidate_set.rows.items()}


def _print_built(built: "Built", *, as_json: bool) -> None:
    figures: dict[str, Any] = {
        "release": built.folder.name,
        "folder": str(built.folder),
        "digest": built.digest,
        "bundle": built.bundle.digest,
        "dataset": built.bundle.dataset,
        "kind": built.kind,
        "items": {domain.name: len(domain.vocabulary) for domain in built.bundle.domains},
        "candidate_sets": {
            candidate_set.name: {
                "items": _set_sizes(candidate_set),
                "unknown": candidate_set.unknown,
            }
            for candidate_set in built.sets
        },
        "seconds": round(built.seconds, 2),
    }
    if as_json:
        print_json(figures)
        return
    typer.echo(f"release {built.folder} in {built.seconds:.1f} s, index {built.kind}")
    for name, items in figures["items"].items():
        typer.echo(f"  {name}: {items:,} items")
    for candidate_set in built.sets:
        sizes = ", ".join(f"{size:,} of {name}" for name, size in _set_sizes(candidate_set).items())
        typer.echo(f"  candidate set {candidate_set.name}: {sizes}")


def _print_measured(figures: dict[str, Any]) -> None:
    settings = figures["settings"]
    typer.echo(f"release {figures['release']}, {settings['queries']:,} queries a domain:")
    typer.echo(f"  {figures['queries_are']}")
    for name, domain in figures["domains"].items():
        recall = ", ".join(f"{k} {share:.4f}" for k, share in domain["recall"].items())
        typer.echo(f"{name}: {domain['items']:,} items x {domain['width']}, index {domain['kind']}")
        typer.echo(f"  recall {recall}; {domain['bytes_per_item']:,.0f} bytes an item")
        for way, size in (("single", 1), ("batched", settings["batch"])):
            took = domain[way]
            typer.echo(
                f"  {way} search ({size} queries): p50 {took['p50_ms']:.3f} ms, "
                f"p95 {took['p95_ms']:.3f} ms, p99 {took['p99_ms']:.3f} ms, "
                f"{took['queries_per_s']:,.0f} queries/s"
            )


def _print_info(figures: dict[str, Any]) -> None:
    typer.echo(f"latest {figures['latest']}, all files intact")
    for key in ("digest", "bundle", "dataset"):
        typer.echo(f"  {key} {figures[key]}")
    for name, domain in figures["domains"].items():
        typer.echo(f"{name}: {domain['items']:,} items x {domain['width']}, index {domain['kind']}")
        for key, size in domain["candidate_sets"].items():
            typer.echo(f"  candidate set {key}: {size:,} items")
    typer.echo(f"versions ({len(figures['versions'])}):")
    for version in figures["versions"]:
        typer.echo(f"  {version}")


def main() -> None:
    """Run the stand-alone command `indexer`."""
    run(app)


if __name__ == "__main__":
    main()
