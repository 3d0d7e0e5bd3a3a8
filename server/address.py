"""Where the server listens; light, so that a port that cannot be had is known within a second."""

import ipaddress
import socket
from typing import Any

from model.errors import BadSettingError


def spelled(host: str, port: int) -> str:
    """Spell host and port as one address, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolved(host: str, port: int) -> tuple[Any, ...]:
    """Resolve where to listen, as `socket.getaddrinfo` does; the first it gives.

    Raises:
        OSError: If the host is unknown.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches the host; an unknown one is nobody's."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ipaddress.ip_address(place[0]).is_loopback for *_, place in found)


def check_port(host: str, port: int) -> None:
    """Try a port with a plain socket, which says why it cannot be had; gRPC only logs it.

    Raises:
        BadSettingError: If it cannot be had.
    """
    try:
        family, kind, protocol, _, place = resolved(host, port)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as error:
        raise taken(host, port, error) from None


def taken(host: str, port: int, error: OSError) -> BadSettingError:
    """Say that a port cannot be had, and why."""
    return BadSettingError(
        f"cannot listen on {spelled(host, port)}: {error.strerror}; choose another --host or --port"
    )
