"""What the server answers, beside the bundle's networks and tables worked through slowly."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from recguru.v1 import recommender_pb2 as pb

from model.bundle import Bundle
from model.inference import BundleScorer, Inference
from tests.server.running import Serving, messages, recommend, search, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

Histories = Mapping[str, Sequence[str]]
READ = 12  # items of a history that the tiny bundle's networks read
BOTH = {"books": ["b0003", "b0001", "b0020"], "films": ["f0007", "f0100"]}
ABROAD = {"films": ["f0007", "f0100", "f0002"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(releases: Path) -> AsyncIterator[Serving]:
    async with serving(releases) as running:
        yield running


class Slow:
    """Answers from the scores of all items, in process and one item after the other."""

    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle.read(folder)
        self._scorer = BundleScorer(self.bundle)

    def scores(self, domain: str, histories: Histories) -> dict[str, float]:
        """Score every item of a domain by its id."""
        rows = {
            name: self.bundle.domain(name).vocabulary.rows(items)
            for name, items in histories.items()
        }
        known = {name: found[found > 0] for name, found in rows.items()}
        scores = self._scorer.scores(domain, [known])[0].tolist()
        return dict(zip(self.bundle.domain(domain).vocabulary.ids, scores[1:], strict=True))


@pytest.fixture(scope="module")
def slow(tiny_bundle: Path) -> Slow:
    return Slow(tiny_bundle)


def check(answer: Sequence[pb.ScoredItem], scores: Mapping[str, float], k: int) -> None:
    """Check that an answer holds the k best of the scores, in order."""
    best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    assert [item.item_id for item in answer] == best
    assert [item.score for item in answer] == pytest.approx(
        [scores[item] for item in best], abs=1e-5
    )


def without(scores: Mapping[str, float], items: Sequence[str]) -> dict[str, float]:
    return {item: score for item, score in scores.items() if item not in items}


@pytest.mark.parametrize(
    ("domain", "histories", "basis"),
    [
        ("books", BOTH, pb.BASIS_PERSONALIZED),
        ("books", {"books": ["b0005"]}, pb.BASIS_PERSONALIZED),
        ("films", BOTH, pb.BASIS_PERSONALIZED),
        ("books", ABROAD, pb.BASIS_CROSS_DOMAIN),
        ("books", {"books": ["nobody", "knows"], **ABROAD}, pb.BASIS_CROSS_DOMAIN),
        ("films", {}, pb.BASIS_POPULARITY),
        ("films", {"books": [], "films": ["nobody"]}, pb.BASIS_POPULARITY),
    ],
)
async def test_the_best_items_come_in_order_and_what_they_rest_on_is_said(
    running: Serving, slow: Slow, domain: str, histories: Histories, basis: pb.Basis.ValueType
) -> None:
    answer = await running.stub.Recommend(recommend(domain, histories))

    assert answer.basis == basis
    scores = slow.scores(domain, histories)
    check(answer.items, without(scores, histories.get(domain, ())), 10)


async def test_popularity_scores_are_shares_of_the_training_interactions(
    running: Serving, slow: Slow
) -> None:
    answer = await running.stub.Recommend(recommend("books", {}, k=40))

    shares = slow.bundle.domain("books").popularity[1:]
    assert len(answer.items) == 40
    assert sum(item.score for item in answer.items) == pytest.approx(1, abs=1e-5)
    assert answer.items[0].score == pytest.approx(shares.max())


async def test_the_history_is_answered_too_where_that_is_asked(
    running: Serving, slow: Slow
) -> None:
    request = recommend("books", BOTH, k=40)
    request.exclude_history = False

    answer = await running.stub.Recommend(request)

    check(answer.items, slow.scores("books", BOTH), 40)


async def test_all_of_a_long_history_is_kept_out_of_the_answer_though_its_end_is_read(
    running: Serving, slow: Slow
) -> None:
    items = [f"b{item:04d}" for item in range(30)]

    answer = await running.stub.Recommend(recommend("books", {"books": items}, k=40))

    scores = slow.scores("books", {"books": items[-READ:]})
    check(answer.items, without(scores, items), 40)
    assert len(answer.items) == 10


async def test_unknown_items_of_a_history_are_skipped_and_counted(running: Serving) -> None:
    muddled = {
        "books": ["nobody", "b0003", "b0001", "b0020", "f0007"],
        "films": ["f0007", "f0100", "knows"],
    }

    clear, answer = await asyncio.gather(
        running.stub.Recommend(recommend("books", BOTH)),
        running.stub.Recommend(recommend("books", muddled)),
    )

    assert clear.unknown_history_items == 0
    assert answer.unknown_history_items == 3
    assert [item.item_id for item in answer.items] == [item.item_id for item in clear.items]


async def test_only_candidates_are_answered_and_unknown_ones_are_counted(
    running: Serving, slow: Slow
) -> None:
    candidates = ["b0030", "nobody", "b0003", "b0010", "b0030", "knows", "b0002"]

    answer = await running.stub.Recommend(recommend("books", BOTH, candidates=candidates))

    scores = slow.scores("books", BOTH)
    check(answer.items, {item: scores[item] for item in ("b0030", "b0010", "b0002")}, 10)
    assert answer.unknown_candidates == 2


async def test_no_known_candidate_means_no_item_and_no_failure(running: Serving) -> None:
    answer = await running.stub.Recommend(
        recommend(
            "books",
            BOTH,
            candidates=["nobody", "knows"],
            ranked=["b0030"],
        )
    )

    assert (len(answer.items), answer.unknown_candidates) == (0, 2)
    assert list(answer.ranks) == [pb.ItemRank(item_id="b0030")]


async def test_a_candidate_set_of_the_release_restricts_the_answer(
    running: Serving, slow: Slow
) -> None:
    answer = await running.stub.Recommend(recommend("films", BOTH, k=200, candidates="every-third"))

    scores = slow.scores("films", BOTH)
    chosen = {item: scores[item] for item in list(scores)[::3]}
    check(answer.items, without(chosen, BOTH["films"]), 200)


async def test_excluded_items_are_never_answered(running: Serving, slow: Slow) -> None:
    scores = without(slow.scores("films", BOTH), BOTH["films"])
    best = sorted(scores, key=lambda item: -scores[item])[:5]

    answer = await running.stub.Recommend(recommend("films", BOTH, exclude=[*best, "nobody"]))

    check(answer.items, without(scores, best), 10)


async def test_ranks_count_the_other_allowed_items_that_score_as_high(
    running: Serving, slow: Slow
) -> None:
    scores = without(slow.scores("films", BOTH), [*BOTH["films"], "f0050"])
    order = sorted(scores, key=lambda item: -scores[item])
    asked = [order[0], "nobody", order[150], BOTH["films"][0], "f0050", order[-1]]

    answer = await running.stub.Recommend(
        recommend("films", BOTH, k=1, exclude=["f0050"], ranked=asked)
    )

    assert [rank.item_id for rank in answer.ranks] == asked
    assert [rank.rank for rank in answer.ranks] == [1, 0, 151, 0, 0, len(order)]
    assert [rank.score for rank in answer.ranks] == pytest.approx(
        [scores[asked[0]], 0, scores[asked[2]], 0, 0, scores[asked[5]]], abs=1e-5
    )


async def test_more_items_than_there_are_means_all_of_them(running: Serving, slow: Slow) -> None:
    answer = await running.stub.Recommend(recommend("books", ABROAD, k=1000))

    check(answer.items, slow.scores("books", ABROAD), 40)
    assert len(answer.items) == 40


def random_requests(count: int, slow: Slow) -> list[pb.RecommendRequest]:
    generator = np.random.default_rng(5)
    ids = {domain.name: list(domain.vocabulary.ids) for domain in slow.bundle.domains}
    return [
        recommend(
            str(generator.choice(["books", "films"])),
            {
                name: generator.choice(items, generator.integers(0, 20), replace=False).tolist()
                for name, items in ids.items()
            },
            k=int(generator.integers(1, 30)),
        )
        for _ in range(count)
    ]


def check_same(one: pb.RecommendResponse, other: pb.RecommendResponse) -> None:
    assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
    assert [item.score for item in one.items] == pytest.approx(
        [item.score for item in other.items], abs=1e-5
    )
    assert (one.basis, one.unknown_history_items) == (other.basis, other.unknown_history_items)


async def test_a_call_is_answered_alone_as_among_others(running: Serving, slow: Slow) -> None:
    requests = random_requests(150, slow)
    alone = [await running.stub.Recommend(request) for request in requests]

    together = await asyncio.gather(*(running.stub.Recommend(request) for request in requests))
    batch = await running.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))

    assert len(batch.responses) == len(requests)
    for place, answer in enumerate(alone):
        check_same(answer, together[place])
        check_same(answer, batch.responses[place])


async def test_a_batch_is_computed_as_one_pass_like_in_process(
    running: Serving, tiny_bundle: Path, slow: Slow
) -> None:
    generator = np.random.default_rng(6)
    rows = [
        {"films": generator.permutation(300)[: generator.integers(0, 30)].astype(np.int32) + 1}
        for _ in range(100)
    ]
    ids = slow.bundle.domain("films").vocabulary.ids
    users = [
        pb.User(histories=messages({"films": [ids[row - 1] for row in known["films"].tolist()]}))
        for known in rows
    ]

    answer = await running.stub.EncodeUsers(pb.EncodeUsersRequest(domain="books", users=users))

    encoded = Inference.load(Bundle.read(tiny_bundle), device="cpu").encode("books", rows)
    assert answer.gurs == encoded.gurs.tobytes()
    assert answer.preferences == encoded.preferences.tobytes()


async def test_vectors_of_a_user_nobody_knows_are_zeros(running: Serving) -> None:
    users = [
        pb.User(histories=messages(BOTH)),
        pb.User(histories=messages({"books": ["nobody"]})),
        pb.User(histories=messages(ABROAD)),
    ]

    answer = await running.stub.EncodeUsers(pb.EncodeUsersRequest(domain="books", users=users))

    gurs = np.frombuffer(answer.gurs, "<f4").reshape(3, answer.dimension)
    preferences = np.frombuffer(answer.preferences, "<f4").reshape(3, answer.dimension)
    assert answer.dimension == 16
    assert list(answer.bases) == [
        pb.BASIS_PERSONALIZED,
        pb.BASIS_POPULARITY,
        pb.BASIS_CROSS_DOMAIN,
    ]
    assert answer.unknown_history_items == 1
    assert gurs.any(axis=1).tolist() == preferences.any(axis=1).tolist() == [True, False, True]


async def test_batches_larger_than_a_pass_are_answered_in_full(
    releases: Path, running: Serving, slow: Slow
) -> None:
    requests = random_requests(11, slow)
    users = [pb.User(histories=request.histories) for request in requests]
    encode = pb.EncodeUsersRequest(domain="films", users=users)
    batch = pb.BatchRecommendRequest(requests=requests)
    async with serving(releases, queue={"max_pass_users": 4}) as small:
        parts = await small.stub.BatchRecommend(batch)
        vectors = await small.stub.EncodeUsers(encode)

    for one, other in zip(parts.responses, requests, strict=True):
        check_same(one, await running.stub.Recommend(other))
    whole = await running.stub.EncodeUsers(encode)
    assert np.frombuffer(vectors.preferences, "<f4") == pytest.approx(
        np.frombuffer(whole.preferences, "<f4"), abs=1e-5
    )
    assert (vectors.bases, vectors.unknown_history_items) == (whole.bases, 0)


async def test_a_user_of_a_later_pass_is_named_by_the_place_in_the_call(releases: Path) -> None:
    users = [pb.User(), pb.User(), pb.User(), pb.User(histories=messages({"music": ["m1"]}))]
    async with serving(releases, queue={"max_pass_users": 2}) as small:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await small.stub.EncodeUsers(pb.EncodeUsersRequest(domain="films", users=users))

    assert (failure.value.details() or "").startswith("users[3].histories: domain 'music'")


async def test_a_search_finds_the_items_with_the_highest_inner_product(
    running: Serving, slow: Slow
) -> None:
    vector = np.random.default_rng(8).normal(size=16).astype(np.float32)
    table = slow.bundle.domain("films").item_table[1:].astype(np.float64)
    scores = dict(
        zip(slow.bundle.domain("films").vocabulary.ids, (table @ vector).tolist(), strict=True)
    )
    packed = vector.astype("<f4").tobytes()

    everything, some = await asyncio.gather(
        running.stub.SearchItems(search("films", packed, k=20, exclude=["f0004"])),
        running.stub.SearchItems(
            search("films", packed, k=20, candidates=["f0004", "nobody", "f0001"])
        ),
    )

    check(everything.items, without(scores, ["f0004"]), 20)
    check(some.items, {item: scores[item] for item in ("f0004", "f0001")}, 20)
    assert (everything.unknown_candidates, some.unknown_candidates) == (0, 1)


async def test_the_loaded_release_is_described_and_every_answer_names_it(
    running: Serving, releases: Path, slow: Slow
) -> None:
    info = await running.stub.GetRelease(pb.GetReleaseRequest())
    one = await running.stub.Recommend(recommend("books", BOTH))
    vectors = await running.stub.EncodeUsers(
        pb.EncodeUsersRequest(domain="books", users=[pb.User()])
    )
    found = await running.stub.SearchItems(search("books", bytes(64), k=1))

    assert (releases / info.version.release / "manifest.json").exists()
    assert info.version.model == slow.bundle.digest
    assert len(info.version.index) == 64
    assert info.dataset == slow.bundle.dataset
    assert (info.dimension, info.max_history) == (16, READ)
    assert list(info.domains) == [
        pb.Domain(
            name="books",
            items=40,
            index_kind="flat",
            candidate_sets=["every-third"],
            attributes=[pb.Attribute(name="genre", values=4)],
        ),
        pb.Domain(
            name="films",
            items=300,
            index_kind="flat",
            candidate_sets=["every-third"],
            attributes=[
                pb.Attribute(name="decade", values=7),
                pb.Attribute(name="genre", values=4),
            ],
        ),
    ]
    assert one.version == vectors.version == found.version == info.version
