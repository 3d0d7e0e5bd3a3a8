"""Filters by attributes, over the wire, beside the scores of all items and Python's sets."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from recguru.v1 import recommender_pb2 as pb

from tests.server.item_attributes import DECADES, GENRES, RARE, passing
from tests.server.request_making import ITEMS, SET
from tests.server.running import Serving, filtered, recommend, search, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILMS = ITEMS["films"]
HISTORIES = {"films": FILMS[3:9], "books": ["b0003"]}
WIDTH = 16


def by(attribute: str, *values: str, negate: bool = False) -> pb.Filter:
    return pb.Filter(attribute=attribute, values=values, negate=negate)


CASES = {
    "one value": [by("genre", "love")],
    "any of several values": [by("genre", "love", RARE, "nobody's")],
    "a value of several items have": [by("genre", RARE)],
    "several filters": [by("genre", "love", "crime"), by("decade", *DECADES[:3])],
    "one attribute twice": [by("genre", "crime"), by("genre", RARE)],
    "none of the values": [by("genre", "love", RARE, negate=True)],
    "the items without the attribute": [by("genre", *GENRES, RARE, negate=True)],
    "some and none": [by("genre", RARE), by("decade", "1950s", "1980s", negate=True)],
    "a value that no item has": [by("genre", "nobody's")],
    "not a value that no item has": [by("genre", "nobody's", negate=True)],
    "nothing": [by("genre", "love"), by("genre", "love", negate=True)],
}


CANDIDATES: dict[str, tuple[Sequence[str] | str | None, Sequence[str]]] = {
    "all": (None, FILMS),
    "set": (SET, FILMS[::3]),
    "listed": (FILMS[::-4], FILMS[::-4]),
}
"""What a request says, and which items that leaves."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(releases: Path) -> AsyncIterator[Serving]:
    async with serving(releases) as running:
        yield running


async def everything(running: Serving, request: pb.RecommendRequest) -> list[pb.ScoredItem]:
    """Rank all items as a request asks, whatever it says of candidates and filters."""
    bare = recommend(request.domain, {}, k=len(ITEMS[request.domain]))
    bare.histories.extend(request.histories)
    bare.exclude_history = False
    return list((await running.stub.Recommend(bare)).items)


@pytest.mark.parametrize("histories", [HISTORIES, {}], ids=["personalized", "popularity"])
@pytest.mark.parametrize(("candidates", "among"), CANDIDATES.values(), ids=CANDIDATES)
@pytest.mark.parametrize("filters", CASES.values(), ids=CASES)
async def test_an_answer_holds_what_passes_all_filters_in_the_order_it_had_without(
    running: Serving,
    filters: Sequence[pb.Filter],
    candidates: Sequence[str] | str | None,
    among: Sequence[str],
    histories: dict[str, list[str]],
) -> None:
    excluded, ranked = FILMS[20:60:2], FILMS[:40]
    request = filtered(
        recommend("films", histories, k=25, candidates=candidates, exclude=excluded, ranked=ranked),
        *filters,
    )

    answer = await running.stub.Recommend(request)

    allowed = passing("films", FILMS, filters) & set(among)
    allowed -= {*excluded, *histories.get("films", ())}
    order = [item for item in await everything(running, request) if item.item_id in allowed]
    assert [item.item_id for item in answer.items] == [item.item_id for item in order[:25]]
    assert [item.score for item in answer.items] == [item.score for item in order[:25]]
    scores = {item.item_id: item.score for item in order}
    assert [rank.rank for rank in answer.ranks] == [
        sum(score >= scores[item] for score in scores.values()) if item in scores else 0
        for item in ranked
    ]


@pytest.mark.parametrize("filters", CASES.values(), ids=CASES)
async def test_items_near_a_vector_are_found_among_those_that_pass(
    running: Serving, filters: Sequence[pb.Filter]
) -> None:
    packed = np.linspace(-1, 1, WIDTH).astype("<f4").tobytes()

    whole = await running.stub.SearchItems(search("films", packed, k=300))
    found = await running.stub.SearchItems(
        filtered(search("films", packed, k=300, exclude=FILMS[:9]), *filters)
    )

    allowed = passing("films", FILMS, filters) - set(FILMS[:9])
    assert list(found.items) == [item for item in whole.items if item.item_id in allowed]


async def test_filters_of_a_batch_are_each_its_own(running: Serving) -> None:
    requests = [
        filtered(recommend("films", HISTORIES, k=40), *filters) for filters in CASES.values()
    ]

    alone = [await running.stub.Recommend(request) for request in requests]
    batch = await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))

    for one, other in zip(alone, batch.responses, strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
