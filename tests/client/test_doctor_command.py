"""`recguru doctor`, of the installation and of running servers."""

import json
from pathlib import Path

import grpc
import pytest

from indexer.publish import latest
from model.data.vocabulary import StringTable
from server.engine import Engine
from server.releases import Current
from tests.authority import Authority
from tests.client.serving import free_port, server_in_thread, service_in_thread
from tests.commands import Command, Outcome

NAME = "recommender.test"


def broken(left: Outcome) -> list[str]:
    return [finding["name"] for finding in json.loads(left.output) if finding["broken"]]


def test_it_exits_with_1_where_something_in_the_installation_is_broken(
    recguru: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threads, expected in (("2", 0), ("none", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        left = recguru("doctor", "--json")
        assert left.code == expected
        assert broken(left) == ["OMP_NUM_THREADS"] * expected


def test_a_server_that_does_what_it_should_is_described(
    recguru: Command, address: str, release_root: Path
) -> None:
    left = recguru("doctor", "--server", address)

    assert left.code == 0
    lines = left.output.splitlines()
    assert lines[:2] == ["ok     health: SERVING", "ok     encryption: none"]
    assert lines[2].startswith(f"ok     release: {latest(release_root).name}, model ")
    assert [line.partition(" answers in ")[0] for line in lines[3:]] == [
        "ok     domain books: 40 items,",
        "ok     domain films: 300 items,",
    ]


def test_nobody_there_is_one_finding(recguru: Command) -> None:
    address = f"127.0.0.1:{free_port()}"

    left = recguru("doctor", "--server", address, "--json")

    assert left.code == 1
    [finding] = json.loads(left.output)
    assert finding["name"] == "health"
    assert finding["value"].startswith(f"no server answers at {address}, tried once")


@pytest.mark.parametrize("kind", ["{}", "dns:///{}", "ipv4:{}"])
def test_a_server_that_is_not_ready_is_told_from_one_that_is_gone(
    recguru: Command, kind: str
) -> None:
    with service_in_thread(Current(), serving=False) as address:
        left = recguru("doctor", "--server", kind.format(address))

    assert left.code == 1
    assert left.output == (
        "BROKEN health: NOT_SERVING; to fix it: wait: it loads its first release, or it is "
        "stopping\n"
    )


def test_a_server_that_serves_and_cannot_answer_is_found_out(
    recguru: Command, release_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(latest(release_root), device="cpu")
    current = Current()
    current.swap(engine)
    monkeypatch.setattr(StringTable, "take", None)  # ids of an answer cannot be looked up
    with service_in_thread(current) as address:
        left = recguru("doctor", "--server", address, "--json")

    assert left.code == 1
    assert broken(left) == ["domain books", "domain films"]


def test_a_missing_token_is_found_out(recguru: Command, release_root: Path) -> None:
    tokens = {"callers": ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]}
    with server_in_thread(release_root, tokens=tokens) as server:
        left = recguru("doctor", "--server", f"127.0.0.1:{server.port}", "--json")

    assert left.code == 1
    assert broken(left) == ["release"]
    assert "asks for a token" in left.output


@pytest.mark.parametrize(("days", "code", "left_days"), [(90, 0, 89), (10, 1, 9)])
def test_a_certificate_that_ends_soon_is_found_out(
    recguru: Command, release_root: Path, tmp_path: Path, days: int, code: int, left_days: int
) -> None:
    authority = Authority.make(tmp_path / "authority")
    certificate, key = authority.sign(NAME, days=days)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    current = Current()
    current.swap(Engine.load(latest(release_root), device="cpu"))
    with service_in_thread(current, credentials=credentials) as address:
        flags = ("--tls-ca", authority.ca, "--tls-authority", NAME)
        left = recguru("doctor", "--server", address, *flags)

    assert left.code == code
    [line] = [line for line in left.output.splitlines() if "encryption" in line]
    assert f" UTC, {left_days} days" in line
    assert line.endswith("; to fix it: renew it") == bool(code)


def test_a_server_trusted_by_its_own_certificate_has_its_end_watched(
    recguru: Command, release_root: Path, tmp_path: Path
) -> None:
    certificate, key = Authority.make(tmp_path / "authority").sign(NAME, days=90)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    current = Current()
    current.swap(Engine.load(latest(release_root), device="cpu"))
    with service_in_thread(current, credentials=credentials) as address:
        flags = ("--tls-ca", certificate, "--tls-authority", NAME)
        left = recguru("doctor", "--server", address, *flags)

    assert left.code == 0
    assert "ok     encryption: certificate good until " in left.output


@pytest.mark.parametrize("kind", ["dns:///localhost:{}", "ipv4:127.0.0.1:{0},127.0.0.1:{0}"])
def test_the_certificate_is_found_behind_every_kind_of_address(
    recguru: Command, release_root: Path, tmp_path: Path, kind: str
) -> None:
    authority = Authority.make(tmp_path / "authority")
    certificate, key = authority.sign(NAME, days=90)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    current = Current()
    current.swap(Engine.load(latest(release_root), device="cpu"))
    with service_in_thread(current, credentials=credentials) as address:
        flags = ("--tls-ca", authority.ca, "--tls-authority", NAME)
        several = kind.format(address.rpartition(":")[2])
        left = recguru("doctor", "--server", several, *flags)

    assert left.code == 0
    assert "ok     encryption: certificate good until " in left.output
