"""Lines of the log and request ids: enough to find a call again, nothing of what was asked."""

import json
import logging
import re
from pathlib import Path

import grpc
import pytest
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from server.config import LogFormat
from server.engine import Engine
from server.logs import configure
from tests.server.processes import port_of, process
from tests.server.running import WAIT_S, Serving, recommend, serving

pytestmark = pytest.mark.usefixtures("logging_ends")

ITEM = "f0007"
REQUEST = recommend("films", {"films": [ITEM, "an-item-of-nobody's-business"]})
BAD = recommend("films", {}, k=0)


async def request_id(running: Serving, request: pb.RecommendRequest, *given: str) -> str:
    """Call with these request ids, and return the one that came back."""
    call = running.stub.Recommend(request, metadata=[("x-request-id", each) for each in given])
    code = await call.code()
    assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL}
    found = [value for key, value in await call.trailing_metadata() if key == "x-request-id"]
    assert len(found) == 1
    return str(found[0])


async def test_a_request_id_comes_back_however_the_call_ends(releases: Path) -> None:
    async with serving(releases) as running:
        assert await request_id(running, REQUEST, "mine-1") == "mine-1"
        assert await request_id(running, BAD, "mine-2") == "mine-2"
        made = [await request_id(running, request) for request in (REQUEST, REQUEST, BAD)]
        replaced = [await request_id(running, REQUEST, bad) for bad in ("", "two words", "x" * 129)]
    assert len({*made, *replaced}) == 6
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in (*made, *replaced))


async def test_a_refused_call_has_its_request_id_beside_the_hint(releases: Path) -> None:
    async with serving(releases, queue={"max_pending": 1}) as running:
        with running.stalled():
            waiting = running.stub.Recommend(REQUEST)
            await running.queued(1)
            call = running.stub.Recommend(REQUEST, metadata=[("x-request-id", "mine")])
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            told = dict(await call.trailing_metadata())
        await waiting
    assert told["x-request-id"] == "mine"
    assert int(told["grpc-retry-pushback-ms"]) >= 1


async def test_an_unforeseen_failure_is_found_by_its_request_id(
    releases: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("the inside")

    before = logging.getLogger().handlers[:]
    try:
        async with serving(releases, poll_s=3600) as running:
            monkeypatch.setattr(Engine, "recommend", fail)
            configure(LogFormat.JSON)
            assert await request_id(running, REQUEST, "mine") == "mine"
    finally:
        logging.basicConfig(handlers=before, force=True)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [failure] = [line for line in lines if line["level"] == "ERROR"]
    assert failure["request_id"] == "mine"
    assert failure["logger"] == "server.guard"
    assert failure["message"] == "unforeseen failure method=/recguru.v1.Recommender/Recommend"
    assert "ZeroDivisionError: the inside" in failure["exc_info"]


METADATA = (("x-request-id", "mine"), ("recguru-key", "user-4711"))


def assert_calls_are_lines(logged: str, form: str) -> None:
    """Check that an answered call and a refused one are lines, and tell nothing of the user."""
    lines = [line for line in logged.splitlines() if "mine" in line]
    if form == "json":
        read = [json.loads(line) for line in logged.splitlines()]
        assert all(
            {"time", "level", "logger", "message", "request_id"} <= set(each) for each in read
        )
        lines = [each["message"] for each in read if each["request_id"] == "mine"]
    else:
        assert all(line.endswith(" request=mine") for line in lines)
        lines = [
            line.partition(" server.guard ")[2].removesuffix(" request=mine") for line in lines
        ]
    timed = r"Recommend {} in \d+\.\d ms, lane=stable"
    assert re.fullmatch(timed.format("OK"), lines[0])
    assert re.fullmatch(timed.format("INVALID_ARGUMENT"), lines[1])
    assert len(lines) == 2
    for private in (ITEM, "nobody's-business", "user-4711"):
        assert private not in logged


@pytest.mark.parametrize("form", ["json", pytest.param("console", marks=pytest.mark.slow)])
def test_every_call_is_a_line_where_that_is_wanted_and_says_nothing_of_the_user(
    releases: Path, tmp_path: Path, form: str
) -> None:
    config, port_file = tmp_path / "serve.toml", tmp_path / "port"
    config.write_text(f'[serve]\nlog_calls = true\nlog_format = "{form}"\n', encoding="utf-8")
    options = ("--config", config, "--port", "0", "--port-file", port_file, "--device", "cpu")
    with process("--releases", releases, *options) as running:
        with grpc.insecure_channel(f"127.0.0.1:{port_of(running, port_file)}") as channel:
            stub = pb_grpc.RecommenderStub(channel)
            stub.Recommend(REQUEST, timeout=WAIT_S, metadata=METADATA)
            with pytest.raises(grpc.RpcError):
                stub.Recommend(BAD, timeout=WAIT_S, metadata=METADATA)
        running.terminate()
        assert running.stderr is not None
        logged = running.stderr.read()
    assert_calls_are_lines(logged, form)


async def test_a_line_for_people_says_the_same(
    releases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]
    try:
        configure(LogFormat.CONSOLE)
        async with serving(releases, log_calls=True) as running:
            await running.stub.Recommend(REQUEST, metadata=METADATA)
            with pytest.raises(grpc.aio.AioRpcError):
                await running.stub.Recommend(BAD, metadata=METADATA)
    finally:
        logging.basicConfig(handlers=before, force=True)
    assert_calls_are_lines(capsys.readouterr().err, "console")


async def test_calls_are_no_lines_by_default(
    releases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(releases) as running:
        await running.stub.Recommend(REQUEST)
    assert not [record for record in caplog.records if record.name == "server.guard"]
