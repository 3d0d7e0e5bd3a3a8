"""`recguru doctor`: the installation, or a running server."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from client.connection_flags import (
    Config,
    Tls,
    TlsAuthority,
    TlsCa,
    TlsCertificate,
    TlsKey,
    TokenFile,
    client_settings,
)
from model.console import make_app, print_json
from model.findings import Finding


def doctor_app(installation: Callable[[], Sequence[Finding]]) -> typer.Typer:
    """Make the command; what looks at the installation is given, for this package knows little."""
    app = make_app("Examine the installation, or a running server.")

    @app.command()
    def doctor(  # noqa: PLR0913  # every flag is a parameter
        *,
        server: Annotated[
            str | None, typer.Option(metavar="HOST:PORT", help="Examine this server instead.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        config: Config = None,
        tls: Tls = False,
        tls_ca: TlsCa = None,
        tls_certificate: TlsCertificate = None,
        tls_key: TlsKey = None,
        tls_authority: TlsAuthority = None,
        token_file: TokenFile = None,
    ) -> None:
        """Say what is installed: Python, libraries, which FAISS, GPU, threads.

        With --server: whether it serves, its certificate, its release, an answer in every domain.
        What is broken is named with its fix, and the command then exits with 1.

        \b
        Example:
          recguru doctor
          recguru doctor --server localhost:50051
        """  # noqa: D301  # the backspace keeps the lines of the example apart
        if server is None:
            _print(installation(), as_json=as_json)
            return
        from client.doctor import examine_server

        files = {"ca": tls_ca, "certificate": tls_certificate, "key": tls_key}
        settings = client_settings(config, files, tls_authority, token_file, tls=tls)
        _print(examine_server(server, settings), as_json=as_json)

    return app


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print_json([{**asdict(finding), "broken": finding.broken} for finding in findings])
    else:
        for finding in findings:
            state = "BROKEN" if finding.broken else "ok"
            fix = f"; to fix it: {finding.fix}" if finding.broken else ""
            typer.echo(f"{state:<7}{finding.name}: {finding.value}{fix}")
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)
