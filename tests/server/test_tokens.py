"""A call without a token that is good for it ends before its message is read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest
from recguru.v1 import recommender_pb2 as pb

from client.client import RecommenderClient
from client.settings import ClientSettings
from model.errors import BadSettingError, UnauthenticatedError
from model.settings import load_settings
from server.config import ServeSettings
from tests.client.serving import server_in_thread
from tests.commands import Command
from tests.server.running import Serving, recommend, serving

REQUEST = recommend("books", {})
TOKENS = {"caller": "a-caller's-token", "newer": "the-token-after", "admin": "an-admin's-token"}


def digest(name: str) -> str:
    return hashlib.sha256(TOKENS[name].encode()).hexdigest()


def known() -> Mapping[str, object]:
    return {"callers": [digest("caller"), digest("newer")], "admins": [digest("admin")]}


def bearer(token: str, scheme: str = "Bearer") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"{scheme} {token}"),)


def unread_call(running: Serving, name: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    """Give a call whose messages are bytes."""
    return running.channel.unary_unary(
        f"/recguru.v1.Recommender/{name}", request_serializer=bytes, response_deserializer=bytes
    )


async def recommended(running: Serving, metadata: tuple[tuple[str, str], ...]) -> str:
    try:
        await running.stub.Recommend(REQUEST, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def reflected(running: Serving, metadata: tuple[tuple[str, str], ...]) -> str:
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    try:
        async for _ in stub.ServerReflectionInfo(iter([asked]), metadata=metadata):
            return "OK"
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "nothing"


async def test_a_token_opens_what_it_is_good_for_and_nothing_else(releases: Path) -> None:
    async with serving(releases, tokens=known()) as running:
        refused = {
            await recommended(running, metadata)
            for metadata in (
                (),
                bearer(""),
                bearer("a-wrong-token"),
                bearer(TOKENS["caller"] + "x"),
                bearer(digest("caller")),  # what the configuration holds is no token
                bearer(TOKENS["caller"], scheme="Basic"),
                (("authorization", TOKENS["caller"]),),
                (("token", TOKENS["caller"]),),
            )
        }
        refused.add(await reflected(running, bearer("a-wrong-token")))
        exposed = generate_latest(running.server.metrics.registry).decode()
        allowed = [await recommended(running, bearer(token)) for token in TOKENS.values()]
        allowed.append(await recommended(running, bearer(TOKENS["caller"], scheme="bearer")))
        allowed.append(await reflected(running, bearer(TOKENS["admin"])))
        forbidden = await reflected(running, bearer(TOKENS["caller"]))
    assert refused == {"UNAUTHENTICATED"}
    assert allowed == ["OK"] * 5
    assert forbidden == "PERMISSION_DENIED"
    assert (
        'recguru_calls_total{lane="stable",method="Recommend",status="UNAUTHENTICATED"} 8.0'
        in exposed
    )
    assert "recguru_answers_total{" not in exposed


async def test_a_release_is_named_by_an_admin_alone(releases: Path) -> None:
    async with serving(releases, tokens=known()) as running:
        version = running.server.current.engine.version.release
        named = (("recguru-release", version),)
        answers = [
            await recommended(running, (*bearer(TOKENS[name]), *named))
            for name in ("caller", "admin")
        ]
    assert answers == ["PERMISSION_DENIED", "OK"]


async def test_a_message_is_not_read_before_the_token_is_known(releases: Path) -> None:
    async with serving(releases, tokens=known()) as running:
        garbage = unread_call(running, "Recommend")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await garbage(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as unread:
            await garbage(b"\xff\xff\xff", metadata=bearer(TOKENS["caller"]))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "the call needs a token known here"
    assert unread.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_needs_no_token_and_an_unknown_call_is_unknown(releases: Path) -> None:
    async with serving(releases, tokens=known()) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        said = await health.Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await unread_call(running, "Nothing")(b"")
    assert said.status == health_pb2.HealthCheckResponse.SERVING
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("scope", ["callers", "admins"])
def test_a_token_in_place_of_its_digest_is_refused_and_not_shown(
    tmp_path: Path, scope: str
) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(f'[serve.tokens]\n{scope} = ["{TOKENS["admin"]}"]\n', encoding="utf-8")

    with pytest.raises(BadSettingError) as refused:
        load_settings(ServeSettings, table="serve", config=config)

    assert str(refused.value) == (
        f"setting serve.tokens.{scope}.0: give the SHA-256 of a token, 64 digits of 0-9 and a-f, "
        "not the token"
    )


def test_the_digest_of_an_empty_file_is_no_token() -> None:
    empty = hashlib.sha256(b"").hexdigest()

    with pytest.raises(BadSettingError, match="this is the SHA-256 of nothing, no token's"):
        load_settings(ServeSettings, table="serve", flags={"tokens": {"callers": [empty]}})


def test_the_client_sends_the_token_of_its_file_or_environment(
    releases: Path, tmp_path: Path, recguru: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKENS['newer']}\n", encoding="utf-8")
    with server_in_thread(releases, tokens=known()) as server:
        ask = ("recommend", "--server", f"127.0.0.1:{server.port}", "--domain", "books")
        without = recguru(*ask)
        by_file = recguru(*ask, "--token-file", token_file)
        monkeypatch.setenv("RECGURU_CLIENT_TOKEN", TOKENS["caller"])
        by_environment = recguru(*ask)
        both = recguru(*ask, "--token-file", token_file)
    place = f"127.0.0.1:{server.port}"
    assert (without.code, without.errors) == (
        1,
        f"error: {place} asks for a token; see client.token_file\n",
    )
    assert by_file.code == by_environment.code == 0
    assert both.errors == (
        "error: setting client: token and token_file exclude each other; give one\n"
    )


def test_a_wrong_token_is_not_shown_and_a_bad_file_is_named(releases: Path, tmp_path: Path) -> None:
    settings = ClientSettings.model_validate({"token": "a-wrong-token"})
    with (
        server_in_thread(releases, tokens=known()) as server,
        RecommenderClient(f"127.0.0.1:{server.port}", settings) as client,
        pytest.raises(UnauthenticatedError) as refused,
    ):
        client.get_release()
    assert "does not know this token" in str(refused.value)
    assert "a-wrong-token" not in f"{refused.value}{settings}{settings!r}"
    for content, said in ((None, "No such file"), (b"\n", "is empty"), (b"\xc3\xa4", "not ASCII")):
        path = tmp_path / "token"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadSettingError, match=said):
            RecommenderClient("localhost:1", ClientSettings(token_file=path))


async def test_no_tokens_let_everybody_in(releases: Path) -> None:
    async with serving(releases) as running:
        answer = await running.stub.GetRelease(pb.GetReleaseRequest())
    assert answer.version.release
