"""What `recguru serve` would do, without doing it."""

from collections.abc import Iterator
from pathlib import Path

from indexer.publish import canary, latest
from server import address
from server.config import ServeSettings
from server.engine import Engine
from server.run import make_tracing
from server.tls import check_exposure


def check(settings: ServeSettings, releases: Path) -> Iterator[str]:
    """Check settings, certificates and releases, and answer a probe -> what would be served.

    The ports are left alone: another server may be using them until this one takes over. Only
    whether the host is an address of this machine is tried, at some other port.

    Raises:
        RecGuruError: What keeps the server from starting, or what it would refuse: a canary.
    """
    check_exposure(settings)
    address.check_port(settings.host, 0)
    if settings.traces:
        make_tracing().close()
    tls, tokens = settings.tls, settings.tokens
    encryption = "no TLS" if tls.certificate is None else f"TLS by {tls.certificate}"
    clients = "" if tls.client_ca is None else f", clients certified by {tls.client_ca}"
    yield f"address: {address.spelled(settings.host, settings.port)}, {encryption}{clients}"
    callers, admins = len(tokens.callers), len(tokens.admins)
    yield f"tokens: {callers} of callers, {admins} of admins" if tokens.wanted else "tokens: none"
    yield f"LATEST: {_probed(latest(releases), settings)}"
    if (tried := canary(releases)) is not None:
        yield f"CANARY: {tried.share:.4g} to {_probed(releases / tried.version, settings)}"


def _probed(folder: Path, settings: ServeSettings) -> str:
    engine = Engine.load(folder, device=settings.device, gpus=settings.gpus, milvus=settings.milvus)
    engine.probe()
    domains = ", ".join(f"{domain.name} ({domain.items:,} items)" for domain in engine.info.domains)
    return f"{engine.version.release}, model {engine.version.model:.12s}, {domains}"
