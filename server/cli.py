"""`recguru serve`."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.console import THREADS, make_app
from model.files import check_place, write_bytes_atomically
from model.settings import DeviceChoice, load_settings

if TYPE_CHECKING:
    from server.config import ServeSettings

app = make_app("Serve a release over gRPC.")

Releases = Annotated[
    Path | None, typer.Option(help="Release root: the folder that holds LATEST. Required.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[
    int | None,
    typer.Option(help="TCP port; 0 takes a free one.", show_default="50051", min=0, max=65535),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that share the port.", show_default="1", min=1, max=256),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(help="TCP port of GET /metrics.", show_default="none", min=0, max=65535),
]
Insecure = Annotated[
    bool | None, typer.Option("--insecure", help="Listen beyond this machine without TLS.")
]
Device = Annotated[
    DeviceChoice | None, typer.Option(help="Where networks and indexes run.", show_default="auto")
]
MilvusUri = Annotated[
    str | None,
    typer.Option(help="Where Milvus runs, for releases whose index is kept there."),
]
Config = Annotated[
    Path | None, typer.Option(help="TOML file; its tables [serve] and [milvus] are read.")
]
PortFile = Annotated[
    Path | None,
    typer.Option(help="Write the port here once calls are answered; for scripts with --port 0."),
]


Check = Annotated[
    bool,
    typer.Option("--check", help="Load and check everything, say what would be served, and leave."),
]


@app.command()
def serve(  # noqa: PLR0913  # every flag is a parameter
    *,
    releases: Releases = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    metrics_port: MetricsPort = None,
    insecure: Insecure = None,
    device: Device = None,
    milvus_uri: MilvusUri = None,
    config: Config = None,
    port_file: PortFile = None,
    check: Check = False,
) -> None:
    """Serve the release that LATEST names, and follow it, until SIGTERM or Ctrl-C.

    Every limit, TLS and the tokens of callers are settings: see docs/serving.md.

    \b
    Example:
      recguru serve --releases releases --port 50051 --workers 2
      recguru serve --releases releases --config serve.toml --check
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    # Before numpy, torch and faiss are imported: each reads these once. Two runtimes with several
    # threads each would fight for the cores; more cores are used by more processes.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    from indexer.options import milvus_settings
    from server.config import ServeSettings

    milvus = milvus_settings(config, milvus_uri)
    flags = {
        "releases": releases,
        "host": host,
        "port": port,
        "workers": workers,
        "metrics_port": metrics_port,
        "insecure": insecure,
        "device": device,
        "milvus": milvus.model_dump(exclude_unset=True),
    }
    settings = load_settings(ServeSettings, table="serve", config=config, flags=flags)
    if settings.releases is None:
        raise typer.BadParameter("name the release root", param_hint="--releases")
    if check:
        _check(settings, settings.releases)
    else:
        _serve(settings, settings.releases, port_file)


def _check(settings: "ServeSettings", releases: Path) -> None:
    from server.check import check
    from server.logs import configure

    configure(settings.log_format)
    for line in check(settings, releases):
        typer.echo(line)


def _serve(settings: "ServeSettings", releases: Path, port_file: Path | None) -> None:
    from server.signals import exit_when_told

    exit_when_told()  # the server's own handlers, which drain, come after seconds of imports
    from indexer.publish import latest
    from server.address import check_port
    from server.logs import configure
    from server.tls import check_exposure

    # What is commonly wrong is said before the seconds that the imports below take.
    configure(settings.log_format)
    check_exposure(settings)
    check_port(settings.host, settings.port)
    latest(releases)
    with _port_written(port_file) as ready:
        if settings.workers > 1:
            from server.supervisor import supervise

            asyncio.run(supervise(settings, ready=ready))
        else:
            from server import run

            asyncio.run(run.serve(settings, ready=ready))


@contextmanager
def _port_written(port_file: Path | None) -> Iterator[Callable[[int], None]]:
    """Give what writes the port into the file; the file is gone before and after."""

    def ready(port: int) -> None:
        if port_file is not None:
            write_bytes_atomically(port_file, b"%d\n" % port)

    if port_file is not None:
        check_place(port_file)
        port_file.unlink(missing_ok=True)
    try:
        yield ready
    finally:
        if port_file is not None:
            port_file.unlink(missing_ok=True)
