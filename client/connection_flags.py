"""The flags of every command that calls a server, and the settings they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.settings import ClientSettings

Config = Annotated[
    Path | None,
    typer.Option(help="TOML file; its table [client] holds deadline, retries and TLS."),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt, with the authorities that gRPC ships.")]
TlsCa = Annotated[
    Path | None, typer.Option(help="Encrypt; trust the authorities in this PEM file alone.")
]
TlsCertificate = Annotated[
    Path | None, typer.Option(help="PEM file of this client's certificate; needs --tls-key.")
]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file of that certificate's private key.")]
TlsAuthority = Annotated[
    str | None,
    typer.Option(help="Name in the server's certificate where it is not the host of --server."),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File that holds the token the server asks for.")
]
Release = Annotated[
    str | None,
    typer.Option(help="Version that is to answer, of those loaded: one that is being tried out."),
]


def client_settings(
    config: Path | None,
    tls_files: Mapping[str, Path | None],
    authority: str | None,
    token_file: Path | None,
    *,
    tls: bool,
    release: str | None = None,
) -> "ClientSettings":
    """Read the settings of a client, flags over file and environment.

    Args:
        config: The TOML file.
        tls_files: PEM files by their setting: `ca`, `certificate`, `key`.
        authority: Name in the server's certificate.
        token_file: File that holds the token.
        tls: Whether to encrypt where nothing else says so.
        release: Version that is to answer.

    Raises:
        BadSettingError: If a source is refused; the text says which.
    """
    from client.settings import ClientSettings  # noqa: PLC0415  # pydantic: only where it is used
    from model.settings import load_settings  # noqa: PLC0415

    encryption = {**tls_files, "authority": authority, "enabled": tls or None}
    flags = {"tls": encryption, "token_file": token_file, "release": release}
    return load_settings(ClientSettings, table="client", config=config, flags=flags)
