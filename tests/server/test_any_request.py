"""Whatever is sent, the answer is right or a refusal by the contract, and the server lives on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recguru.v1 import recommender_pb2 as pb

from tests.client.serving import HOST, server_in_thread
from tests.server.raw_requests import raw_requests
from tests.server.request_making import CALLS, LIMITS, MAX_BYTES, WIDTH
from tests.server.running import WAIT_S, messages, recommend, search

OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
MISSING, TOO_LARGE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED
HISTORIES = {"books": ["b0001", "b0007"], "films": ["f0003"]}
NORMAL: Mapping[str, Message] = {
    "Recommend": recommend("books", HISTORIES, ranked=["b0002"]),
    "BatchRecommend": pb.BatchRecommendRequest(requests=[recommend("films", HISTORIES)] * 2),
    "EncodeUsers": pb.EncodeUsersRequest(
        domain="films", users=[pb.User(histories=messages(HISTORIES))]
    ),
    "SearchItems": search("books", bytes(4 * WIDTH)),
    "GetRelease": pb.GetReleaseRequest(),
}
WRITTEN = [name for name in CALLS if name != "GetRelease"]  # an empty message has no variants


class Asking:
    """Sends bytes and judges what comes back; counts how often each status did."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.statuses: Counter[grpc.StatusCode] = Counter()

    def send(
        self, name: str, packed: bytes, compression: grpc.Compression | None = None
    ) -> tuple[grpc.StatusCode, str, bytes]:
        """Send bytes as they are; return status, details, and the bytes of the answer."""
        call: Any = self._channel.unary_unary(
            f"/recguru.v1.Recommender/{name}", request_serializer=None, response_deserializer=None
        )
        try:
            return OK, "", call(packed, timeout=WAIT_S, compression=compression)
        except grpc.RpcError as error:
            refusal: Any = error
            return refusal.code(), refusal.details(), b""

    def ask(self, name: str, packed: bytes) -> bytes:
        """Send bytes; check that they are answered, rightly, just where the contract says so."""
        call = CALLS[name]
        status, details, answer = self.send(name, packed)
        self.statuses[status] += 1
        if len(packed) > MAX_BYTES:
            assert (status, "larger than max" in details) == (TOO_LARGE, True)
            return b""
        try:
            request = call.request.FromString(packed)
        except DecodeError:
            assert (status, details) == (
                INVALID,
                "the request is no valid message of this call; text must be UTF-8",
            )
            return b""
        if call.is_good(request):
            assert (status, details) == (OK, "")
            call.check(request, call.answer.FromString(answer))
        else:
            assert status in {INVALID, MISSING}, (status, details)
            assert 0 < len(details) < 300
        return answer

    def normal(self) -> dict[str, bytes]:
        """Ask what everybody asks."""
        return {name: self.ask(name, NORMAL[name].SerializeToString()) for name in NORMAL}


@pytest.fixture(scope="module")
def channel(releases: Path) -> Iterator[grpc.Channel]:
    with (
        server_in_thread(releases, requests=LIMITS, max_message_bytes=MAX_BYTES) as server,
        grpc.insecure_channel(f"{HOST}:{server.port}") as channel,
    ):
        yield channel


def sent_each(asking: Asking, name: str, drawn: st.SearchStrategy[bytes], count: int) -> None:
    """Send `count` requests that hypothesis draws."""

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(drawn)
    def sent(packed: bytes) -> None:
        asking.ask(name, packed)

    sent()


@pytest.mark.parametrize("count", [45, pytest.param(1700, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WRITTEN)
def test_any_message_is_answered_or_refused_by_the_contract(
    channel: grpc.Channel, name: str, count: int
) -> None:
    asking = Asking(channel)
    before = asking.normal()

    packed = CALLS[name].requests.map(lambda request: request.SerializeToString())
    sent_each(asking, name, packed, count)

    assert asking.normal() == before
    asked = asking.statuses.total()
    assert asking.statuses[OK] > asked / 5, asking.statuses
    assert asking.statuses[INVALID] + asking.statuses[MISSING] > asked / 20, asking.statuses


@pytest.mark.parametrize("count", [20, pytest.param(640, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CALLS)
def test_any_bytes_are_answered_or_refused_by_the_contract(
    channel: grpc.Channel, name: str, count: int
) -> None:
    asking = Asking(channel)
    before = asking.normal()

    sent_each(asking, name, raw_requests(CALLS[name]), count)

    assert asking.normal() == before
    assert asking.statuses[INVALID] > 0


def test_a_message_that_unpacks_to_too_much_is_refused(channel: grpc.Channel) -> None:
    asking = Asking(channel)
    bomb = bytes(1 << 24)  # 16 kB on the wire

    status, details, _ = asking.send("Recommend", bomb, compression=grpc.Compression.Gzip)

    assert status is TOO_LARGE
    assert "larger than max" in details
    asking.normal()
