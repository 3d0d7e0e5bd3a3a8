"""`recguru indexer update|diff`: a release with other items, and what that changes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer.options import Activate, Config, Device, Json, Uri, files_by_name, milvus_settings
from model.console import print_json, progress, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from indexer.change_files import Role
    from indexer.update import Updated


Files = list[str] | None
FILES = "DOMAIN=FILE"


def add_commands(app: typer.Typer) -> None:
    """Add the commands to a group of them."""
    app.command()(update)
    app.command()(diff)


def update(  # noqa: PLR0913  # one parameter an option
    *,
    releases: Annotated[Path, typer.Option(help="Release root; the new release appears in it.")],
    version: Annotated[
        str | None, typer.Option(help="The version to start from; default the latest.")
    ] = None,
    add: Annotated[Files, typer.Option(metavar=FILES, help="Items to add: JSON lines.")] = None,
    remove: Annotated[
        Files, typer.Option(metavar=FILES, help="Items to remove, one a line.")
    ] = None,
    rename: Annotated[
        Files, typer.Option(metavar=FILES, help="Items to rename: old id, tab, new id.")
    ] = None,
    popularity: Annotated[
        Files, typer.Option(metavar=FILES, help="All new popularity: item id, tab, count.")
    ] = None,
    activate: Activate = True,
    uri: Uri = None,
    device: Device = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a release of another, with items added, removed or renamed; nothing is trained.

    An item to add has either a vector of its own to be scored by, or items that it is like, whose
    mean it takes: {"item_id": "new", "title": "A title", "like": ["old", "older"]}. Candidate sets
    and attributes follow their items; a new item is in none. The release is tried as a build is.
    Settings: table [index]. LATEST moves unless somebody else has moved it meanwhile.

    \b
    Example:
      recguru indexer update --releases releases --add books=new.jsonl --remove books=gone.txt
      recguru indexer update --releases releases --popularity books=week.tsv --no-activate
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    files = _by_domain({"add": add, "remove": remove, "rename": rename, "popularity": popularity})
    from indexer.publish import folder_of, latest
    from indexer.release import Release
    from indexer.spec import IndexSettings
    from indexer.store import Store
    from indexer.update import steps
    from indexer.update import update as run_update
    from model.settings import load_settings

    flags = {"device": device}
    settings = load_settings(IndexSettings, table="index", config=config, flags=flags)
    milvus = milvus_settings(config, uri)
    folder = latest(releases) if version is None else folder_of(releases, version)
    active = folder if version is None or not activate else latest(releases)
    release = Release.read(folder, milvus=milvus)
    with progress("updating", steps(release)) as advance:
        updated = run_update(
            release,
            Store(releases, milvus),
            files,
            settings=settings,
            advance=advance,
            replaces=active.name if activate else None,
        )
    _print_updated(updated, as_json=as_json)


def diff(  # noqa: PLR0913  # one parameter an option
    *,
    old: Annotated[str, typer.Argument(help="Release folder, or with --releases a version.")],
    new: Annotated[str, typer.Argument(help="Another.")],
    releases: Annotated[Path | None, typer.Option(help="Release root of both versions.")] = None,
    k: Annotated[int | None, typer.Option(help="Items of an answer; default 10.")] = None,
    users: Annotated[int | None, typer.Option(help="Users a domain; default 1,000.")] = None,
    uri: Uri = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare two releases: their items, and how much of what users get stays the same.

    The users are those whose preference vectors both releases keep. `popularity L1` is the sum of
    all changes of shares, from 0 to 2. Settings: table [diff].

    \b
    Example:
      recguru indexer diff --releases releases 20260101T120000.000000Z-0123456789ab \\
        20260102T120000.000000Z-ba9876543210
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.diff import DiffSettings, diff_lines, steps
    from indexer.diff import diff as run_diff
    from indexer.publish import folder_of
    from indexer.release import Release
    from model.settings import load_settings

    flags = {"k": k, "users": users}
    settings = load_settings(DiffSettings, table="diff", config=config, flags=flags)
    milvus = milvus_settings(config, uri)
    before, after = (
        Release.read(Path(name) if releases is None else folder_of(releases, name), milvus=milvus)
        for name in (old, new)
    )
    with progress("comparing", steps(before, after)) as advance:
        domains = run_diff(before, after, settings, advance=advance)
    figures: dict[str, Any] = {
        "old": before.version,
        "new": after.version,
        "settings": settings.model_dump(),
        "domains": domains,
    }
    if as_json:
        print_json(figures)
    else:
        typer.echo("\n".join(diff_lines(figures)))


def _by_domain(given: "Mapping[Role, list[str] | None]") -> "dict[str, dict[Role, Path]]":
    """Read `DOMAIN=FILE` options."""
    files: dict[str, dict[Role, Path]] = {}
    for role, options in given.items():
        for domain, path in files_by_name(f"--{role}", "DOMAIN", options or []).items():
            files.setdefault(domain, {})[role] = path
    if not files:
        raise typer.BadParameter("give at least one of --" + ", --".join(given))
    return files


def _print_updated(updated: "Updated", *, as_json: bool) -> None:
    from dataclasses import asdict

    for name, each in updated.domains.items():
        if each.unknown_like:
            warn(
                f"{name}: {each.unknown_like} of the ids that items are said to be like are not "
                "known there and do not count"
            )
    for domain, name in updated.emptied:
        warn(f"candidate set {name} of {domain} is no more: no item is left of it")
    if as_json:
        print_json(
            {
                "release": updated.folder.name,
                "folder": str(updated.folder),
                "digest": updated.digest,
                "base": updated.base,
                "bundle": updated.bundle,
                "domains": {name: asdict(each) for name, each in updated.domains.items()},
                "seconds": round(updated.seconds, 2),
            }
        )
        return
    typer.echo(f"release {updated.folder} from {updated.base} in {updated.seconds:.1f} s")
    for name, each in updated.domains.items():
        done = f"{each.index} ({each.why})" if each.why else each.index
        typer.echo(
            f"  {name}: {each.items:,} items, index {each.kind} {done}; "
            f"{each.added:,} added, {each.removed:,} removed, {each.renamed:,} renamed; "
            f"{each.cold:,} cold"
        )
