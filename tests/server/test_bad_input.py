"""Bad input gets a status and a message naming field and limit; a fault says nothing of itself."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from recguru.v1 import recommender_pb2 as pb

from tests.server.running import WAIT_S, Serving, filtered, messages, recommend, search, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
LIMITS = {
    "max_k": 50,
    "max_history_items": 5,
    "max_candidates": 6,
    "max_exclusions": 7,
    "max_filters": 3,
    "max_filter_values": 2,
    "max_batch": 3,
}
GOOD = recommend("books", {"books": ["b0001"]})
VECTOR = bytes(4 * 16)
LOVE = pb.Filter(attribute="genre", values=["love"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(releases: Path) -> AsyncIterator[Serving]:
    async with serving(releases, requests=LIMITS, max_message_bytes=2**20) as running:
        yield running


def ids(count: int) -> list[str]:
    return [f"b{item:04d}" for item in range(count)]


def batch(*requests: pb.RecommendRequest) -> pb.BatchRecommendRequest:
    return pb.BatchRecommendRequest(requests=requests)


def encode(domain: str, *users: pb.User) -> pb.EncodeUsersRequest:
    return pb.EncodeUsersRequest(domain=domain, users=users)


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


CASES = [
    # k
    (recommend("books", {}, k=0), INVALID, "k: is 0; it may be 1 to 50"),
    (recommend("books", {}, k=-3), INVALID, "k: is -3; it may be 1 to 50"),
    (recommend("books", {}, k=51), INVALID, "k: is 51; it may be 1 to 50"),
    (search("books", VECTOR, k=0), INVALID, "k: is 0; it may be 1 to 50"),
    # domains
    (recommend("", {}), INVALID, "domain: must be given"),
    (recommend("music", {}), MISSING, "domain: 'music' is unknown; the release has books, films"),
    (
        recommend("x" * 5000, {}),
        MISSING,
        f"domain: '{'x' * 64}…' is unknown; the release has books, films",
    ),
    (
        recommend("books", {"music": ["m1"]}),
        MISSING,
        "histories: domain 'music' is unknown; the release has books, films",
    ),
    (recommend("books", {"": ["b0001"]}), INVALID, "histories[0].domain: must be given"),
    (
        recommend("books", {f"domain {place}": [] for place in range(65)}),
        INVALID,
        "histories: holds 65; at most 64 are allowed",
    ),
    (
        pb.RecommendRequest(
            domain="books", k=1, histories=[*messages({"films": [], "books": []})] * 2
        ),
        INVALID,
        "histories[2].domain: 'films' is given twice",
    ),
    (search("music", VECTOR), MISSING, "domain: 'music' is unknown; the release has books, films"),
    # lists of ids
    (
        recommend("books", {"films": [], "books": ids(6)}),
        INVALID,
        "histories[1].item_ids: holds 6 ids; at most 5 are allowed",
    ),
    (
        recommend("books", {"books": ["b0001", ""]}),
        INVALID,
        "histories[0].item_ids[1]: has 0 bytes; an id has 1 to 512",
    ),
    (
        recommend("books", {"books": ["é" * 257]}),
        INVALID,
        "histories[0].item_ids[0]: has 514 bytes; an id has 1 to 512",
    ),
    (
        recommend("books", {}, exclude=ids(8)),
        INVALID,
        "exclude_item_ids: holds 8 ids; at most 7 are allowed",
    ),
    (
        recommend("books", {}, exclude=["b0001", "x" * 513]),
        INVALID,
        "exclude_item_ids[1]: has 513 bytes; an id has 1 to 512",
    ),
    (
        search("books", VECTOR, exclude=ids(8)),
        INVALID,
        "exclude_item_ids: holds 8 ids; at most 7 are allowed",
    ),
    (
        recommend("books", {}, ranked=ids(101)),
        INVALID,
        "rank_item_ids: holds 101 ids; at most 100 are allowed",
    ),
    (
        recommend("books", {}, ranked=[""]),
        INVALID,
        "rank_item_ids[0]: has 0 bytes; an id has 1 to 512",
    ),
    # candidates
    (
        recommend("books", {}, candidates=ids(7)),
        INVALID,
        "candidate_items.item_ids: holds 7 ids; at most 6 are allowed",
    ),
    (
        recommend("books", {}, candidates=[]),
        INVALID,
        "candidate_items.item_ids: holds 0 ids; leave candidates unset to rank all items",
    ),
    (
        recommend("books", {}, candidates=["b0001", ""]),
        INVALID,
        "candidate_items.item_ids[1]: has 0 bytes; an id has 1 to 512",
    ),
    (
        recommend("books", {}, candidates="new"),
        MISSING,
        "candidate_set: 'new' is unknown; domain 'books' has every-third",
    ),
    (recommend("books", {}, candidates=""), INVALID, "candidate_set: must be given"),
    (
        search("books", VECTOR, candidates="new"),
        MISSING,
        "candidate_set: 'new' is unknown; domain 'books' has every-third",
    ),
    (
        search("books", VECTOR, candidates=[]),
        INVALID,
        "candidate_items.item_ids: holds 0 ids; leave candidates unset to rank all items",
    ),
    # filters
    (
        filtered(recommend("books", {}), *[LOVE] * 4),
        INVALID,
        "filters: holds 4; at most 3 are allowed",
    ),
    (
        filtered(recommend("books", {}), LOVE, pb.Filter(values=["love"])),
        INVALID,
        "filters[1].attribute: must be given",
    ),
    (
        filtered(recommend("books", {}), pb.Filter(attribute="genre")),
        INVALID,
        "filters[0].values: holds 0; a filter may hold 1 to 2",
    ),
    (
        filtered(recommend("books", {}), LOVE, pb.Filter(attribute="genre", values=["x"] * 3)),
        INVALID,
        "filters[1].values: holds 3; a filter may hold 1 to 2",
    ),
    (
        filtered(recommend("books", {}), pb.Filter(attribute="genre", values=["love", ""])),
        INVALID,
        "filters[0].values[1]: has 0 bytes; a value has 1 to 512",
    ),
    (
        filtered(search("books", VECTOR), pb.Filter(attribute="genre", values=["é" * 257])),
        INVALID,
        "filters[0].values[0]: has 514 bytes; a value has 1 to 512",
    ),
    (
        filtered(recommend("films", {}), LOVE, pb.Filter(attribute="gen\nre", values=["love"])),
        MISSING,
        "filters[1].attribute: 'gen\\nre' is unknown; domain 'films' has decade, genre",
    ),
    (
        filtered(search("books", VECTOR), pb.Filter(attribute="decade", values=["1990s"])),
        MISSING,
        "filters[0].attribute: 'decade' is unknown; domain 'books' has genre",
    ),
    (
        batch(GOOD, filtered(recommend("books", {}), pb.Filter(attribute="a", values=["b"]))),
        MISSING,
        "requests[1].filters[0].attribute: 'a' is unknown; domain 'books' has genre",
    ),
    # batches
    (batch(), INVALID, "requests: holds 0; a call may hold 1 to 3"),
    (batch(*[GOOD] * 4), INVALID, "requests: holds 4; a call may hold 1 to 3"),
    (
        batch(GOOD, GOOD, recommend("books", {}, k=0)),
        INVALID,
        "requests[2].k: is 0; it may be 1 to 50",
    ),
    (
        batch(GOOD, recommend("music", {})),
        MISSING,
        "requests[1].domain: 'music' is unknown; the release has books, films",
    ),
    (
        batch(GOOD, recommend("books", {}, candidates="new")),
        MISSING,
        "requests[1].candidate_set: 'new' is unknown; domain 'books' has every-third",
    ),
    (
        batch(recommend("books", {"books": ids(6)}), GOOD),
        INVALID,
        "requests[0].histories[0].item_ids: holds 6 ids; at most 5 are allowed",
    ),
    (encode("books"), INVALID, "users: holds 0; a call may hold 1 to 3"),
    (encode("books", *[pb.User()] * 4), INVALID, "users: holds 4; a call may hold 1 to 3"),
    (encode("", pb.User()), INVALID, "domain: must be given"),
    (
        encode("music", pb.User()),
        MISSING,
        "domain: 'music' is unknown; the release has books, films",
    ),
    (
        encode("books", pb.User(), pb.User(histories=messages({"books": ids(6)}))),
        INVALID,
        "users[1].histories[0].item_ids: holds 6 ids; at most 5 are allowed",
    ),
    (
        encode("books", pb.User(histories=messages({"music": ["m1"]}))),
        MISSING,
        "users[0].histories: domain 'music' is unknown; the release has books, films",
    ),
    # vectors
    (search("books", b""), INVALID, "vector: holds 0 bytes; it must be 4 for each number"),
    (search("books", bytes(63)), INVALID, "vector: holds 63 bytes; it must be 4 for each number"),
    (
        search("books", bytes(4 * 12)),
        INVALID,
        "vector: holds 12 numbers; the release's dimension is 16",
    ),
    (
        search("books", floats(*[0] * 5, float("nan"), *[0] * 10)),
        INVALID,
        "vector: number 5 is nan, not finite",
    ),
    (
        search("books", floats(*[0] * 15, float("-inf"))),
        INVALID,
        "vector: number 15 is -inf, not finite",
    ),
]


@pytest.mark.parametrize(("request_", "code", "details"), CASES)
async def test_a_bad_request_is_refused_by_name(
    running: Serving, request_: Message, code: grpc.StatusCode, details: str
) -> None:
    calls: dict[type[Message], Any] = {
        pb.RecommendRequest: running.stub.Recommend,
        pb.BatchRecommendRequest: running.stub.BatchRecommend,
        pb.EncodeUsersRequest: running.stub.EncodeUsers,
        pb.SearchItemsRequest: running.stub.SearchItems,
    }

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await calls[type(request_)](request_, timeout=WAIT_S)

    assert (refusal.value.code(), refusal.value.details()) == (code, details)


async def test_limits_themselves_are_allowed(running: Serving) -> None:
    request = recommend(
        "books",
        {"books": ids(5), "films": ["x" * 512, "é" * 256]},
        k=50,
        candidates=ids(6),
        exclude=ids(7),
        ranked=ids(100),
    )
    most = pb.Filter(attribute="genre", values=["x" * 512, "é" * 256], negate=True)
    filtered(request, most, most, most)

    answer = await running.stub.BatchRecommend(batch(request, request, request))

    assert [len(response.ranks) for response in answer.responses] == [100, 100, 100]


async def test_a_message_over_the_limit_is_refused_unread(running: Serving) -> None:
    request = recommend("books", {"books": ["x" * 2**20]})

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await running.stub.Recommend(request, timeout=WAIT_S)

    assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (refusal.value.details() or "")


@pytest.mark.parametrize(
    "packed",
    [
        b"\xff\xff\xff\xff garbage",
        b"\x0a\x05boo",  # a string longer than the message
        b"\x0a\x02\xc3\x28",  # text that is not UTF-8
    ],
)
async def test_bytes_that_are_no_message_are_refused_politely(
    running: Serving, packed: bytes
) -> None:
    call: Any = running.channel.unary_unary(
        "/recguru.v1.Recommender/Recommend", request_serializer=None, response_deserializer=None
    )

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(packed, timeout=WAIT_S)

    assert refusal.value.code() == INVALID
    assert refusal.value.details() == (
        "the request is no valid message of this call; text must be UTF-8"
    )


async def test_a_bad_call_leaves_those_in_its_pass_answered(running: Serving) -> None:
    with running.stalled():
        calls = [
            asyncio.ensure_future(running.stub.Recommend(request, timeout=WAIT_S))
            for request in (GOOD, recommend("music", {}), GOOD)
        ]
        await running.queued(3)

    first, bad, last = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(bad, grpc.aio.AioRpcError)
    assert bad.code() == MISSING
    assert first == last
    assert isinstance(first, pb.RecommendResponse)


async def test_a_fault_of_ours_is_internal_to_the_caller_and_a_traceback_to_the_log(
    releases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(releases) as running:
        running.server.current.engine._inference._networks.gur_encoder = None  # type: ignore[assignment]  # the fault
        users = encode("books", pb.User(histories=GOOD.histories))
        calls: list[Awaitable[Message]] = [
            running.stub.Recommend(GOOD, timeout=WAIT_S),
            running.stub.BatchRecommend(batch(GOOD), timeout=WAIT_S),
            running.stub.EncodeUsers(users, timeout=WAIT_S),
        ]
        failures = await asyncio.gather(*calls, return_exceptions=True)

    for failure in failures:
        assert isinstance(failure, grpc.aio.AioRpcError)
        assert failure.code() == grpc.StatusCode.INTERNAL
        assert failure.details() == "internal error; see the server log"
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert sorted(record.getMessage() for record in logged) == [
        f"unforeseen failure method=/recguru.v1.Recommender/{name}"
        for name in ("BatchRecommend", "EncodeUsers", "Recommend")
    ]
    assert all(record.exc_info for record in logged)
    assert "b0001" not in caplog.text
