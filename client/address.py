"""The addresses of servers, as a caller writes them."""

import re

from model.errors import BadSettingError

_LISTS = ("ipv4:", "ipv6:")
_NAME = "dns:///"
_PLACE = re.compile(r"(\[[^\s\[\],/]+\]|[^\s\[\],/:]+):([0-9]{1,5})")
_LAST_PORT = 65535


def stands_for_many(address: str) -> bool:
    """Say whether an address is of several servers, which are called in turn."""
    return address.startswith((_NAME, *_LISTS))


def places_of(address: str) -> list[tuple[str, int]]:
    """Give host and port of every place that an address names, an IPv6 host without brackets.

    Args:
        address: `HOST:PORT`, an IPv6 host in brackets; `dns:///HOST:PORT`; or several of them
            with commas between, after `ipv4:` or `ipv6:`.

    Raises:
        BadSettingError: If it is no such text.
    """
    texts = [address.removeprefix(_NAME)]
    for scheme in _LISTS:
        if address.startswith(scheme):
            texts = address.removeprefix(scheme).split(",")
    return [_place(text, address) for text in texts]


def _place(text: str, address: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= _LAST_PORT:
        raise BadSettingError(f"server address {address!r} must be HOST:PORT")
    return found[1].strip("[]"), int(found[2])
