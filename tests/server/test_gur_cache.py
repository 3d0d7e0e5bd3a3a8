"""Users who ask again are not encoded again, and no answer tells whether they were."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from recguru.v1 import recommender_pb2 as pb

from indexer.publish import LATEST, latest
from model.files import write_bytes_atomically
from server.engine import Engine
from server.messages import Choice, Recommendation, RecommendQuestion
from server.run import Server
from tests.server.running import WAIT_S, Serving, messages, recommend, serving
from tests.server.three_domains import ITEMS, MAX_HISTORY, item_ids, release_of

POLL_S = 0.05
HEARD = {"songs": ["s0003", "s0001", "s0117"]}
SEEN = {"films": ["f0004", "f0200"], **HEARD}


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a release root whose networks read other domains for newcomers alone."""
    return release_of(tmp_path_factory.mktemp("cold") / "made", "cold")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a release root whose networks read every GUR there is."""
    return release_of(tmp_path_factory.mktemp("both") / "made", "both")


def lookups(server: Server) -> tuple[int, int]:
    """Read how many GURs were found kept, and how many were not."""
    said = generate_latest(server.metrics.registry).decode()
    counts = {
        sample.labels["result"]: int(sample.value)
        for family in text_string_to_metric_families(said)
        for sample in family.samples
        if sample.name == "recguru_gur_cache_lookups_total"
    }
    return counts["hit"], counts["miss"]


async def ask(running: Serving, request: pb.RecommendRequest) -> pb.RecommendResponse:
    answer: pb.RecommendResponse = await running.stub.Recommend(request, timeout=WAIT_S)
    return answer


async def test_every_gur_that_is_read_is_looked_up_and_counted(both: Path) -> None:
    async with serving(both) as running:
        assert lookups(running.server) == (0, 0)  # the probe counts as nobody
        await ask(running, recommend("films", SEEN))
        assert lookups(running.server) == (0, 2)
        await ask(running, recommend("films", SEEN))
        assert lookups(running.server) == (2, 2)
        await ask(running, recommend("books", HEARD))
        assert lookups(running.server) == (3, 2)
        await ask(running, recommend("songs", {"songs": HEARD["songs"][:2]}))
        assert lookups(running.server) == (3, 3)
        users = [pb.User(histories=messages(each)) for each in (SEEN, HEARD, {})]
        request = pb.EncodeUsersRequest(domain="books", users=users)
        await running.stub.EncodeUsers(request, timeout=WAIT_S)
        assert lookups(running.server) == (6, 3)


async def test_users_known_in_the_target_domain_cost_no_look_where_only_newcomers_have_a_gur_read(
    cold: Path,
) -> None:
    async with serving(cold) as running:
        for _ in range(2):
            await ask(running, recommend("films", SEEN))
            await ask(running, recommend("songs", SEEN))
            await ask(running, recommend("books", {}))
        assert lookups(running.server) == (0, 0)
        for _ in range(2):
            await ask(running, recommend("films", HEARD))
        assert lookups(running.server) == (1, 1)


async def test_without_entries_nothing_is_kept_or_counted(both: Path) -> None:
    async with serving(both, gur_cache_entries=0) as running:
        for _ in range(2):
            await ask(running, recommend("films", SEEN))
        assert lookups(running.server) == (0, 0)


async def test_a_new_release_answers_by_gurs_of_its_own(tmp_path: Path) -> None:
    root = release_of(tmp_path / "made", "cold", seed=1)
    before = latest(root)
    release_of(tmp_path / "made", "cold", seed=2)
    after = latest(root)
    _point(root, before)
    old, new = _alone(before), _alone(after)
    async with serving(root, poll_s=POLL_S) as running:
        for _ in range(2):
            _check(await ask(running, recommend("books", HEARD)), old)
        assert lookups(running.server) == (1, 1)
        for folder, expected, counted in ((after, new, (1, 2)), (before, old, (1, 3))):
            _point(root, folder)
            await _serves(running, folder)
            _check(await ask(running, recommend("books", HEARD)), expected)
            assert lookups(running.server) == counted
    assert list(old.ranking.item_ids) != list(new.ranking.item_ids)


@pytest.mark.parametrize("entries", [2, 8192])
async def test_answers_are_the_same_with_a_cache_and_without(both: Path, entries: int) -> None:
    requests = _requests()
    async with (
        serving(both, gur_cache_entries=0) as plain,
        serving(both, gur_cache_entries=entries) as keeping,
    ):
        for request in requests:
            _same(await ask(keeping, request), await ask(plain, request))
        batch = pb.BatchRecommendRequest(requests=requests)
        found = await keeping.stub.BatchRecommend(batch, timeout=WAIT_S)
        expected = await plain.stub.BatchRecommend(batch, timeout=WAIT_S)
        for one, other in zip(found.responses, expected.responses, strict=True):
            _same(one, other)
        users = [pb.User(histories=request.histories) for request in requests]
        encode = pb.EncodeUsersRequest(domain="songs", users=users)
        vectors = await keeping.stub.EncodeUsers(encode, timeout=WAIT_S)
        others = await plain.stub.EncodeUsers(encode, timeout=WAIT_S)
        hits, misses = lookups(keeping.server)
    assert vectors.bases == others.bases
    for kept, made in ((vectors.gurs, others.gurs), (vectors.preferences, others.preferences)):
        numbers = np.frombuffer(kept, "<f4")
        np.testing.assert_allclose(numbers, np.frombuffer(made, "<f4"), rtol=0, atol=1e-5)
    assert min(hits, misses) > 10


def _requests() -> list[pb.RecommendRequest]:
    """Write requests of few users, who so come again, for any domain."""
    generator = np.random.default_rng(9)
    users = [
        {name: _drawn(name, generator) for name in ITEMS if generator.random() < 0.7}
        for _ in range(12)
    ]
    return [
        recommend(str(generator.choice(list(ITEMS))), users[user])
        for user in generator.integers(len(users), size=80)
    ]


def _drawn(domain: str, generator: np.random.Generator) -> list[str]:
    ids = item_ids(domain)
    size = generator.integers(1, 2 * MAX_HISTORY)
    return [ids[item] for item in generator.integers(len(ids), size=size)]


def _alone(folder: Path) -> Recommendation:
    question = RecommendQuestion(domain="books", histories=HEARD, choice=Choice(k=10))
    answer = Engine.load(folder, device="cpu").recommend([question])[0]
    assert isinstance(answer, Recommendation)
    return answer


def _check(answer: pb.RecommendResponse, expected: Recommendation) -> None:
    assert answer.version.release == expected.version.release
    _check_items(answer.items, expected.ranking.item_ids, expected.ranking.scores)


def _same(one: pb.RecommendResponse, other: pb.RecommendResponse) -> None:
    assert one.basis == other.basis
    items = other.items
    _check_items(one.items, [each.item_id for each in items], [each.score for each in items])


def _check_items(
    items: Sequence[pb.ScoredItem], item_ids: Sequence[str], scores: Sequence[float]
) -> None:
    assert [item.item_id for item in items] == list(item_ids)
    assert [item.score for item in items] == pytest.approx(list(scores), rel=0, abs=1e-5)


def _point(root: Path, version: Path) -> None:
    write_bytes_atomically(root / LATEST, f"{version.name}\n".encode())


async def _serves(running: Serving, folder: Path) -> None:
    """Wait until a release answers."""

    async def version() -> str:
        info = await running.stub.GetRelease(pb.GetReleaseRequest(), timeout=WAIT_S)
        return info.version.release

    async with asyncio.timeout(WAIT_S):
        while await version() != folder.name:  # noqa: ASYNC110  # the server is to be asked
            await asyncio.sleep(POLL_S)
