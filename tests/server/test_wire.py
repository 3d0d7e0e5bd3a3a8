"""Messages keep their meaning on the way from and to protobuf."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recguru.v1 import recommender_pb2 as pb

from model.basis import Basis
from model.errors import NotFoundError
from server import wire
from server.config import RequestLimits
from server.messages import (
    Choice,
    DomainInfo,
    EncodeQuestion,
    Encodings,
    Filter,
    ItemRank,
    Ranking,
    Recommendation,
    RecommendQuestion,
    ReleaseInfo,
    SearchQuestion,
    SearchResult,
    Version,
    located,
)

LIMITS = RequestLimits()
VERSION = Version("v1", "a" * 64, "b" * 64)
ids = st.lists(st.text(min_size=1, max_size=8), max_size=4)
names = st.text(min_size=1, max_size=8)
histories = st.dictionaries(names, ids, max_size=3)
restrictions = st.one_of(
    st.none(), names, st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4)
)


filters = st.lists(
    st.builds(
        Filter,
        attribute=names,
        values=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4),
        negate=st.booleans(),
    ),
    max_size=3,
)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    restriction = draw(restrictions)
    return Choice(
        k=draw(st.integers(1, LIMITS.max_k)),
        candidate_items=restriction if isinstance(restriction, list) else None,
        candidate_set=restriction if isinstance(restriction, str) else None,
        exclude_item_ids=draw(ids),
        filters=draw(filters) or (),
    )


def choose(choice: Choice, message: pb.RecommendRequest | pb.SearchItemsRequest) -> None:
    message.k = choice.k
    message.exclude_item_ids.extend(choice.exclude_item_ids)
    message.filters.extend(
        pb.Filter(attribute=each.attribute, values=each.values, negate=each.negate)
        for each in choice.filters
    )
    if choice.candidate_items is not None:
        message.candidate_items.item_ids.extend(choice.candidate_items)
    if choice.candidate_set is not None:
        message.candidate_set = choice.candidate_set


@given(names, histories, choices(), st.booleans(), ids)
def test_a_recommend_question_is_what_the_message_says(
    domain: str, known: dict[str, list[str]], choice: Choice, exclude: bool, ranked: list[str]
) -> None:
    message = pb.RecommendRequest(
        domain=domain,
        histories=[pb.History(domain=name, item_ids=items) for name, items in known.items()],
        exclude_history=exclude,
        rank_item_ids=ranked,
    )
    choose(choice, message)

    received = pb.RecommendRequest.FromString(message.SerializeToString())

    assert wire.recommend_from_proto(received, LIMITS) == RecommendQuestion(
        domain=domain,
        histories=known,
        choice=choice,
        exclude_history=exclude,
        rank_item_ids=ranked,
    )


def test_the_history_is_excluded_unless_the_message_says_otherwise() -> None:
    message = pb.RecommendRequest(domain="books", k=1)

    assert wire.recommend_from_proto(message, LIMITS).exclude_history


@given(names, st.lists(histories, max_size=3))
def test_an_encode_question_is_what_the_message_says(
    domain: str, users: list[dict[str, list[str]]]
) -> None:
    message = pb.EncodeUsersRequest(
        domain=domain,
        users=[
            pb.User(
                histories=[pb.History(domain=name, item_ids=items) for name, items in known.items()]
            )
            for known in users
        ],
    )

    received = pb.EncodeUsersRequest.FromString(message.SerializeToString())
    converted = [wire.user_from_proto(user, LIMITS) for user in received.users]

    assert wire.encode_from_proto(received, converted) == EncodeQuestion(domain=domain, users=users)


@given(
    names,
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
    choices(),
)
def test_a_search_question_is_what_the_message_says(
    domain: str, numbers: list[float], choice: Choice
) -> None:
    message = pb.SearchItemsRequest(domain=domain, vector=np.array(numbers, "<f4").tobytes())
    choose(choice, message)

    question = wire.search_from_proto(
        pb.SearchItemsRequest.FromString(message.SerializeToString()), LIMITS
    )

    assert question.vector.tolist() == numbers
    assert question.vector.dtype == np.float32
    assert question == SearchQuestion(domain=domain, vector=question.vector, choice=choice)


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        (Basis.PERSONALIZED, pb.BASIS_PERSONALIZED),
        (Basis.CROSS_DOMAIN, pb.BASIS_CROSS_DOMAIN),
        (Basis.POPULARITY, pb.BASIS_POPULARITY),
    ],
)
def test_a_recommendation_is_said_in_full(basis: Basis, expected: pb.Basis.ValueType) -> None:
    answer = Recommendation(
        ranking=Ranking(item_ids=["x", "y"], scores=[2.5, -1.0]),
        version=VERSION,
        basis=basis,
        unknown_history_items=3,
        unknown_candidates=4,
        ranks=[ItemRank("y", -1.0, 2), ItemRank("z", 0.0, 0)],
    )

    assert wire.recommendation_to_proto(answer) == pb.RecommendResponse(
        items=[pb.ScoredItem(item_id="x", score=2.5), pb.ScoredItem(item_id="y", score=-1.0)],
        version=pb.Version(release="v1", model="a" * 64, index="b" * 64),
        basis=expected,
        unknown_history_items=3,
        unknown_candidates=4,
        ranks=[pb.ItemRank(item_id="y", score=-1.0, rank=2), pb.ItemRank(item_id="z")],
    )


def test_vectors_are_little_endian_and_row_by_row_across_passes() -> None:
    parts = [
        Encodings(
            gurs=np.array([[1, 2]], np.float32),
            preferences=np.array([[-1, 0.5]], np.float32),
            bases=[Basis.PERSONALIZED],
            unknown_history_items=1,
            version=VERSION,
        ),
        Encodings(
            gurs=np.array([[3, 4]], np.float32),
            preferences=np.array([[0, 0]], np.float32),
            bases=[Basis.POPULARITY],
            unknown_history_items=5,
            version=VERSION,
        ),
    ]

    message = wire.encodings_to_proto(parts)

    assert message.gurs.hex() == "0000803f" + "00000040" + "00004040" + "00008040"
    assert message.preferences.hex() == "000080bf" + "0000003f" + "00000000" * 2
    assert list(message.bases) == [pb.BASIS_PERSONALIZED, pb.BASIS_POPULARITY]
    assert (message.dimension, message.unknown_history_items) == (2, 6)


def test_a_search_result_is_said_in_full() -> None:
    answer = SearchResult(
        ranking=Ranking(item_ids=["x"], scores=[0.25]), version=VERSION, unknown_candidates=7
    )

    assert wire.search_result_to_proto(answer) == pb.SearchItemsResponse(
        items=[pb.ScoredItem(item_id="x", score=0.25)],
        version=pb.Version(release="v1", model="a" * 64, index="b" * 64),
        unknown_candidates=7,
    )


def test_a_release_is_described_in_full() -> None:
    info = ReleaseInfo(
        version=VERSION,
        dataset="c" * 64,
        dimension=16,
        max_history=12,
        domains=[
            DomainInfo(
                name="books",
                items=40,
                index_kind="flat",
                candidate_sets=["new"],
                attributes={"author": 7, "genre": 3},
            )
        ],
    )

    assert wire.release_to_proto(info) == pb.GetReleaseResponse(
        version=pb.Version(release="v1", model="a" * 64, index="b" * 64),
        dataset="c" * 64,
        dimension=16,
        max_history=12,
        domains=[
            pb.Domain(
                name="books",
                items=40,
                index_kind="flat",
                candidate_sets=["new"],
                attributes=[
                    pb.Attribute(name="author", values=7),
                    pb.Attribute(name="genre", values=3),
                ],
            )
        ],
    )


def test_a_part_of_a_batch_is_named_before_the_field() -> None:
    error = located(NotFoundError("domain: 'x' is unknown"), "requests[3]")

    assert isinstance(error, NotFoundError)
    assert str(error) == "requests[3].domain: 'x' is unknown"
