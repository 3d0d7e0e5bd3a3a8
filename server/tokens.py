"""Who may call what: bearer tokens, known by their digests alone."""

import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum
from typing import cast

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from model.errors import ForbiddenError, UnauthenticatedError
from server.call import RELEASE, Metadata, text_of
from server.config import TokenSettings
from server.guard import Guard, Handler, Message
from server.interceptors import Find

HEADER = "authorization"
_SCHEME = "bearer "

_OPEN = f"/{health.SERVICE_NAME}/"
"""Health has nothing to hide, and probes carry no tokens."""
_FOR_ADMINS = tuple(
    f"/{name}/"
    for name in (reflection.SERVICE_NAME, reflection.SERVICE_NAME.replace("v1alpha", "v1"))
)


class Scope(Enum):
    """What a token is good for."""

    CALLER = "caller"
    """The calls of the service."""
    ADMIN = "admin"
    """Those, reflection, and choosing the release that answers."""


class Tokens:
    """The tokens that are known."""

    def __init__(self, *, callers: Sequence[str], admins: Sequence[str]) -> None:
        """Know tokens by their SHA-256, in hexadecimal."""
        self._scopes = [(bytes.fromhex(digest), Scope.CALLER) for digest in callers]
        self._scopes += [(bytes.fromhex(digest), Scope.ADMIN) for digest in admins]

    def scope(self, metadata: Metadata) -> Scope | None:
        """Find out what the token in a call's metadata is good for; None if nothing.

        It takes as long for a wrong token as for any right one.
        """
        digest = hashlib.sha256(_token(metadata)).digest()
        found = None
        for known, scope in self._scopes:
            if hmac.compare_digest(known, digest):
                found = scope
        return found


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # see Handler
    """Refuses calls without a token that is good for them, before anything reads their message."""

    def __init__(self, tokens: Tokens, guard: Guard) -> None:
        self._tokens = tokens
        self._guard = guard

    @classmethod
    def of(cls, settings: TokenSettings, guard: Guard) -> "list[TokenInterceptor]":
        """Make what settings ask for: nothing where they name no token."""
        if not settings.wanted:
            return []
        tokens = Tokens(callers=settings.callers, admins=settings.admins)
        return [cls(tokens, guard)]

    async def intercept_service(  # type: ignore[override]  # an unknown method has no handler
        self, continuation: Find, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Give the handler of a call, or one that refuses it."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_OPEN):
            return handler
        metadata = cast("Metadata", handler_call_details.invocation_metadata or ())
        scope = self._tokens.scope(metadata)
        if scope is Scope.ADMIN:
            return handler
        if scope is None:
            return self._refusal(method, UnauthenticatedError("the call needs a token known here"))
        if method.startswith(_FOR_ADMINS) or text_of(metadata, RELEASE) is not None:
            return self._refusal(method, ForbiddenError("the token is good for other calls only"))
        return handler

    def _refusal(self, method: str, error: Exception) -> Handler:
        async def refuse(*_: object) -> Message:
            raise error

        handler: Handler = grpc.unary_unary_rpc_method_handler(refuse)
        return self._guard.around(handler, method)


def _token(metadata: Metadata) -> bytes:
    """Give the token that a call carries; empty if it carries none."""
    value = text_of(metadata, HEADER) or ""
    return value[len(_SCHEME) :].strip().encode() if value.lower().startswith(_SCHEME) else b""
