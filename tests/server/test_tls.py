"""Who is not let in to an encrypted port is refused in the handshake: no handler hears of it."""

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from prometheus_client import generate_latest
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from model.errors import BadSettingError
from model.settings import load_settings
from server.config import ServeSettings, TlsSettings
from server.run import Server
from server.tls import Certificates, Renewal
from tests.authority import Authority
from tests.server.processes import EXIT_S, failure, port_of, process
from tests.server.running import WAIT_S, recommend, serving, settings_of

NAME = "recommender.test"
EVERYWHERE = "0.0.0.0"  # noqa: S104  # what is to be refused
REQUEST = recommend("books", {})


@dataclass(frozen=True, slots=True)
class Party:
    """One side's key and certificate, and whom it trusts."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Give what a channel of this side needs."""
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(),
            None if self.key is None else self.key.read_bytes(),
            None if self.certificate is None else self.certificate.read_bytes(),
        )


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Mapping[str, Path]:
    """Name a server's files, which ask clients for a certificate of the authority."""
    certificate, key = authority.sign(NAME)
    return {"certificate": certificate, "key": key, "client_ca": authority.ca}


@pytest.fixture(scope="module")
def parties(authority: Authority, stranger: Authority) -> Mapping[str, Party]:
    own, theirs = authority.sign("client.test"), stranger.sign("client.test")
    old = authority.sign("late.test", days=-1)
    return {
        "good": Party(authority.ca, *own),
        "trusts a stranger": Party(stranger.ca, *own),
        "certified by a stranger": Party(authority.ca, *theirs),
        "expired": Party(authority.ca, *old),
        "not certified": Party(authority.ca),
    }


async def called(server: Server, party: Party | None) -> str:
    """Call once over a new connection; say how it ended."""
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    place = f"127.0.0.1:{server.port}"
    channel = (
        grpc.aio.insecure_channel(place, options)
        if party is None
        else grpc.aio.secure_channel(place, party.credentials(), options)
    )
    async with channel:
        try:
            await pb_grpc.RecommenderStub(channel).Recommend(REQUEST, timeout=WAIT_S)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


def calls_counted(server: Server) -> list[str]:
    lines = generate_latest(server.metrics.registry).decode().splitlines()
    return [line for line in lines if line.startswith("recguru_calls_total")]


@asynccontextmanager
async def serving_with(releases: Path, tls: Mapping[str, Path]) -> AsyncIterator[Server]:
    server = Server(settings_of(releases, tls=tls))
    try:
        await asyncio.wait_for(server.start(), WAIT_S)
        yield server
    finally:
        await asyncio.wait_for(server.stop(), WAIT_S)


async def test_only_clients_that_trust_and_are_trusted_reach_a_handler(
    releases: Path, secured: Mapping[str, Path], parties: Mapping[str, Party]
) -> None:
    async with serving_with(releases, secured) as server:
        refused = {name: party for name, party in parties.items() if name != "good"}
        outcomes = {name: await called(server, party) for name, party in refused.items()}
        outcomes["in plain text"] = await called(server, None)
        counted = calls_counted(server)
        good = await called(server, parties["good"])
    assert set(outcomes.values()) == {"UNAVAILABLE"}, outcomes
    assert not counted
    assert good == "OK"


async def test_a_server_whose_certificate_expired_is_not_trusted(
    releases: Path, authority: Authority, parties: Mapping[str, Party]
) -> None:
    certificate, key = authority.sign("old.test", days=-1)

    async with serving_with(releases, {"certificate": certificate, "key": key}) as server:
        assert await called(server, parties["good"]) == "UNAVAILABLE"
        assert not calls_counted(server)


async def test_without_client_ca_any_client_is_let_in_encrypted(
    releases: Path, secured: Mapping[str, Path], parties: Mapping[str, Party]
) -> None:
    own = {name: path for name, path in secured.items() if name != "client_ca"}

    async with serving_with(releases, own) as server:
        assert await called(server, parties["not certified"]) == "OK"
        assert await called(server, None) == "UNAVAILABLE"


async def test_renewed_files_serve_new_connections_and_broken_ones_are_left(
    releases: Path, tmp_path: Path, stranger: Authority, secured: Mapping[str, Path]
) -> None:
    tls = {name: tmp_path / name for name in ("certificate", "key")}
    for name, path in tls.items():
        shutil.copy(secured[name], path)
    certificate, key = stranger.sign(NAME)
    before = Party(secured["client_ca"])
    after = Party(stranger.ca)

    async with serving_with(releases, tls) as server:
        assert await called(server, after) == "UNAVAILABLE"
        tls["key"].write_bytes(key.read_bytes())  # half renewed: the certificate is the old one's
        assert await called(server, before) == "OK"
        tls["certificate"].write_bytes(certificate.read_bytes())
        assert await called(server, after) == "OK"
        assert await called(server, before) == "UNAVAILABLE"


async def test_files_that_are_renewed_while_they_are_first_read_are_read_again(
    releases: Path,
    tmp_path: Path,
    stranger: Authority,
    secured: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls = {name: tmp_path / name for name in ("certificate", "key")}
    for name, path in tls.items():
        shutil.copy(secured[name], path)
    read, renewals = Certificates.read, [stranger.sign(NAME)]

    def renewed_meanwhile(settings: TlsSettings) -> Certificates | None:
        found = read(settings)
        if renewals:
            for name, renewed in zip(("certificate", "key"), renewals.pop(), strict=True):
                shutil.copy(renewed, tls[name])
        return found

    monkeypatch.setattr(Certificates, "read", renewed_meanwhile)
    async with serving_with(releases, tls) as server:
        assert await called(server, Party(stranger.ca)) == "OK"


def test_files_whose_mode_changed_are_read_again(
    tmp_path: Path, secured: Mapping[str, Path]
) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    shutil.copy(secured["certificate"], certificate)
    shutil.copy(secured["key"], key)
    renewal = Renewal(TlsSettings(certificate=certificate, key=key))
    assert renewal.renewed() is None

    time.sleep(0.05)  # longer than between two ticks of the clock that stamps files
    key.chmod(0o640)

    assert renewal.renewed() == Certificates(certificate.read_bytes(), key.read_bytes(), None)
    assert renewal.renewed() is None


async def test_a_renewed_client_ca_lets_in_those_it_certified_and_no_others(
    releases: Path,
    tmp_path: Path,
    stranger: Authority,
    secured: Mapping[str, Path],
    parties: Mapping[str, Party],
) -> None:
    tls = {**secured, "client_ca": tmp_path / "clients.pem"}
    shutil.copy(secured["client_ca"], tls["client_ca"])
    names = ("good", "certified by a stranger")

    async with serving_with(releases, tls) as server:
        assert [await called(server, parties[name]) for name in names] == ["OK", "UNAVAILABLE"]
        tls["client_ca"].write_bytes(stranger.ca.read_bytes())
        assert [await called(server, parties[name]) for name in names] == ["UNAVAILABLE", "OK"]


async def test_connections_are_closed_at_their_age_without_a_failed_call(releases: Path) -> None:
    async with serving(releases, max_connection_age_s=1) as running:
        states = [running.channel.get_state(try_to_connect=True)]
        async with asyncio.timeout(WAIT_S):
            while states[-1] is not grpc.ChannelConnectivity.IDLE or len(states) < 3:
                await running.stub.GetRelease(pb.GetReleaseRequest())
                await running.channel.wait_for_state_change(states[-1])
                states.append(running.channel.get_state())
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states


def test_settings_that_go_together_are_asked_for_together(secured: Mapping[str, Path]) -> None:
    for given, missing in (
        ({"certificate": secured["certificate"]}, "certificate and key go together"),
        ({"client_ca": secured["client_ca"]}, "client_ca needs certificate and key"),
    ):
        with pytest.raises(BadSettingError, match=f"^setting serve.tls: .*{missing}"):
            load_settings(ServeSettings, table="serve", flags={"tls": given})


def test_files_that_are_no_certificates_are_named(
    tmp_path: Path, secured: Mapping[str, Path], stranger: Authority
) -> None:
    certificate, key, missing = secured["certificate"], secured["key"], tmp_path / "none.pem"
    _, other_key = stranger.sign(NAME)
    for given, said in (
        ((missing, key, None), f"serve.tls: {missing}: No such file or directory"),
        ((certificate, other_key, None), f"serve.tls: {certificate} and {other_key} are no cert"),
        ((key, key, None), f"serve.tls: {key} and {key} are no certificate"),
        ((certificate, key, key), f"serve.tls.client_ca: {key} holds no certificate in PEM"),
    ):
        server, own, client_ca = given
        settings = TlsSettings(certificate=server, key=own, client_ca=client_ca)
        with pytest.raises(BadSettingError) as refused:
            Certificates.read(settings)
        assert str(refused.value).startswith(said)


def test_the_network_is_served_in_plain_text_only_where_that_is_meant(releases: Path) -> None:
    code, errors = failure("--releases", releases, "--host", EVERYWHERE, "--port", "0")

    assert code == 1
    assert errors == (
        "error: listening on 0.0.0.0:0 without TLS lets the network read and change every call: "
        "set serve.tls.certificate and serve.tls.key, or say --insecure where something else "
        "encrypts\n"
    )


def test_insecure_is_said_loudly(releases: Path, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    options = ("--host", EVERYWHERE, "--port", "0", "--port-file", port_file, "--insecure")
    with process("--releases", releases, "--device", "cpu", *options) as running:
        port_of(running, port_file)
        running.terminate()
        assert running.stderr is not None
        logged = running.stderr.read()
    assert "WARNING server.tls NOT ENCRYPTED: 0.0.0.0:0 is open to the network" in logged


def test_workers_serve_encrypted_and_log_nothing_of_who_does_not_speak_tls(
    releases: Path, tmp_path: Path, secured: Mapping[str, Path], parties: Mapping[str, Party]
) -> None:
    config, port_file = tmp_path / "serve.toml", tmp_path / "port"
    files = "".join(f'{name} = "{path}"\n' for name, path in secured.items())
    config.write_text(f"[serve.tls]\n{files}", encoding="utf-8")
    options = ("--config", config, "--port", "0", "--port-file", port_file, "--workers", "2")
    with process("--releases", releases, "--device", "cpu", *options) as running:
        place = f"127.0.0.1:{port_of(running, port_file)}"
        options_of_channel = [("grpc.ssl_target_name_override", NAME)]
        credentials = parties["good"].credentials()
        with grpc.secure_channel(place, credentials, options_of_channel) as channel:
            answer = pb_grpc.RecommenderStub(channel).Recommend(REQUEST, timeout=WAIT_S)
        host, _, port = place.partition(":")
        with socket.create_connection((host, int(port)), WAIT_S) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while plain.recv(1024):
                pass
        running.terminate()
        _, logged = running.communicate(timeout=EXIT_S)
    assert answer.items
    assert [line for line in logged.splitlines() if not line.startswith("20")] == []
