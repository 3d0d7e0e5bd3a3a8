"""The certificates of the port: read, checked before they are used, and read again when renewed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import BadSettingError
from model.pem import check_authorities, check_own, read_pem
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
        own, trusted = "serve.tls", settings.client_ca
        found = cls(
            certificate=read_pem(settings.certificate, owner=own),
            key=read_pem(settings.key, owner=own),
            client_ca=None if trusted is None else read_pem(trusted, owner=own),
        )
        check_own(settings.certificate, settings.key, owner=own)
        if trusted is not None:
            check_authorities(trusted, owner=f"{own}.client_ca")
        return found


class Renewal:
    """Follows the files of certificates: whoever renews them need not restart the server."""

    def __init__(self, settings: TlsSettings) -> None:
        """Follow these files, as they are now: before they are read, lest a change be missed."""
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


def _state(path: Path) -> object:
    try:
        now = path.stat()
    except OSError as error:
        return error.errno
    # The time of the last change of owner or mode too: a key may be unreadable until then.
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
