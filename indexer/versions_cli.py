"""`recguru releases list|activate|canary|prune`: the versions in a root, and which are served."""

from pathlib import Path
from typing import Annotated

import typer

from indexer.options import Config, Json, Uri, milvus_settings
from model.console import make_app, print_json

app = make_app("Look after the versions in a release root.")

Root = Annotated[Path, typer.Option("--releases", help="Release root.")]


@app.command("list")
def list_versions(*, releases: Root, as_json: Json = False) -> None:
    """Show the versions in a release root, the newest first.

    `*` marks the one that LATEST names, `~` the canary.

    \b
    Example:
      recguru releases list --releases releases
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.versions import described

    found = described(releases)
    if as_json:
        print_json(found)
        return
    for version in found:
        share = version["canary_share"]
        mark = "*" if version["active"] else " " if share is None else "~"
        size = f"{version['bytes'] / 1e6:10,.1f} MB" if "bytes" in version else ""
        about = version.get("damage") or f"model {version['bundle']:.12s} {size}"
        about += "" if share is None else f"  canary, {share:.4g} of the calls"
        typer.echo(f"{mark} {version['version']}  {about}")


@app.command()
def activate(
    *,
    releases: Root,
    version: Annotated[str, typer.Argument(help="The version to serve; see list.")],
    uri: Uri = None,
    config: Config = None,
) -> None:
    """Point LATEST at a version, every file of it checked first: servers take it up by themselves.

    Where its index is kept in Milvus, the collections are checked, too, and their aliases follow.

    \b
    Example:
      recguru releases activate --releases releases 20260101T120000.000000Z-0123456789ab
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.versions import activate_checked

    before = activate_checked(releases, version, milvus_settings(config, uri))
    typer.echo(f"LATEST names {version}; before it named {before or 'no version'}")


@app.command()
def canary(
    *,
    releases: Root,
    version: Annotated[
        str | None, typer.Argument(help="The version to try out; see list.", show_default=False)
    ] = None,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the calls, 0 to 1.", show_default=False)
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Try nothing out any more.")] = False,
    uri: Uri = None,
    config: Config = None,
) -> None:
    """Let a version answer a share of the calls, beside the one that LATEST names.

    Which calls is decided by whom they are for (metadata `recguru-key`), so that a user gets all
    answers from one version. `releases activate VERSION` lets it answer all of them.

    \b
    Example:
      recguru releases canary --releases releases 20260101T120000.000000Z-0123456789ab --share 0.05
      recguru releases canary --releases releases --end
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.publish import Canary, end_canary
    from indexer.versions import try_out_checked

    if end == (version is not None or share is not None):
        raise typer.BadParameter("give VERSION and --share, or --end alone")
    if end:
        end_canary(releases)
        typer.echo("no canary: LATEST names what answers every call")
        return
    if version is None or share is None:
        raise typer.BadParameter("VERSION and --share go together")
    try_out_checked(releases, Canary(version, share), milvus_settings(config, uri))
    typer.echo(f"{share:.4g} of the calls try {version} out")


@app.command()
def prune(
    *,
    releases: Root,
    keep: Annotated[int, typer.Option(min=1, help="Newest versions to keep.")] = 3,
    uri: Uri = None,
    config: Config = None,
) -> None:
    """Remove all versions but the newest few, the one that LATEST names and the canary.

    Their collections in Milvus are dropped; servers must have left these versions by then.

    \b
    Example:
      recguru releases prune --releases releases --keep 5
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from functools import partial

    from indexer.milvus_build import forget
    from indexer.publish import prune as remove

    milvus = milvus_settings(config, uri)
    removed = remove(releases, keep=keep, forget=partial(forget, settings=milvus))
    for version in removed:
        typer.echo(f"removed {version}")
    typer.echo(f"{len(removed)} versions removed")
