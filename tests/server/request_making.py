"""Requests of every kind, good and wild, and what the contract says of them.

The judgements here read nothing but the contract and the names of the release under test; what the
server checks, and how, they do not know.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from recguru.v1 import recommender_pb2 as pb

from tests.server.item_attributes import ATTRIBUTES, VALUES, passing

ITEMS = {
    "books": [f"b{item:04d}" for item in range(40)],
    "films": [f"f{item:04d}" for item in range(300)],
}
"""What the release under test knows, by domain."""
SET = "every-third"
WIDTH = 16
LIMITS = {
    "max_k": 100,
    "max_history_items": 1000,
    "max_candidates": 2000,
    "max_exclusions": 1500,
    "max_filters": 3,
    "max_filter_values": 9,
    "max_batch": 20,
}
MAX_BYTES = 1 << 16
_MAX_RANKED = 100
_MAX_ID_BYTES = 512
_MAX_VALUE_BYTES = 512

Choosing = pb.RecommendRequest | pb.SearchItemsRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the service."""

    request: type[Any]
    answer: type[Any]
    requests: st.SearchStrategy[Any]
    is_good: Callable[[Any], bool]
    """Whether the contract has an answer for a request."""
    check: Callable[[Any, Any], None]
    """Asserts that an answer is one to a request."""


_ODD_TEXTS = st.sampled_from(
    [
        "",
        "\0",
        "\n",
        " b0001",
        "B0001",
        "b0001\u0301",
        "\u202eb0001",
        "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ZERO}",
        "\U0010ffff",
        "../../books",
        "%s{0}%n",
        "x" * 512,
        "x" * 513,
        "é" * 256,
        "é" * 257,
        "\N{GRINNING FACE}" * 2000,
    ]
)
_SHORT_TEXTS = st.text(max_size=20)
_KNOWN = st.sampled_from([item for items in ITEMS.values() for item in items])


def _mostly(good: st.SearchStrategy[Any], *wild: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw something wild one time in eight."""
    return st.integers(0, 7).flatmap(lambda dice: st.one_of(*wild) if dice == 5 else good)


def _many(count: int) -> list[str]:
    """Make a long list of ids, some unknown, some repeated."""
    names = [*ITEMS["books"], "nobody knows this", *ITEMS["films"]]
    return (names * (count // len(names) + 1))[:count]


_NAMES = _mostly(st.sampled_from(list(ITEMS)), _ODD_TEXTS, _SHORT_TEXTS)
_IDS = st.lists(st.one_of(_KNOWN, _KNOWN, _SHORT_TEXTS.filter(bool)), max_size=8)


def _lists(most: int) -> st.SearchStrategy[list[str]]:
    """Draw a list of ids, of which the contract allows so many."""
    long = st.sampled_from([most // 2, most, most + 1, 5 * most]).map(_many)
    return _mostly(_IDS, st.lists(st.one_of(_KNOWN, _ODD_TEXTS), max_size=4), long)


_HISTORIES = _mostly(
    st.lists(
        st.builds(pb.History, domain=_NAMES, item_ids=_lists(LIMITS["max_history_items"])),
        max_size=2,
        unique_by=lambda history: history.domain,
    ),
    st.lists(st.builds(pb.History, domain=_NAMES, item_ids=_IDS), max_size=6),
    st.just([pb.History(domain="books", item_ids=["b0001"])] * 1000),
)
_KS = _mostly(
    st.integers(1, LIMITS["max_k"]), st.sampled_from([-(2**31), -1, 0, 101, 1000, 2**31 - 1])
)
_FILTERS = _mostly(
    st.lists(
        st.builds(
            pb.Filter,
            attribute=_mostly(st.just("genre"), st.just("decade"), _ODD_TEXTS),
            values=_mostly(
                st.lists(st.sampled_from([*VALUES, "nobody's"]), min_size=1, max_size=4),
                st.lists(_ODD_TEXTS, max_size=4),
                st.sampled_from([list(VALUES)[:9], list(VALUES)[:10], ["love"] * 999]),
            ),
            negate=st.booleans(),
        ),
        max_size=2,
    ),
    st.sampled_from([3, 4, 999]).map(
        lambda count: [pb.Filter(attribute="genre", values="x")] * count
    ),
)
_CHOICE: dict[str, st.SearchStrategy[Any]] = {
    "k": _KS,
    "filters": _FILTERS,
    "exclude_item_ids": _lists(LIMITS["max_exclusions"]),
}
_RANKING: dict[str, st.SearchStrategy[Any]] = {
    **_CHOICE,
    "domain": _NAMES,
    "histories": _HISTORIES,
    "exclude_history": st.sampled_from([None, False, True]),
    "rank_item_ids": _lists(_MAX_RANKED),
}
_CANDIDATES: list[dict[str, st.SearchStrategy[Any]]] = [
    {},
    {"candidate_set": _mostly(st.just(SET), _ODD_TEXTS, _SHORT_TEXTS)},
    {"candidate_items": st.builds(pb.ItemList, item_ids=_lists(LIMITS["max_candidates"]))},
]
_FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e-45, 3.4e38, -3.4e38]),
)
_VECTORS = _mostly(
    st.lists(_FLOATS, min_size=WIDTH, max_size=WIDTH).map(
        lambda numbers: struct.pack(f"<{WIDTH}f", *numbers)
    ),
    st.lists(st.floats(width=32), min_size=WIDTH, max_size=WIDTH).map(
        lambda numbers: struct.pack(f"<{WIDTH}f", *numbers)
    ),
    st.binary(max_size=5 * WIDTH),
    st.sampled_from([b"\xff" * 4 * WIDTH, bytes(4 * WIDTH + 4), bytes(40_000)]),
)


def _recommends() -> st.SearchStrategy[pb.RecommendRequest]:
    return st.one_of(
        [st.builds(pb.RecommendRequest, **_RANKING, **choice) for choice in _CANDIDATES]
    )


def _searches() -> st.SearchStrategy[pb.SearchItemsRequest]:
    fields = {"domain": _NAMES, "vector": _VECTORS, **_CHOICE}
    return st.one_of(
        [st.builds(pb.SearchItemsRequest, **fields, **choice) for choice in _CANDIDATES]
    )


def _parts(part: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw the parts of a batch."""
    sizes = st.sampled_from([LIMITS["max_batch"], LIMITS["max_batch"] + 1, 300])
    alike = st.builds(lambda one, count: [one] * count, part, sizes)
    return _mostly(st.lists(part, min_size=1, max_size=3), st.just([]), alike)


def _are_good_ids(item_ids: Sequence[str], most: int) -> bool:
    return len(item_ids) <= most and all(
        1 <= len(item.encode()) <= _MAX_ID_BYTES for item in item_ids
    )


def _are_good_histories(histories: Sequence[pb.History]) -> bool:
    domains = [history.domain for history in histories]
    return (
        len(set(domains)) == len(domains)
        and set(domains) <= ITEMS.keys()
        and all(_are_good_ids(each.item_ids, LIMITS["max_history_items"]) for each in histories)
    )


def _are_good_filters(filters: Sequence[pb.Filter], domain: str) -> bool:
    return len(filters) <= LIMITS["max_filters"] and all(
        each.attribute in ATTRIBUTES[domain]
        and len(each.values) > 0
        and len(each.values) <= LIMITS["max_filter_values"]
        and all(1 <= len(value.encode()) <= _MAX_VALUE_BYTES for value in each.values)
        for each in filters
    )


def _is_good_choice(request: Choosing) -> bool:
    match request.WhichOneof("candidates"):
        case "candidate_items":
            item_ids = request.candidate_items.item_ids
            good = len(item_ids) > 0 and _are_good_ids(item_ids, LIMITS["max_candidates"])
        case "candidate_set":
            good = request.candidate_set == SET
        case _:
            good = True
    return (
        good
        and request.domain in ITEMS
        and 1 <= request.k <= LIMITS["max_k"]
        and _are_good_ids(request.exclude_item_ids, LIMITS["max_exclusions"])
        and _are_good_filters(request.filters, request.domain)
    )


def _is_good_recommend(request: pb.RecommendRequest) -> bool:
    return (
        _is_good_choice(request)
        and _are_good_histories(request.histories)
        and _are_good_ids(request.rank_item_ids, _MAX_RANKED)
    )


def _is_good_batch(request: pb.BatchRecommendRequest) -> bool:
    return 1 <= len(request.requests) <= LIMITS["max_batch"] and all(
        map(_is_good_recommend, request.requests)
    )


def _is_good_encode(request: pb.EncodeUsersRequest) -> bool:
    return (
        request.domain in ITEMS
        and 1 <= len(request.users) <= LIMITS["max_batch"]
        and all(_are_good_histories(user.histories) for user in request.users)
    )


def _is_good_search(request: pb.SearchItemsRequest) -> bool:
    if len(request.vector) != 4 * WIDTH:
        return False
    numbers = np.frombuffer(request.vector, "<f4")
    return bool(np.isfinite(numbers).all()) and _is_good_choice(request)


def _allowed(request: Choosing) -> set[str]:
    """List the items that may be answered, histories aside."""
    allowed = passing(request.domain, ITEMS[request.domain], request.filters)
    match request.WhichOneof("candidates"):
        case "candidate_items":
            allowed &= set(request.candidate_items.item_ids)
        case "candidate_set":
            allowed &= set(ITEMS[request.domain][::3])
    return allowed - set(request.exclude_item_ids)


def _check_items(items: Sequence[pb.ScoredItem], allowed: set[str], k: int) -> None:
    ids, scores = [item.item_id for item in items], [item.score for item in items]
    assert len(ids) == min(k, len(allowed))
    assert len(set(ids)) == len(ids)
    assert set(ids) <= allowed
    assert np.isfinite(scores).all()
    assert sorted(items, key=lambda item: (-item.score, item.item_id)) == list(items)


def _unknown(item_ids: Sequence[str], domain: str) -> int:
    return sum(item not in ITEMS[domain] for item in item_ids)


def _unknown_in(histories: Sequence[pb.History]) -> int:
    return sum(_unknown(history.item_ids, history.domain) for history in histories)


def _basis(histories: Sequence[pb.History], domain: str) -> "pb.Basis.ValueType":
    known = {each.domain for each in histories if set(each.item_ids) & set(ITEMS[each.domain])}
    if domain in known:
        return pb.BASIS_PERSONALIZED
    return pb.BASIS_CROSS_DOMAIN if known else pb.BASIS_POPULARITY


def _check_recommendation(request: pb.RecommendRequest, answer: pb.RecommendResponse) -> None:
    allowed = _allowed(request)
    if not request.HasField("exclude_history") or request.exclude_history:
        for history in request.histories:
            if history.domain == request.domain:
                allowed -= set(history.item_ids)
    _check_items(answer.items, allowed, request.k)
    assert answer.unknown_history_items == _unknown_in(request.histories)
    assert answer.unknown_candidates == _unknown(request.candidate_items.item_ids, request.domain)
    assert answer.basis == _basis(request.histories, request.domain)
    assert [rank.item_id for rank in answer.ranks] == list(request.rank_item_ids)
    places = {item.item_id: (place, item.score) for place, item in enumerate(answer.items, 1)}
    for rank in answer.ranks:
        least = 1 if rank.item_id in allowed else 0
        place, score = places.get(rank.item_id, (least, rank.score))
        assert place <= rank.rank <= least * len(allowed)
        assert np.isfinite(rank.score)
        assert rank.score == score


def _check_batch(request: pb.BatchRecommendRequest, answer: pb.BatchRecommendResponse) -> None:
    for part, response in zip(request.requests, answer.responses, strict=True):
        _check_recommendation(part, response)


def _check_encodings(request: pb.EncodeUsersRequest, answer: pb.EncodeUsersResponse) -> None:
    bases = [_basis(user.histories, request.domain) for user in request.users]
    assert list(answer.bases) == bases
    assert answer.unknown_history_items == sum(
        _unknown_in(user.histories) for user in request.users
    )
    assert answer.dimension == WIDTH
    for packed in (answer.gurs, answer.preferences):
        vectors = np.frombuffer(packed, "<f4").reshape(len(bases), WIDTH)
        assert np.isfinite(vectors).all()
        silent = np.array([basis == pb.BASIS_POPULARITY for basis in bases])
        assert np.array_equal((vectors == 0).all(axis=1), silent)


def _check_found(request: pb.SearchItemsRequest, answer: pb.SearchItemsResponse) -> None:
    _check_items(answer.items, _allowed(request), request.k)
    assert answer.unknown_candidates == _unknown(request.candidate_items.item_ids, request.domain)


def _check_release(_: pb.GetReleaseRequest, answer: pb.GetReleaseResponse) -> None:
    assert {domain.name: domain.items for domain in answer.domains} == {
        name: len(items) for name, items in ITEMS.items()
    }
    assert answer.dimension == WIDTH


CALLS = {
    "Recommend": Call(
        pb.RecommendRequest,
        pb.RecommendResponse,
        _recommends(),
        _is_good_recommend,
        _check_recommendation,
    ),
    "BatchRecommend": Call(
        pb.BatchRecommendRequest,
        pb.BatchRecommendResponse,
        st.builds(pb.BatchRecommendRequest, requests=_parts(_recommends())),
        _is_good_batch,
        _check_batch,
    ),
    "EncodeUsers": Call(
        pb.EncodeUsersRequest,
        pb.EncodeUsersResponse,
        st.builds(
            pb.EncodeUsersRequest,
            domain=_NAMES,
            users=_parts(st.builds(pb.User, histories=_HISTORIES)),
        ),
        _is_good_encode,
        _check_encodings,
    ),
    "SearchItems": Call(
        pb.SearchItemsRequest, pb.SearchItemsResponse, _searches(), _is_good_search, _check_found
    ),
    "GetRelease": Call(
        pb.GetReleaseRequest,
        pb.GetReleaseResponse,
        st.just(pb.GetReleaseRequest()),
        lambda _: True,
        _check_release,
    ),
}
