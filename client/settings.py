"""How a client reaches a server; read from `[client]` by the commands."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from model.settings import Settings, secret_error


class TlsSettings(Settings):
    """Encryption of the connection; naming any file or the authority asks for it."""

    enabled: bool = False
    """Whether to encrypt although nothing else is set here, with the authorities gRPC ships."""

    ca: Path | None = None
    """PEM file of the authorities to trust in place of those."""

    certificate: Path | None = None
    """PEM file of this client's certificate, for servers that ask for one; needs `key`."""

    key: Path | None = None
    """PEM file of the private key that belongs to `certificate`."""

    authority: str | None = None
    """Name to find in the server's certificate where it is not the host of the address."""

    @property
    def wanted(self) -> bool:
        """Whether the connection is to be encrypted."""
        return self.enabled or bool(self.ca or self.certificate or self.authority)

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both or neither")
        return self


class ClientSettings(Settings):
    """How long a call may take, how often it is tried, and how the connection is secured."""

    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds a call may take, every try and the waits between them included."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """Tries of a call while the server is unavailable, or full and says when to come again; 1 never
    tries again. Every other failure ends the call at once: the same request would fail the same
    way."""

    first_backoff_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """Seconds to wait before the second try, varied by a fifth; later waits double."""

    max_backoff_s: Annotated[float, Field(gt=0, le=600)] = 2.0
    """Longest wait between two tries, in seconds, before it is varied."""

    max_message_bytes: Annotated[int, Field(ge=1024, le=2**31 - 1)] = 64 * 2**20
    """Largest answer that is accepted: room for 256 users with 1,000 items of 200 bytes each."""

    token: SecretStr | None = None
    """Bearer token for servers that ask for one. Best from the environment or `token_file`."""

    token_file: Path | None = None
    """File that holds the token, in place of `token`; spaces and line ends around it do not count.
    It is read when the client is made."""

    release: Annotated[str, Field(pattern=r"^[!-~]{1,512}$")] | None = None
    """Version that is to answer, of those the server has loaded; for a look at one that is being
    tried out. Where tokens are asked for it takes an admin's."""

    tls: TlsSettings = TlsSettings()
    """Encryption; off unless something in it is set."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise secret_error("token and token_file exclude each other; give one")
        return self
