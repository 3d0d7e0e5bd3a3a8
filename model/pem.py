"""Files of a TLS handshake, in PEM: read, and found out to be no such thing before they are used.

A handshake that fails says little of why, and the side that connects takes it for no server at all.
"""

import ssl
from pathlib import Path

from model.errors import BadSettingError


def read_pem(path: Path, *, owner: str) -> bytes:
    """Read a file.

    Args:
        path: The file.
        owner: The setting that names it, for the message.

    Raises:
        BadSettingError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSettingError(f"{owner}: {path}: {error.strerror}") from None


def check_own(certificate: Path, key: Path, *, owner: str) -> None:
    """Make sure that files hold a certificate and the key that belongs to it.

    Raises:
        BadSettingError: If they do not, or the key has a password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise BadSettingError(
            f"{owner}: {certificate} and {key} are no certificate and its unencrypted key, both "
            f"PEM ({_reason(error)})"
        ) from None


def check_authorities(path: Path, *, owner: str) -> None:
    """Make sure that a file holds certificates to trust.

    Raises:
        BadSettingError: If it does not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise BadSettingError(
            f"{owner}: {path} holds no certificate in PEM ({_reason(error)})"
        ) from None


def _no_password() -> str:
    raise ValueError("the key needs a password")


def _reason(error: Exception) -> str:
    reason: str | None = getattr(error, "reason", None)
    return reason or str(error)
