"""What is known of the call that a task of the event loop answers: for logs, metrics and traces."""

import itertools
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, cast

Metadata = Sequence[tuple[str, str | bytes]]

REQUEST_ID = "x-request-id"
"""Metadata: the caller's name for a call, or ours; it comes back and stands in the log."""

KEY = "recguru-key"
"""Metadata: whom a call is for, as the caller tells users apart. Calls of one key get their answers
from one release while another is tried out; it is hashed, and neither kept nor logged."""

RELEASE = "recguru-release"
"""Metadata: the version that is to answer, one of those loaded."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_OURS = secrets.token_hex(4)
_NUMBERS = itertools.count(1)


class Lane(Enum):
    """Which of two releases side by side answers."""

    STABLE = "stable"
    """The one that `LATEST` names."""
    CANARY = "canary"
    """The one that some calls try out."""


@dataclass(slots=True)
class Call:
    """One call."""

    metadata: Metadata
    """What came with it."""
    request_id: str
    lane: Lane = Lane.STABLE


class _HasMetadata(Protocol):
    def invocation_metadata(self) -> object: ...


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call | None:
    """Return the call that this task answers, if it answers one."""
    return _CALL.get()


@contextmanager
def begun(context: _HasMetadata) -> Iterator[Call]:
    """Let a call be the current one while the block lasts."""
    metadata = cast("Metadata", context.invocation_metadata() or ())
    given = text_of(metadata, REQUEST_ID) or ""
    request_id = given if _REQUEST_ID.fullmatch(given) else _new_id()
    call = Call(metadata, request_id)
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


def _new_id() -> str:
    """Name a call like no other: the process at random, the call by number.

    Random names for all calls would ask the operating system each time, a twentieth of a call.
    """
    return f"{_OURS}{next(_NUMBERS):08x}"


def text_of(metadata: Metadata, name: str) -> str | None:
    """Return what a call's metadata says under a name, if it is text; the first where several."""
    for key, value in metadata:
        if key == name:
            return value if isinstance(value, str) else None
    return None
