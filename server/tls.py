"""The certificates of the port: read, checked before they are used, and read again when renewed."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import BadSettingError
from server import address
from server.config import ServeSettings, TlsSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a TLS handshake needs, as PEM."""

    certificate: bytes
    """The server's certificate and those of its issuers."""
    key: bytes
    client_ca: bytes | None
    """The authorities of the clients that are let in; None lets in any client."""

    @classmethod
    def read(cls, settings: TlsSettings) -> "Certificates | None":
        """Read and check the files that settings name; None if they name none.

        Raises:
            BadSettingError: If a file cannot be read, or is not what it is named as.
        """
        if settings.certificate is None or settings.key is None:
            return None
        found = cls(
            certificate=_read(settings.certificate),
            key=_read(settings.key),
            client_ca=None if settings.client_ca is None else _read(settings.client_ca),
        )
        _check(settings.certificate, settings.key, settings.client_ca)
        return found


class Renewal:
    """Follows the files of certificates: whoever renews them need not restart the server."""

    def __init__(self, settings: TlsSettings) -> None:
        """Follow these files, as they are now."""
        self._settings = settings
        self._seen = self._states()

    def renewed(self) -> Certificates | None:
        """Give the certificates if a file has changed since the last time and all are good.

        What cannot be used is logged and left; the ones before go on serving.
        """
        states = self._states()
        if states == self._seen:
            return None
        self._seen = states
        try:
            found = Certificates.read(self._settings)
        except BadSettingError as error:
            log.warning("renewed certificates refused, the ones before serve on: %s", error)
            return None
        log.info("certificates renewed")
        return found

    def _states(self) -> Sequence[object]:
        named = (self._settings.certificate, self._settings.key, self._settings.client_ca)
        return [_state(path) for path in named if path is not None]


def check_exposure(settings: ServeSettings) -> None:
    """Refuse to be reached from other machines without encryption, unless that is meant.

    Raises:
        BadSettingError: If it is not, or the certificates cannot be used.
    """
    encrypted = Certificates.read(settings.tls) is not None
    if encrypted or address.is_loopback(settings.host):
        return
    place = address.spelled(settings.host, settings.port)
    if not settings.insecure:
        raise BadSettingError(
            f"listening on {place} without TLS lets the network read and change every call: set "
            "serve.tls.certificate and serve.tls.key, or say --insecure where something else "
            "encrypts"
        )
    log.warning("NOT ENCRYPTED: %s is open to the network, as --insecure says", place)
    if settings.tokens.wanted:
        log.warning("NOT ENCRYPTED: the tokens of callers can be read on their way to %s", place)


def _check(certificate: Path, key: Path, client_ca: Path | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise BadSettingError(
            f"serve.tls: {certificate} and {key} are no certificate and its unencrypted key, both "
            f"PEM ({_reason(error)})"
        ) from None
    if client_ca is None:
        return
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise BadSettingError(
            f"serve.tls.client_ca: {client_ca} holds no certificate in PEM ({_reason(error)})"
        ) from None


def _no_password() -> str:
    raise ValueError("the key needs a password")


def _reason(error: Exception) -> str:
    reason: str | None = getattr(error, "reason", None)
    return reason or str(error)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSettingError(f"serve.tls: {path}: {error.strerror}") from None


def _state(path: Path) -> object:
    try:
        now = path.stat()
    except OSError as error:
        return error.errno
    return now.st_ino, now.st_size, now.st_mtime_ns
