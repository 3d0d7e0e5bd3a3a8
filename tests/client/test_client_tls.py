"""Encryption, with certificates made for the test and the real service behind them."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client.client import RecommenderClient
from client.settings import ClientSettings, TlsSettings
from indexer.publish import latest
from model.errors import BadSettingError, NotReadyError, RemoteError
from model.settings import load_settings
from server.engine import Engine
from server.releases import Current
from tests.authority import Authority
from tests.client.serving import service_in_thread
from tests.commands import Command

SERVER_NAME = "recommender.test"


@pytest.fixture(scope="module")
def secured(release_root: Path, authority: Authority) -> Iterator[str]:
    """Serve with a certificate for `SERVER_NAME`, to clients that have one themselves."""
    current = Current()
    current.swap(Engine.load(latest(release_root), device="cpu"))
    certificate, key = authority.sign(SERVER_NAME)
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=authority.ca.read_bytes(),
        require_client_auth=True,
    )
    with service_in_thread(current, credentials=credentials) as address:
        yield address


def connect(address: str, **tls: object) -> RecommenderClient:
    settings = ClientSettings(attempts=2, first_backoff_s=0.05, tls=TlsSettings.model_validate(tls))
    return RecommenderClient(address, settings)


def test_authority_certificate_and_name_together_open_the_connection(
    secured: str, authority: Authority
) -> None:
    certificate, key = authority.sign("a-client")

    with connect(
        secured, ca=authority.ca, certificate=certificate, key=key, authority=SERVER_NAME
    ) as client:
        assert client.get_release().dimension == 16


def test_the_flags_of_a_command_open_the_connection(
    recguru: Command, secured: str, authority: Authority
) -> None:
    certificate, key = authority.sign("a-client")

    done = recguru(
        "recommend", "--server", secured, "--domain", "books", "--tls-ca", authority.ca,
        "--tls-certificate", certificate, "--tls-key", key, "--tls-authority", SERVER_NAME,
    )  # fmt: skip

    assert done.code == 0, done.errors
    assert "basis POPULARITY" in done.output


def test_several_servers_that_are_not_ready_are_told_from_none_encrypted_too(
    authority: Authority,
) -> None:
    certificate, key = authority.sign(SERVER_NAME)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])

    with (
        service_in_thread(Current(), credentials=credentials, serving=False) as address,
        connect(f"ipv4:{address}", ca=authority.ca, authority=SERVER_NAME) as client,
    ):
        assert not client.is_serving()
        with pytest.raises(NotReadyError):
            client.get_release()


def test_a_server_that_a_stranger_vouches_for_is_not_trusted(
    secured: str, authority: Authority, stranger: Authority
) -> None:
    certificate, key = authority.sign("a-client")

    with (
        connect(
            secured, ca=stranger.ca, certificate=certificate, key=key, authority=SERVER_NAME
        ) as client,
        pytest.raises(RemoteError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get_release()


def test_a_certificate_for_another_name_is_not_trusted(secured: str, authority: Authority) -> None:
    certificate, key = authority.sign("a-client")

    with (
        connect(
            secured, ca=authority.ca, certificate=certificate, key=key, authority="other.test"
        ) as client,
        pytest.raises(RemoteError, match="Hostname Verification Check failed"),
    ):
        client.get_release()


def test_a_client_without_certificate_is_turned_away(secured: str, authority: Authority) -> None:
    with (
        connect(secured, ca=authority.ca, authority=SERVER_NAME) as client,
        pytest.raises(RemoteError, match=f"^no server answers at {secured}, tried 2 times"),
    ):
        client.get_release()


def test_a_plain_connection_to_an_encrypted_port_fails(secured: str) -> None:
    with connect(secured) as client, pytest.raises(RemoteError, match="no server answers"):
        client.get_release()


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(BadSettingError) as refused:
        load_settings(ClientSettings, table="client", flags={"tls": {"certificate": "mine.pem"}})

    assert str(refused.value).startswith(
        "setting client.tls: certificate and key go together; give both or neither"
    )


def test_a_tls_file_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"

    with pytest.raises(BadSettingError) as refused:
        connect("localhost:1", ca=missing)

    assert str(refused.value) == f"client.tls: {missing}: No such file or directory"


def test_tls_files_that_are_not_what_they_are_named_as_are_named(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.sign("a-client")
    _, other_key = authority.sign("another-client")
    text = tmp_path / "notes.txt"
    text.write_text("no certificate\n")
    for files, message in (
        ({"ca": text}, f"client.tls.ca: {text} holds no certificate in PEM"),
        (
            {"ca": authority.ca, "certificate": text, "key": key},
            f"client.tls: {text} and {key} are no certificate and its unencrypted key",
        ),
        (
            {"ca": authority.ca, "certificate": certificate, "key": other_key},
            f"client.tls: {certificate} and {other_key} are no certificate and its unencrypted key",
        ),
    ):
        with pytest.raises(BadSettingError) as refused:
            connect("localhost:1", **files)
        assert str(refused.value).startswith(message)
