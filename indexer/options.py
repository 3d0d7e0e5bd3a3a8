"""What the commands of the indexer have in common: options, and how their values are read."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; default auto.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with this command's settings.")]


def files_by_name(option: str, key: str, given: list[str]) -> dict[str, Path]:
    """Read what an option was given with, `KEY=FILE` each time."""
    files: dict[str, Path] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not (name and file):
            raise typer.BadParameter(f"{option} {text!r} is not {key}=FILE")
        if name in files:
            raise typer.BadParameter(f"{option}: the name {name!r} stands twice")
        files[name] = Path(file)
    return files
