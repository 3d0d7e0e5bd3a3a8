"""`recguru releases list|activate|prune`: the versions in a release root, and which is served."""

from pathlib import Path
from typing import Annotated

import typer

from model.console import make_app, print_json

app = make_app("Look after the versions in a release root.")

Root = Annotated[Path, typer.Option("--releases", help="Release root.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_versions(*, releases: Root, as_json: Json = False) -> None:
    """Show the versions in a release root, the newest first, and which of them LATEST names.

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
        mark = "*" if version["active"] else " "
        size = f"{version['bytes'] / 1e6:10,.1f} MB" if "bytes" in version else ""
        about = version.get("damage") or f"model {version['bundle']:.12s} {size}"
        typer.echo(f"{mark} {version['version']}  {about}")


@app.command()
def activate(
    *,
    releases: Root,
    version: Annotated[str, typer.Argument(help="The version to serve; see list.")],
) -> None:
    """Point LATEST at a version, every file of it checked first: servers take it up by themselves.

    \b
    Example:
      recguru releases activate --releases releases 20260101T120000.000000Z-0123456789ab
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.versions import activate_checked

    before = activate_checked(releases, version)
    typer.echo(f"LATEST names {version}; before it named {before or 'no version'}")


@app.command()
def prune(
    *,
    releases: Root,
    keep: Annotated[int, typer.Option(min=1, help="Newest versions to keep.")] = 3,
) -> None:
    """Remove all versions but the newest few and the one that LATEST names.

    \b
    Example:
      recguru releases prune --releases releases --keep 5
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    from indexer.publish import prune as remove

    removed = remove(releases, keep=keep)
    for version in removed:
        typer.echo(f"removed {version}")
    typer.echo(f"{len(removed)} versions removed")
