"""Protobuf on one side, `server.messages` on the other; nothing else knows both.

Everything about a request that can be checked without the release is checked here. Messages begin
with the path of the field, as in `requests[3].histories[0].item_ids`. A vector is D little-endian
float32 numbers.
"""

from collections.abc import Sequence

import numpy as np
from recguru.v1 import recommender_pb2 as pb

from indexer.attributes import MAX_VALUE_BYTES
from model.arrays import Floats
from model.basis import Basis
from model.data.vocabulary import MAX_ID_BYTES
from model.errors import InvalidInputError
from server.config import MAX_HISTORIES, MAX_RANKED, RequestLimits
from server.messages import (
    Choice,
    EncodeQuestion,
    Encodings,
    Filter,
    Histories,
    ItemRank,
    Ranking,
    Recommendation,
    RecommendQuestion,
    ReleaseInfo,
    SearchQuestion,
    SearchResult,
    Version,
    shown,
)

_FLOAT = np.dtype("<f4")
_MOST_BYTES_A_CHARACTER = 4
_BASES = {
    Basis.PERSONALIZED: pb.BASIS_PERSONALIZED,
    Basis.CROSS_DOMAIN: pb.BASIS_CROSS_DOMAIN,
    Basis.POPULARITY: pb.BASIS_POPULARITY,
}


def recommend_from_proto(request: pb.RecommendRequest, limits: RequestLimits) -> RecommendQuestion:
    """Check and convert a request.

    Raises:
        InvalidInputError: Naming the field and its limit.
    """
    return RecommendQuestion(
        domain=_name(request.domain, "domain"),
        histories=_histories(request.histories, limits),
        choice=_choice(request, limits),
        exclude_history=request.exclude_history if request.HasField("exclude_history") else True,
        rank_item_ids=_item_ids(request.rank_item_ids, "rank_item_ids", MAX_RANKED),
    )


def user_from_proto(user: pb.User, limits: RequestLimits) -> Histories:
    """Check and convert one user of a request.

    Raises:
        InvalidInputError: Naming the field and its limit.
    """
    return _histories(user.histories, limits)


def encode_from_proto(request: pb.EncodeUsersRequest, users: Sequence[Histories]) -> EncodeQuestion:
    """Check and convert a request whose users are converted already.

    Raises:
        InvalidInputError: If it names no domain.
    """
    return EncodeQuestion(domain=_name(request.domain, "domain"), users=users)


def search_from_proto(request: pb.SearchItemsRequest, limits: RequestLimits) -> SearchQuestion:
    """Check and convert a request.

    Raises:
        InvalidInputError: Naming the field and its limit.
    """
    return SearchQuestion(
        domain=_name(request.domain, "domain"),
        vector=_vector(request.vector),
        choice=_choice(request, limits),
    )


def check_batch(size: int, field: str, limits: RequestLimits) -> None:
    """Check how many parts a batch has.

    Raises:
        InvalidInputError: If there are none or too many.
    """
    if not 1 <= size <= limits.max_batch:
        raise InvalidInputError(f"{field}: holds {size}; a call may hold 1 to {limits.max_batch}")


def recommendation_to_proto(answer: Recommendation) -> pb.RecommendResponse:
    """Convert an answer."""
    return pb.RecommendResponse(
        items=_items(answer.ranking),
        version=_version(answer.version),
        basis=_BASES[answer.basis],
        unknown_history_items=answer.unknown_history_items,
        unknown_candidates=answer.unknown_candidates,
        ranks=[_rank(rank) for rank in answer.ranks],
    )


def encodings_to_proto(parts: Sequence[Encodings]) -> pb.EncodeUsersResponse:
    """Convert the answers for the parts of one call, all of the same version, into one."""
    return pb.EncodeUsersResponse(
        dimension=parts[0].gurs.shape[1],
        gurs=b"".join(_packed(part.gurs) for part in parts),
        preferences=b"".join(_packed(part.preferences) for part in parts),
        bases=[_BASES[basis] for part in parts for basis in part.bases],
        unknown_history_items=sum(part.unknown_history_items for part in parts),
        version=_version(parts[0].version),
    )


def search_result_to_proto(answer: SearchResult) -> pb.SearchItemsResponse:
    """Convert an answer."""
    return pb.SearchItemsResponse(
        items=_items(answer.ranking),
        version=_version(answer.version),
        unknown_candidates=answer.unknown_candidates,
    )


def release_to_proto(info: ReleaseInfo) -> pb.GetReleaseResponse:
    """Convert the description of a release."""
    domains = [
        pb.Domain(
            name=domain.name,
            items=domain.items,
            index_kind=domain.index_kind,
            candidate_sets=domain.candidate_sets,
            attributes=[
                pb.Attribute(name=name, values=values) for name, values in domain.attributes.items()
            ],
        )
        for domain in info.domains
    ]
    return pb.GetReleaseResponse(
        version=_version(info.version),
        dataset=info.dataset,
        dimension=info.dimension,
        max_history=info.max_history,
        domains=domains,
    )


def _name(name: str, field: str) -> str:
    if not name:
        raise InvalidInputError(f"{field}: must be given")
    return name


def _histories(messages: Sequence[pb.History], limits: RequestLimits) -> Histories:
    if len(messages) > MAX_HISTORIES:
        raise InvalidInputError(
            f"histories: holds {len(messages)}; at most {MAX_HISTORIES} are allowed"
        )
    histories: dict[str, Sequence[str]] = {}
    for place, message in enumerate(messages):
        field = f"histories[{place}]"
        domain = _name(message.domain, f"{field}.domain")
        if domain in histories:
            raise InvalidInputError(f"{field}.domain: {shown(domain)} is given twice")
        histories[domain] = _item_ids(
            message.item_ids, f"{field}.item_ids", limits.max_history_items
        )
    return histories


def _choice(request: pb.RecommendRequest | pb.SearchItemsRequest, limits: RequestLimits) -> Choice:
    if not 1 <= request.k <= limits.max_k:
        raise InvalidInputError(f"k: is {request.k}; it may be 1 to {limits.max_k}")
    items, name = None, None
    if request.HasField("candidate_items"):
        items = _item_ids(
            request.candidate_items.item_ids, "candidate_items.item_ids", limits.max_candidates
        )
        if not items:
            raise InvalidInputError(
                "candidate_items.item_ids: holds 0 ids; leave candidates unset to rank all items"
            )
    elif request.HasField("candidate_set"):
        name = _name(request.candidate_set, "candidate_set")
    return Choice(
        k=request.k,
        candidate_items=items,
        candidate_set=name,
        exclude_item_ids=_item_ids(
            request.exclude_item_ids, "exclude_item_ids", limits.max_exclusions
        ),
        filters=_filters(request.filters, limits) if request.filters else (),
    )


def _filters(messages: Sequence[pb.Filter], limits: RequestLimits) -> list[Filter]:
    most = limits.max_filters
    if len(messages) > most:
        raise InvalidInputError(f"filters: holds {len(messages)}; at most {most} are allowed")
    return [
        Filter(
            attribute=_name(message.attribute, f"filters[{place}].attribute"),
            values=_values(message.values, f"filters[{place}].values", limits.max_filter_values),
            negate=message.negate,
        )
        for place, message in enumerate(messages)
    ]


def _values(values: Sequence[str], field: str, most: int) -> list[str]:
    if not 1 <= len(values) <= most:
        raise InvalidInputError(f"{field}: holds {len(values)}; a filter may hold 1 to {most}")
    for place, value in enumerate(values):
        size = len(value.encode())
        if not 1 <= size <= MAX_VALUE_BYTES:
            raise InvalidInputError(
                f"{field}[{place}]: has {size} bytes; a value has 1 to {MAX_VALUE_BYTES}"
            )
    return list(values)


def _item_ids(item_ids: Sequence[str], field: str, most: int) -> list[str]:
    if len(item_ids) > most:
        raise InvalidInputError(f"{field}: holds {len(item_ids)} ids; at most {most} are allowed")
    found = list(item_ids)
    longest = max(map(len, found), default=0)
    if longest * _MOST_BYTES_A_CHARACTER > MAX_ID_BYTES or not all(found):
        _check_ids(found, field)
    return found


def _check_ids(item_ids: Sequence[str], field: str) -> None:
    for place, item_id in enumerate(item_ids):
        size = len(item_id.encode())
        if not 1 <= size <= MAX_ID_BYTES:
            raise InvalidInputError(
                f"{field}[{place}]: has {size} bytes; an id has 1 to {MAX_ID_BYTES}"
            )


def _vector(packed: bytes) -> Floats:
    if not packed or len(packed) % _FLOAT.itemsize:
        raise InvalidInputError(
            f"vector: holds {len(packed)} bytes; it must be {_FLOAT.itemsize} for each number"
        )
    vector = np.frombuffer(packed, _FLOAT).astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(vector))
    if len(wrong):
        raise InvalidInputError(f"vector: number {wrong[0]} is {vector[wrong[0]]}, not finite")
    return vector


def _packed(vectors: Floats) -> bytes:
    return vectors.astype(_FLOAT, copy=False).tobytes()


def _items(ranking: Ranking) -> list[pb.ScoredItem]:
    return [
        pb.ScoredItem(item_id=item_id, score=score)
        for item_id, score in zip(ranking.item_ids, ranking.scores, strict=True)
    ]


def _rank(rank: ItemRank) -> pb.ItemRank:
    return pb.ItemRank(item_id=rank.item_id, score=rank.score, rank=rank.rank)


def _version(version: Version) -> pb.Version:
    return pb.Version(release=version.release, model=version.model, index=version.index)
