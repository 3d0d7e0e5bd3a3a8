"""Which failures are tried again, how long, and what is said in the end."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from prometheus_client import generate_latest
from recguru.v1 import recommender_pb2 as pb

from client.calls import backoffs
from client.client import RecommenderClient
from client.settings import ClientSettings
from client.wire import SERVICE
from model.errors import (
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RecGuruError,
    RemoteError,
)
from server.run import Server
from tests.client.serving import HOST, free_port, server_in_thread

QUICK = ClientSettings(attempts=4, first_backoff_s=0.02, max_backoff_s=0.05)


@contextmanager
def failing(code: grpc.StatusCode) -> Iterator[tuple[list[bytes], str]]:
    """Serve `GetRelease` with one status for every call; give the calls so far and the address."""
    calls: list[bytes] = []

    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        calls.append(request)
        context.abort(code, "scripted")

    with listening(handler(SERVICE, "GetRelease", fail)) as address:
        yield calls, address


@contextmanager
def full_at_first(hint_ms: str) -> Iterator[tuple[list[float], str]]:
    """Serve `GetRelease`, refusing the first call; give the times of calls and the address."""
    calls_s: list[float] = []

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        calls_s.append(time.monotonic())
        if len(calls_s) == 1:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", hint_ms),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "scripted")
        return pb.GetReleaseResponse(dimension=7).SerializeToString()

    with listening(handler(SERVICE, "GetRelease", answer)) as address:
        yield calls_s, address


def handler(
    service: str, name: str, behaviour: Callable[[bytes, grpc.ServicerContext], bytes]
) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """Make one call of a service do this."""
    handlers = {name: grpc.unary_unary_rpc_method_handler(behaviour)}
    return grpc.method_handlers_generic_handler(service, handlers)


@contextmanager
def listening(*handlers: "grpc.GenericRpcHandler[bytes, bytes]") -> Iterator[str]:
    """Run a gRPC server that knows these calls alone; give its address."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, list(handlers))
        port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        yield f"{HOST}:{port}"
        server.stop(None).wait(5)


def test_backoffs_double_up_to_the_longest_and_vary_by_a_fifth() -> None:
    settings = ClientSettings(attempts=6, first_backoff_s=0.1, max_backoff_s=0.5)

    runs = np.array([list(backoffs(settings, np.random.default_rng(seed))) for seed in range(500)])

    nominal = np.array([0.1, 0.2, 0.4, 0.5, 0.5])
    assert runs.shape == (500, 5)
    assert (np.abs(runs / nominal - 1) <= 0.2).all()
    assert np.allclose(runs.mean(axis=0), nominal, rtol=0.02)
    assert runs.std(axis=0) == pytest.approx(nominal * 0.4 / 12**0.5, rel=0.1)


def test_a_server_that_comes_up_meanwhile_answers(release_root: Path) -> None:
    port = free_port()
    settings = ClientSettings(attempts=100, first_backoff_s=0.05, max_backoff_s=0.2)
    outcome: list[object] = []

    with RecommenderClient(f"{HOST}:{port}", settings) as client:
        caller = threading.Thread(target=lambda: outcome.append(client.get_release()))
        caller.start()
        time.sleep(0.4)
        assert not outcome
        with server_in_thread(release_root, port=port):
            caller.join(20)
    assert len(outcome) == 1


@pytest.mark.parametrize(
    ("code", "kind", "calls"),
    [
        (grpc.StatusCode.UNAVAILABLE, NotReadyError, 4),
        (grpc.StatusCode.CANCELLED, OverloadedError, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInputError, 1),
        (grpc.StatusCode.NOT_FOUND, NotFoundError, 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, RemoteError, 1),
        (grpc.StatusCode.INTERNAL, RemoteError, 1),
    ],
)
def test_only_a_server_that_did_not_begin_to_answer_is_asked_again(
    code: grpc.StatusCode, kind: type[RecGuruError], calls: int
) -> None:
    with (
        failing(code) as (made, address),
        RecommenderClient(address, QUICK) as client,
        pytest.raises(RecGuruError) as failed,
    ):
        client.get_release()

    assert type(failed.value) is kind
    assert len(made) == calls


def test_an_unforeseen_failure_names_server_call_and_status() -> None:
    with (
        failing(grpc.StatusCode.INTERNAL) as (_, address),
        RecommenderClient(address) as client,
        pytest.raises(RemoteError) as failed,
    ):
        client.get_release()

    assert str(failed.value) == f"{address} failed to answer GetRelease: INTERNAL: scripted"


def test_where_nothing_listens_the_message_says_how_often_it_was_tried() -> None:
    address = f"{HOST}:{free_port()}"

    with RecommenderClient(address, QUICK) as client:
        with pytest.raises(RemoteError, match=rf"^no server answers at {address}, tried 4 times; "):
            client.get_release()
        with pytest.raises(RemoteError, match=rf"^no server answers at {address}, tried once; "):
            client.is_serving()


def test_the_deadline_ends_the_tries() -> None:
    settings = ClientSettings(attempts=100, first_backoff_s=0.05, max_backoff_s=0.1)
    began_s = time.monotonic()

    with (
        RecommenderClient(f"{HOST}:{free_port()}", settings) as client,
        pytest.raises(RemoteError, match="no server answers"),
    ):
        client.get_release(deadline_s=0.5)

    assert 0.2 < time.monotonic() - began_s < 2


@pytest.mark.parametrize("first_backoff_s", [0.05, 3.0])
def test_the_look_whether_anything_answers_ends_with_the_deadline(first_backoff_s: float) -> None:
    done = threading.Event()

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")

    def hang(*_: object) -> bytes:
        done.wait(20)
        return b""

    settings = ClientSettings(attempts=1, first_backoff_s=first_backoff_s, max_backoff_s=5.0)
    with (
        listening(
            handler(SERVICE, "GetRelease", refuse), handler(HEALTH, "Check", hang)
        ) as address,
        RecommenderClient(address, settings) as client,
    ):
        began_s = time.monotonic()
        with pytest.raises(RemoteError, match="no server answers"):
            client.get_release(deadline_s=0.2)
        took_s = time.monotonic() - began_s
        done.set()

    assert took_s < 1


def test_a_server_that_accepts_and_never_answers_runs_into_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        silent.listen()
        address = f"{HOST}:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        with RecommenderClient(address) as client, pytest.raises(RemoteError) as late:
            client.get_release(deadline_s=0.3)

    assert str(late.value) == f"{address} did not answer GetRelease within 0.3 s"
    assert 0.25 < time.monotonic() - began_s < 2


def test_a_server_that_has_no_recommender_says_so() -> None:
    with (
        listening() as address,
        RecommenderClient(address) as client,
        pytest.raises(RemoteError) as refused,
    ):
        client.get_release()

    assert str(refused.value) == (
        f"{address} failed to answer GetRelease: UNIMPLEMENTED: Method not found!"
    )


def test_a_full_server_is_asked_again_when_it_says() -> None:
    with full_at_first("300") as (calls_s, address), RecommenderClient(address, QUICK) as client:
        assert client.get_release().dimension == 7

    first_s, second_s = calls_s
    assert second_s - first_s >= 0.3  # QUICK alone would come back within 0.06 s


@pytest.mark.parametrize("hint_ms", ["60000", "soon", "-1"])
def test_a_full_server_is_not_asked_again_too_late_or_unasked(hint_ms: str) -> None:
    with (
        full_at_first(hint_ms) as (calls_s, address),
        RecommenderClient(address, QUICK) as client,
        pytest.raises(OverloadedError, match=r"^scripted$"),
    ):
        client.get_release(deadline_s=5.0)

    assert len(calls_s) == 1


def test_several_servers_are_called_in_turn_and_one_that_drains_is_left_in_time(
    release_root: Path,
) -> None:
    failures: list[RecGuruError] = []
    stop = threading.Event()

    def call_on(client: RecommenderClient) -> None:
        while not stop.is_set():
            try:
                client.get_release()
            except RecGuruError as error:
                failures.append(error)

    with server_in_thread(release_root) as one, ExitStack() as stack:
        other = stack.enter_context(server_in_thread(release_root))
        address = f"ipv4:{HOST}:{one.port},{HOST}:{other.port}"
        with RecommenderClient(address, ClientSettings(attempts=1)) as client:
            until_s = time.monotonic() + 20
            while not (answered(one) and answered(other)):  # until both are connected
                client.get_release()
                assert time.monotonic() < until_s
            before = answered(one), answered(other)
            for _ in range(10):
                client.get_release()
            after = answered(one), answered(other)
            calling = threading.Thread(target=call_on, args=(client,))
            calling.start()
            stack.close()
            stop.set()
            calling.join(20)
    assert [now - then for now, then in zip(after, before, strict=True)] == [5, 5]
    assert not failures


def answered(server: Server) -> int:
    """Count the calls of `GetRelease` that a server has answered."""
    exposed = generate_latest(server.metrics.registry).decode()
    found = re.search(r'recguru_calls_total{.*"GetRelease",status="OK"} (\d+)', exposed)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_call_under_way_fails_as_the_client_is_closed(attempts: int) -> None:
    with socket.socket() as silent, ThreadPoolExecutor(1) as pool:
        silent.bind((HOST, 0))
        silent.listen()
        address = f"{HOST}:{silent.getsockname()[1]}"
        client = RecommenderClient(address, ClientSettings(attempts=attempts))
        call = pool.submit(client.get_release)
        time.sleep(0.2)  # until it is under way
        client.close()
        with pytest.raises(RemoteError) as failed:
            call.result(20)

    assert str(failed.value) == f"the client of {address} was closed; GetRelease has no answer"


def test_a_client_that_waits_for_its_next_try_is_closed_at_once() -> None:
    settings = ClientSettings(attempts=2, first_backoff_s=20, max_backoff_s=20)
    with ThreadPoolExecutor(1) as pool:
        client = RecommenderClient(f"{HOST}:{free_port()}", settings)
        call = pool.submit(client.get_release)
        time.sleep(0.3)  # until the first try has failed
        client.close()
        with pytest.raises(RemoteError, match=r"was closed; GetRelease has no answer$"):
            call.result(5)


def test_a_closed_client_says_so_of_every_call() -> None:
    address = f"{HOST}:{free_port()}"
    client = RecommenderClient(address)
    client.close()

    for name, call in (("GetRelease", client.get_release), ("Check", client.is_serving)):
        with pytest.raises(RemoteError) as failed:
            call()
        assert str(failed.value) == f"the client of {address} was closed; {name} has no answer"


@pytest.mark.parametrize("deadline_s", [1e12, float("inf")])
def test_a_deadline_beyond_what_a_clock_can_say_is_a_long_one(
    address: str, deadline_s: float
) -> None:
    with RecommenderClient(address) as client:
        assert client.get_release(deadline_s=deadline_s).dimension == 16


def test_a_deadline_that_is_no_number_has_passed() -> None:
    address = f"{HOST}:{free_port()}"
    with RecommenderClient(address, QUICK) as client, pytest.raises(RemoteError):
        client.get_release(deadline_s=float("nan"))
