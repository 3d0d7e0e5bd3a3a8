"""One call from its first try to its answer or failure: deadline, retries, what a status means."""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import grpc
import numpy as np

from client.address import places_of, stands_for_many
from client.settings import ClientSettings, TlsSettings
from client.wire import SERVICE
from model.errors import (
    BadSettingError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RecGuruError,
    RemoteError,
    UnauthenticatedError,
)
from model.pem import check_authorities, check_own, read_pem

A = TypeVar("A")
Q = TypeVar("Q")

_IN_TURN: Mapping[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
_THOSE_THAT_SERVE: Mapping[str, object] = {"healthCheckConfig": {"serviceName": SERVICE}}
_KEY = "recguru-key"
_RELEASE = "recguru-release"
_SOUND_KEY = re.compile(r"[!-~]{1,512}")
_RETRY_AFTER_MS = "grpc-retry-pushback-ms"

_SPREAD = 0.2
_SHORTEST_S = 0.001
"""Least time a try is given: gRPC refuses a negative one with a text of its own."""
_LONGEST_S = 86400.0
"""Most time a try is given: gRPC takes a time that its clock cannot say for one that has passed."""
_LOOK_S = 1.0
"""Most time to find out whether anything answers at all: it may take a new connection, which with
TLS and over a distance is not there within the first wait between two tries."""
_TOO_LARGE_FOR_SERVER = "SERVER: Received message larger than max"
_TOO_LARGE_FOR_CLIENT = "CLIENT: Received message larger than max"
_FAILURES: dict[grpc.StatusCode, type[RecGuruError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.CANCELLED: OverloadedError,  # nobody here cancels: the server drops calls so
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
}
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""Statuses of calls that no server has begun to answer; the next try may find one that does."""


def open_channel(
    address: str, settings: ClientSettings, *, serving_only: bool = True
) -> grpc.Channel:
    """Prepare a connection, which the first call opens.

    Args:
        address: `HOST:PORT`, an IPv6 host in brackets. `dns:///HOST:PORT` stands for every server
            of that name, `ipv4:HOST:PORT,HOST:PORT` for those: they are called in turn.
        settings: How the connection is secured and how soon it is tried again.
        serving_only: Whether of several servers those are left out whose health does not say
            SERVING. Where none says so, no call gets through, not even one that asks for health.

    Raises:
        BadSettingError: If the address is no such text, or a file of the TLS settings cannot be
            read.
    """
    places_of(address)
    first_ms, most_ms = (int(1000 * s) for s in (settings.first_backoff_s, settings.max_backoff_s))
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.enable_retries", 0),  # `Caller` retries; two layers would multiply the tries
        ("grpc.use_local_subchannel_pool", 1),  # no other channel's waits before reconnecting
        ("grpc.initial_reconnect_backoff_ms", min(first_ms, most_ms)),
        ("grpc.max_reconnect_backoff_ms", most_ms),
    ]
    if stands_for_many(address):
        config = {**_IN_TURN, **(_THOSE_THAT_SERVE if serving_only else {})}
        options.append(("grpc.service_config", json.dumps(config)))
    if not settings.tls.wanted:
        return grpc.insecure_channel(address, options)
    if settings.tls.authority:
        options.append(("grpc.ssl_target_name_override", settings.tls.authority))
    return grpc.secure_channel(address, _credentials(settings.tls), options)


def backoffs(settings: ClientSettings, generator: np.random.Generator) -> Iterator[float]:
    """Give the seconds to wait before each further try, varied lest clients march in step."""
    wait_s = settings.first_backoff_s
    for _ in range(settings.attempts - 1):
        yield min(wait_s, settings.max_backoff_s) * generator.uniform(1 - _SPREAD, 1 + _SPREAD)
        wait_s *= 2


class Caller:
    """Makes calls to one server; gRPC's exceptions end here."""

    def __init__(
        self,
        address: str,
        settings: ClientSettings,
        *,
        answers: Callable[[float], bool],
    ) -> None:
        """Make a caller that has called nothing yet.

        Args:
            address: The server's, for messages.
            settings: How often and how long to try.
            answers: Asked with some seconds when a call found the server unavailable: does
                anything there answer at all? It tells a server that is not ready from none.
        """
        self._address = address
        self._settings = settings
        self._answers = answers
        self._authorization = _authorization(settings)
        named = settings.release
        self._metadata = self._authorization + (() if named is None else ((_RELEASE, named),))
        self._generator = np.random.default_rng()
        self._closed = threading.Event()

    def close(self) -> None:
        """Let calls fail from now on, those that wait for their next try at once."""
        self._closed.set()

    def call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Q, A]",
        request: Q,
        *,
        name: str,
        deadline_s: float | None,
        key: str | None = None,
    ) -> A:
        """Make one call, again while the server is unavailable and time and tries are left.

        Args:
            method: The stub's method.
            request: Its message.
            name: The method's name, for messages.
            deadline_s: Seconds in all, a day for a try at most; None takes that of the settings.
            key: Whom the call is for; of one key all are answered by one release.

        Raises:
            InvalidInputError: If the server refused the request, it is too large, or the key is not
                1 to 512 printable ASCII characters without spaces.
            NotFoundError: If the request names something the server does not have.
            OverloadedError: If the server holds as many calls as it may, to the last try.
            UnauthenticatedError: If the server knows no such token, or wants one.
            ForbiddenError: If the token is not good for this call.
            NotReadyError: If the server is there but has no release loaded, or was just told to
                stop.
            RemoteError: If no server answers (one that drains takes no new connections), or not in
                time, or it failed, or `close` was called.
        """
        within_s = self._settings.deadline_s if deadline_s is None else deadline_s
        end_s = time.monotonic() + within_s
        waits = backoffs(self._settings, self._generator)
        metadata = self._metadata if key is None else (*self._metadata, (_KEY, _checked(key)))
        tries = 0
        while True:
            tries += 1
            try:
                return method(
                    request,
                    timeout=_left_s(end_s, most_s=_LONGEST_S),
                    metadata=metadata,
                )
            except ValueError:  # the channel is closed
                raise self._was_closed(name) from None
            except grpc.RpcError as error:
                code, details, hint_s = error.code(), error.details() or "", _hint_s(error)
            if self._closed.is_set():
                raise self._was_closed(name)
            again = code in _PASSING or hint_s is not None
            wait_s = max(next(waits, math.inf), hint_s or 0.0) if again else math.inf
            if not time.monotonic() + wait_s < end_s:  # nor if it is no number
                if code is grpc.StatusCode.UNAVAILABLE:
                    raise self._unavailable(details, name, tries, end_s)
                raise self._failure(code, details, name, within_s)
            self._closed.wait(wait_s)

    def _was_closed(self, name: str) -> RemoteError:
        return RemoteError(f"the client of {self._address} was closed; {name} has no answer")

    def _failure(
        self, code: grpc.StatusCode, details: str, name: str, within_s: float
    ) -> RecGuruError:
        server = self._address
        kind = _FAILURES.get(code, RemoteError)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            details = f"{server} did not answer {name} within {within_s:g} s"
        elif code is grpc.StatusCode.CANCELLED:
            details = f"{server} has more calls than it can look at; it dropped {name}"
        elif code is grpc.StatusCode.UNAUTHENTICATED:
            what = "does not know this token" if self._authorization else "asks for a token"
            details = f"{server} {what}; see client.token_file"
        elif _TOO_LARGE_FOR_SERVER in details:
            kind = InvalidInputError
            details = f"{name}: the request is larger than {server} accepts"
        elif _TOO_LARGE_FOR_CLIENT in details:
            kind = RemoteError
            most = self._settings.max_message_bytes
            details = f"the answer to {name} is larger than {most} bytes; raise max_message_bytes"
        elif code not in _FAILURES:
            details = f"{server} failed to answer {name}: {code.name}: {details}"
        return kind(details)

    def _unavailable(self, details: str, name: str, tries: int, end_s: float) -> RecGuruError:
        if self._answers(_left_s(end_s, most_s=_LOOK_S)):
            return NotReadyError(f"{self._address} is not ready to answer {name}: {details}")
        times = "once" if tries == 1 else f"{tries} times"
        return RemoteError(
            f"no server answers at {self._address}, tried {times}; is it running? ({details})"
        )


def _left_s(end_s: float, *, most_s: float) -> float:
    """Give the seconds until then by the steady clock, as many as may be given to one call."""
    return min(max(_SHORTEST_S, end_s - time.monotonic()), most_s)


def _authorization(settings: ClientSettings) -> tuple[tuple[str, str], ...]:
    """Give the metadata that says who calls: nothing where no token is set.

    Raises:
        BadSettingError: If there is no token in the file that should hold it.
    """
    if settings.token is not None:
        token = settings.token.get_secret_value()
    elif settings.token_file is not None:
        try:
            token = settings.token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise BadSettingError(f"token file {settings.token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadSettingError(f"token file {settings.token_file} is not ASCII") from None
    else:
        return ()
    if not (token.isascii() and token.isprintable() and token):
        raise BadSettingError("the token is empty or holds characters that no token has")
    return (("authorization", f"Bearer {token}"),)


def _checked(key: str) -> str:
    if not _SOUND_KEY.fullmatch(key):
        raise InvalidInputError("a key is 1 to 512 printable ASCII characters without spaces")
    return key


def _hint_s(error: grpc.RpcError) -> float | None:
    """Read when a full server says to come again, in seconds; None if it does not."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    for each in error.trailing_metadata() or ():
        if each.key == _RETRY_AFTER_MS and str(each.value).isdecimal():
            return int(each.value) / 1000
    return None


def _credentials(tls: TlsSettings) -> grpc.ChannelCredentials:
    owner = "client.tls"
    authorities, certificate, key = (
        None if path is None else read_pem(path, owner=owner)
        for path in (tls.ca, tls.certificate, tls.key)
    )
    if tls.ca is not None:
        check_authorities(tls.ca, owner=f"{owner}.ca")
    if tls.certificate is not None and tls.key is not None:
        check_own(tls.certificate, tls.key, owner=owner)
    return grpc.ssl_channel_credentials(
        root_certificates=authorities, private_key=key, certificate_chain=certificate
    )
