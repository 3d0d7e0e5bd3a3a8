"""What the commands of the indexer have in common: options, and how their values are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.settings import DeviceChoice

if TYPE_CHECKING:
    from indexer.milvus_api import MilvusSettings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[DeviceChoice | None, typer.Option(help="Default auto.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with this command's settings.")]
Activate = Annotated[
    bool, typer.Option(help="Point LATEST at the release, or leave it where it is.")
]
Uri = Annotated[
    str | None,
    typer.Option(help="Where Milvus runs, http://HOST:PORT; default what [milvus] says."),
]


def milvus_settings(config: Path | None, uri: str | None) -> "MilvusSettings":
    """Read where Milvus runs: table [milvus], the environment, and what was given."""
    from indexer.milvus_api import MilvusSettings  # noqa: PLC0415  # numpy: of no use for --help
    from model.settings import load_settings  # noqa: PLC0415  # the same

    return load_settings(MilvusSettings, table="milvus", config=config, flags={"uri": uri})


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
