"""Whether a running server does what it is there for, as a caller sees it."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from client.address import places_of
from client.client import RecommenderClient
from client.messages import Question
from client.settings import ClientSettings, TlsSettings
from model.errors import RecGuruError
from model.findings import Finding

_ALPN = ["h2"]
_SOON_DAYS = 14
_TRIES = 5


def examine_server(address: str, settings: ClientSettings) -> list[Finding]:
    """Ask a server for its health, its certificate, its release, and an answer in every domain.

    Args:
        address: As `client.calls.open_channel` takes it; of several certificates, the one that ends
            first is told.
        settings: Deadline, TLS and token; nothing is tried twice.

    Raises:
        BadSettingError: If the address is no such text, or a file of the settings cannot be read.
    """
    once = settings.model_copy(update={"attempts": 1})
    with RecommenderClient(address, once) as client:
        health = _health(client)
        if health.broken:
            return [health]
        encryption = _encryption(address, settings)
        return [health, encryption, *_answers(client)]


def _health(client: RecommenderClient) -> Finding:
    try:
        serving = client.is_serving()
    except RecGuruError as error:
        return Finding("health", str(error), "start it, or correct the address and [client.tls]")
    if serving:
        return Finding("health", "SERVING")
    return Finding("health", "NOT_SERVING", "wait: it loads its first release, or it is stopping")


def _encryption(address: str, settings: ClientSettings) -> Finding:
    if not settings.tls.wanted:
        return Finding("encryption", "none")
    try:
        until = min(
            _certificate_until(place, settings.tls, settings.deadline_s)
            for place in places_of(address)
        )
    except OSError as error:
        fix = "see how long the certificate is good by other means: its end is not watched here"
        return Finding("encryption", f"no certificate to be had: {error}", fix)
    left = (until - datetime.now(UTC)).days
    value = f"certificate good until {until:%Y-%m-%d %H:%M} UTC, {left} days"
    return Finding("encryption", value, "renew it" if left < _SOON_DAYS else "")


def _certificate_until(place: tuple[str, int], tls: TlsSettings, within_s: float) -> datetime:
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(_ALPN)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC: the server's own will do
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    with (
        socket.create_connection(place, timeout=within_s) as plain,
        context.wrap_socket(plain, server_hostname=tls.authority or place[0]) as encrypted,
    ):
        certificate = encrypted.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _answers(client: RecommenderClient) -> Iterator[Finding]:
    try:
        release = client.get_release()
    except RecGuruError as error:
        yield Finding("release", str(error), "see the server's log, and docs/serving.md")
        return
    yield Finding("release", f"{release.version.release}, model {release.version.model:.12s}")
    for domain in release.domains:
        yield _answer(client, domain.name, domain.items)


def _answer(client: RecommenderClient, domain: str, items: int) -> Finding:
    name = f"domain {domain}"
    question = Question(domain=domain, histories={}, k=1)
    times_ms = []
    try:
        for _ in range(_TRIES):
            begun_s = time.perf_counter()
            client.recommend(question)
            times_ms.append(1000 * (time.perf_counter() - begun_s))
    except RecGuruError as error:
        return Finding(name, str(error), "see the server's log, and docs/serving.md")
    return Finding(name, f"{items:,} items, answers in {min(times_ms):.1f} ms")
