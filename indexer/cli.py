"""`recguru indexer build|measure|info|update|diff`, also the command `indexer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer import update_cli
from indexer.options import Activate, Config, Device, Json, Uri, files_by_name, milvus_settings
from indexer.spec import KindChoice
from model.console import make_app, print_json, progress, run, warn

if TYPE_CHECKING:
    from indexer.build import Built
    from indexer.candidates import CandidateSet
    from indexer.measure import MeasureSettings
    from indexer.milvus_api import MilvusSettings
    from indexer.release import Release
    from indexer.spec import Kind

IndexKind = Annotated[
    KindChoice | None, typer.Option(help="Kind of index, the same for all domains; default auto.")
]
Queries = Annotated[int | None, typer.Option(min=1, help="Queries a domain; default 1,000.")]
SweptKinds = Annotated[
    str | None, typer.Option(help="Kinds of the sweep, with commas; default all.")
]

app = make_app("Build, measure, inspect and update releases: what a server loads.")
update_cli.add_commands(app)


@app.command()
def build(  # noqa: PLR0913  # one parameter an option
    *,
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle of a training.")],
    out: Annotated[Path, typer.Option(help="Release root; the release appears in it.")],
    index: IndexKind = None,
    uri: Uri = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A candidate set: item ids, one a line."),
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(metavar="DOMAIN=FILE", help="Attributes of a domain's items: a TSV table."),
    ] = None,
    activate: Activate = True,
    device: Device = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Build a release of a bundle, try it, publish it, and point LATEST at it.

    The release holds a copy of the bundle, an index of each domain, the candidate sets and the
    attributes that filters go by. Until it is complete nothing that reads the root sees it.
    Settings: tables [index] and, for an index that is kept in Milvus, [milvus].

    \b
    Example:
      recguru indexer build --bundle run/bundle --out releases
      recguru indexer build --bundle run/bundle --out releases --candidates new=new_items.txt
      recguru indexer build --bundle run/bundle --out releases --attributes books=books.tsv
      recguru indexer build --bundle run/bundle --out releases --index milvus --uri http://milvus:19530
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    files = _candidate_files(candidates or [])
    tables = files_by_name("--attributes", "DOMAIN", attributes or [])
    from indexer.build import Extras, steps
    from indexer.build import build as run_build
    from indexer.spec import IndexSettings
    from indexer.store import Store
    from model.bundle import Bundle
    from model.settings import load_settings

    flags = {"kind": index, "device": device}
    settings = load_settings(IndexSettings, table="index", config=config, flags=flags)
    read = Bundle.read(bundle)
    with progress("building", steps(read)) as advance:
        built = run_build(
            read,
            Store(out, milvus_settings(config, uri)),
            settings=settings,
            extras=Extras(candidates=files, attributes=tables),
            advance=advance,
            activate=activate,
        )
    _warn_of(built)
    _print_built(built, as_json=as_json)


@app.command()
def measure(  # noqa: PLR0913  # one parameter an option
    *,
    releases: Annotated[
        Path | None, typer.Option(help="Release root; its latest release is measured.")
    ] = None,
    release: Annotated[Path | None, typer.Option(help="Release folder to measure.")] = None,
    queries: Queries = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Build other kinds too, and try each ever harder.")
    ] = False,
    kinds: SweptKinds = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the sweep: a .png, .pdf or .svg.")] = None,
    uri: Uri = None,
    device: Device = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure recall against exact search, latency, and size of a release's indexes.

    The queries are preference vectors of users that the bundle holds, none that tuned the index;
    where it holds none, means of random groups of items' vectors. A sweep builds other kinds of
    index for the same items, searches each harder and harder, on one thread and on all, and can be
    drawn. Settings: table [measure], and [index] for the kinds of a sweep.

    \b
    Example:
      recguru indexer measure --releases releases
      recguru indexer measure --releases releases --sweep --kinds flat,ivf --plot kinds.png
      recguru indexer measure --release releases/20260101T120000.000000Z-0123456789ab --json
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    folder = _folder_to_measure(releases, release)
    if not sweep and (kinds is not None or plot is not None):
        raise typer.BadParameter("--kinds and --plot go with --sweep")
    from indexer.measure import MeasureSettings, sweeps
    from indexer.measure import measure as run_measure
    from indexer.measure_report import report_lines
    from indexer.plots import check_picture, plot_sweeps
    from indexer.spec import IndexSettings
    from model.settings import load_settings

    tried = _kinds(kinds) if sweep else []
    if plot is not None:
        check_picture(plot)
    flags = {"queries": queries, "device": device}
    settings = load_settings(MeasureSettings, table="measure", config=config, flags=flags)
    options = load_settings(IndexSettings, table="index", config=config)
    read = _opened(folder, settings, milvus_settings(config, uri))
    figures: dict[str, Any] = {"release": read.version, "settings": settings.model_dump()}
    with progress("measuring", len(read.indexes) * (1 + len(tried))) as advance:
        figures["domains"] = run_measure(read, settings, advance=advance)
        if tried:
            figures["sweeps"] = sweeps(read, settings, tried, options, advance=advance)
    if as_json:
        print_json(figures)
    else:
        for line in report_lines(figures):
            typer.echo(line)
    if plot is not None:
        plot_sweeps(figures["sweeps"], plot)


def _kinds(given: str | None) -> "list[Kind]":
    from indexer.spec import KINDS

    if given is None:
        return list(KINDS)
    wanted = given.split(",")
    for kind in wanted:
        if kind not in KINDS:
            raise typer.BadParameter(f"--kinds: {kind!r} is none of {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in wanted]


@app.command()
def info(
    *,
    releases: Annotated[Path, typer.Option(help="Release root.")],
    uri: Uri = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check all files of the latest release, say what it holds and which versions are there.

    Of an index that updates append to it says how much has changed since it was built whole.
    Settings: `rebuild_share` of table [index] and, for an index that is kept in Milvus, [milvus].

    \b
    Example:
      recguru indexer info --releases releases
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.publish import latest, versions
    from indexer.release import INDEX, Release
    from indexer.spec import IndexSettings
    from model.derived import cold_items
    from model.settings import load_settings

    share = load_settings(IndexSettings, table="index", config=config).rebuild_share
    release = Release.read(latest(releases), milvus=milvus_settings(config, uri))
    cold = cold_items(release.bundle)
    figures = {
        "latest": release.version,
        "digest": release.digest,
        "bundle": release.bundle.digest,
        "dataset": release.dataset,
        "domains": {
            name: {
                "items": len(index),
                "cold_items": len(cold[name]),
                "width": index.width,
                "kind": index.kind,
                "since_built": _since_built(
                    release.folder / INDEX / f"{name}.json", len(index), share
                ),
                "candidate_sets": {key: len(rows) for key, rows in index.candidate_sets.items()},
                "attributes": {key: len(values) for key, values in index.attributes.items()},
            }
            for name, index in release.indexes.items()
        },
        "versions": versions(releases),
    }
    if as_json:
        print_json(figures)
    else:
        _print_info(figures)


def _since_built(spec_path: Path, items: int, rebuild_share: float) -> dict[str, Any] | None:
    """Say how an index has changed since it was built; None if it is never appended to."""
    from indexer.spec import MilvusSpec, read_spec
    from indexer.state import is_appended, read_state, state_path

    spec = read_spec(spec_path)
    if isinstance(spec, MilvusSpec) or not is_appended(spec):
        return None
    state = read_state(state_path(spec_path), spec)
    changed, tombstones = (state.changed, state.removed) if state else (0, 0)
    return {
        "changed": changed,
        "changed_share": changed / items,
        "rebuild_share": rebuild_share,
        "tombstones": tombstones,
    }


def _opened(folder: Path, settings: "MeasureSettings", milvus: "MilvusSettings") -> "Release":
    """Open a release where it is to be measured."""
    from indexer.placement import index_device
    from indexer.release import Release

    where = index_device(settings.device, settings.gpus)
    return Release.read(folder, device=where, threads=settings.threads, milvus=milvus)


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

    files = files_by_name("--candidates", "NAME", options)
    for name in files:
        if not NAME.fullmatch(name):
            raise typer.BadParameter(
                f"--candidates: the name {name!r} must be 1 to 64 letters, digits, '.', '_' or "
                "'-', and begin with a letter or digit"
            )
    return files


def _warn_of(built: "Built") -> None:
    if built.without_users:
        warn(
            f"the bundle holds no users' preference vectors of {', '.join(built.without_users)}: "
            "the index was tried with means of items' vectors"
        )
    for table in built.attributes:
        if table.unknown:
            warn(
                f"attributes of {table.domain}: {table.unknown} of {table.ids} item ids are not "
                "known there and are left out"
            )
    for candidate_set in built.sets:
        if candidate_set.unknown:
            warn(
                f"candidate set {candidate_set.name}: {candidate_set.unknown} of "
                f"{candidate_set.ids} item ids are known in no domain and are left out"
            )


def _set_sizes(candidate_set: "CandidateSet") -> dict[str, int]:
    return {domain: len(rows) for domain, rows in candidate_set.rows.items()}


def _print_built(built: "Built", *, as_json: bool) -> None:
    figures: dict[str, Any] = {
        "release": built.folder.name,
        "folder": str(built.folder),
        "digest": built.digest,
        "bundle": built.bundle.digest,
        "dataset": built.bundle.dataset,
        "kinds": dict(built.kinds),
        "items": {domain.name: len(domain.vocabulary) for domain in built.bundle.domains},
        "candidate_sets": {
            candidate_set.name: {
                "items": _set_sizes(candidate_set),
                "unknown": candidate_set.unknown,
            }
            for candidate_set in built.sets
        },
        "attributes": {
            table.domain: {
                "values": {name: len(values) for name, values in table.attributes.items()},
                "unknown": table.unknown,
            }
            for table in built.attributes
        },
        "seconds": round(built.seconds, 2),
    }
    if as_json:
        print_json(figures)
        return
    typer.echo(f"release {built.folder} in {built.seconds:.1f} s")
    for name, items in figures["items"].items():
        typer.echo(f"  {name}: {items:,} items, index {built.kinds[name]}")
    for candidate_set in built.sets:
        sizes = ", ".join(f"{size:,} of {name}" for name, size in _set_sizes(candidate_set).items())
        typer.echo(f"  candidate set {candidate_set.name}: {sizes}")
    for domain, table in figures["attributes"].items():
        for name, values in table["values"].items():
            typer.echo(f"  attribute {name} of {domain}: {values:,} values")


def _print_info(figures: dict[str, Any]) -> None:
    typer.echo(f"latest {figures['latest']}, all files intact")
    for key in ("digest", "bundle", "dataset"):
        typer.echo(f"  {key} {figures[key]}")
    for name, domain in figures["domains"].items():
        typer.echo(f"{name}: {domain['items']:,} items x {domain['width']}, index {domain['kind']}")
        since = domain["since_built"]
        if since and since["changed"]:
            typer.echo(
                f"  since it was built: {since['changed']:,} entries removed and added, "
                f"{since['changed_share']:.2%} of the items (built anew past "
                f"{since['rebuild_share']:.2%}); {since['tombstones']:,} tombstones"
            )
        if domain["cold_items"]:
            typer.echo(f"  cold items: {domain['cold_items']:,}")
        for key, size in domain["candidate_sets"].items():
            typer.echo(f"  candidate set {key}: {size:,} items")
        for key, values in domain["attributes"].items():
            typer.echo(f"  attribute {key}: {values:,} values")
    typer.echo(f"versions ({len(figures['versions'])}):")
    for version in figures["versions"]:
        typer.echo(f"  {version}")


def main() -> None:
    """Run the stand-alone command `indexer`."""
    run(app)


if __name__ == "__main__":
    main()
