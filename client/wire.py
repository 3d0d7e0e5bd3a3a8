"""Protobuf on one side, `client.messages` on the other; nothing else in this package knows both.

Vectors travel as D little-endian float32 numbers each.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from grpc_health.v1 import health_pb2
from recguru.v1 import recommender_pb2 as pb

from client.messages import (
    Basis,
    DomainInfo,
    Encodings,
    Filter,
    FoundItems,
    Histories,
    ItemRank,
    Question,
    Recommendation,
    ReleaseInfo,
    ScoredItem,
    VectorQuestion,
    Version,
)
from model.arrays import Floats
from model.errors import InvalidInputError, RemoteError

SERVICE = pb.DESCRIPTOR.services_by_name["Recommender"].full_name

_FLOAT = np.dtype("<f4")
_BASES = {
    pb.BASIS_PERSONALIZED: Basis.PERSONALIZED,
    pb.BASIS_CROSS_DOMAIN: Basis.CROSS_DOMAIN,
    pb.BASIS_POPULARITY: Basis.POPULARITY,
}


def question_to_proto(question: Question) -> pb.RecommendRequest:
    """Convert a question.

    Raises:
        InvalidInputError: If a value is of a type or size that no message can hold, or both kinds
            of candidates are given.
    """
    with _representable():
        request = pb.RecommendRequest(
            domain=question.domain,
            histories=_histories_to_proto(question.histories),
            k=question.k,
            exclude_item_ids=question.exclude_item_ids,
            exclude_history=question.exclude_history,
            rank_item_ids=question.rank_item_ids,
            filters=_filters_to_proto(question.filters),
        )
        _set_candidates(request, question)
    return request


def batch_to_proto(questions: Sequence[Question]) -> pb.BatchRecommendRequest:
    """Convert several questions.

    Raises:
        InvalidInputError: As `question_to_proto` does.
    """
    return pb.BatchRecommendRequest(requests=[question_to_proto(each) for each in questions])


def users_to_proto(domain: str, users: Sequence[Histories]) -> pb.EncodeUsersRequest:
    """Convert users whose vectors for one domain are wanted.

    Raises:
        InvalidInputError: If a value is of a type that no message can hold.
    """
    with _representable():
        return pb.EncodeUsersRequest(
            domain=domain,
            users=[pb.User(histories=_histories_to_proto(histories)) for histories in users],
        )


def vector_question_to_proto(question: VectorQuestion) -> pb.SearchItemsRequest:
    """Convert a question.

    Raises:
        InvalidInputError: If a value is of a type or size that no message can hold, or both kinds
            of candidates are given.
    """
    with _representable():
        request = pb.SearchItemsRequest(
            domain=question.domain,
            vector=np.asarray(question.vector).astype(_FLOAT).tobytes(),
            k=question.k,
            exclude_item_ids=question.exclude_item_ids,
            filters=_filters_to_proto(question.filters),
        )
        _set_candidates(request, question)
    return request


def release_to_proto() -> pb.GetReleaseRequest:
    """Make the question of what is loaded."""
    return pb.GetReleaseRequest()


def health_to_proto() -> health_pb2.HealthCheckRequest:
    """Make the question whether the recommender serves."""
    return health_pb2.HealthCheckRequest(service=SERVICE)


def recommendation_from_proto(response: pb.RecommendResponse) -> Recommendation:
    """Convert an answer.

    Raises:
        RemoteError: If it rests on something this client does not know.
    """
    return Recommendation(
        items=_items(response.items),
        basis=_basis(response.basis),
        version=_version(response.version),
        unknown_history_items=response.unknown_history_items,
        unknown_candidates=response.unknown_candidates,
        ranks=tuple(ItemRank(rank.item_id, rank.score, rank.rank) for rank in response.ranks),
    )


def batch_from_proto(
    response: pb.BatchRecommendResponse, *, questions: int
) -> list[Recommendation]:
    """Convert the answers to that many questions.

    Raises:
        RemoteError: If there are more or fewer of them.
    """
    if len(response.responses) != questions:
        raise RemoteError(f"the server gave {len(response.responses)} answers to {questions}")
    return [recommendation_from_proto(each) for each in response.responses]


def encodings_from_proto(response: pb.EncodeUsersResponse, *, users: int) -> Encodings:
    """Convert the vectors of that many users.

    Raises:
        RemoteError: If the vectors are not as many, or not as wide, as they must be.
    """
    if len(response.bases) != users:
        raise RemoteError(f"the server encoded {len(response.bases)} users of {users}")
    return Encodings(
        gurs=_vectors(response.gurs, users, response.dimension),
        preferences=_vectors(response.preferences, users, response.dimension),
        bases=tuple(_basis(basis) for basis in response.bases),
        unknown_history_items=response.unknown_history_items,
        version=_version(response.version),
    )


def found_items_from_proto(response: pb.SearchItemsResponse) -> FoundItems:
    """Convert an answer."""
    return FoundItems(
        items=_items(response.items),
        version=_version(response.version),
        unknown_candidates=response.unknown_candidates,
    )


def release_from_proto(response: pb.GetReleaseResponse) -> ReleaseInfo:
    """Convert the description of a release."""
    return ReleaseInfo(
        version=_version(response.version),
        dataset=response.dataset,
        dimension=response.dimension,
        max_history=response.max_history,
        domains=tuple(
            DomainInfo(
                name=domain.name,
                items=domain.items,
                index_kind=domain.index_kind,
                candidate_sets=tuple(domain.candidate_sets),
                attributes={each.name: each.values for each in domain.attributes},
            )
            for domain in response.domains
        ),
    )


def health_from_proto(response: health_pb2.HealthCheckResponse) -> bool:
    """Say whether the answer is SERVING."""
    serving: bool = response.status == health_pb2.HealthCheckResponse.SERVING
    return serving


@contextmanager
def _representable() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the request cannot be written as a message: {error}") from None


def _histories_to_proto(histories: Histories) -> list[pb.History]:
    return [pb.History(domain=name, item_ids=ids) for name, ids in histories.items()]


def _filters_to_proto(filters: Sequence[Filter]) -> list[pb.Filter]:
    return [
        pb.Filter(attribute=each.attribute, values=each.values, negate=each.negate)
        for each in filters
    ]


def _set_candidates(
    request: pb.RecommendRequest | pb.SearchItemsRequest, question: Question | VectorQuestion
) -> None:
    items, name = question.candidate_items, question.candidate_set
    if items is not None and name is not None:
        raise InvalidInputError("candidate_items and candidate_set: give one of them at most")
    if items is not None:
        request.candidate_items.CopyFrom(pb.ItemList(item_ids=items))
    elif name is not None:
        request.candidate_set = name


def _items(items: Sequence[pb.ScoredItem]) -> tuple[ScoredItem, ...]:
    return tuple(ScoredItem(item.item_id, item.score) for item in items)


def _basis(basis: pb.Basis.ValueType) -> Basis:
    try:
        return _BASES[basis]
    except KeyError:
        raise RemoteError(
            f"the answer rests on {basis}, which this client does not know; upgrade it"
        ) from None


def _version(version: pb.Version) -> Version:
    return Version(version.release, version.model, version.index)


def _vectors(packed: bytes, users: int, dimension: int) -> Floats:
    if len(packed) != users * dimension * _FLOAT.itemsize:
        raise RemoteError(
            f"the server gave {len(packed)} bytes for {users} vectors of {dimension} numbers"
        )
    return np.frombuffer(packed, _FLOAT).astype(np.float32).reshape(users, dimension)
