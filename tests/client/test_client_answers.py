"""What the client gives, beside the bundle's own networks and tables; and what it raises."""

from pathlib import Path

import numpy as np
import pytest

from client.client import RecommenderClient
from client.messages import Basis, Filter, Question, VectorQuestion
from client.settings import ClientSettings
from model.bundle import Bundle
from model.errors import (
    BadSettingError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    RemoteError,
)
from model.inference import BundleScorer, Inference
from server.releases import Current
from tests.client.serving import server_in_thread, service_in_thread

BOTH = {"books": ["b0003", "b0001", "b0020"], "films": ["f0007", "nobody knows this"]}


def by_hand(folder: Path, histories: dict[str, list[str]]) -> list[tuple[float, str]]:
    """Score all books for one user in this process, the best first, then by id."""
    bundle = Bundle.read(folder)
    rows = {name: bundle.domain(name).vocabulary.rows(ids) for name, ids in histories.items()}
    known = {name: found[found > 0] for name, found in rows.items()}
    scores = BundleScorer(bundle).scores("books", [known])[0, 1:]
    ids = bundle.domain("books").vocabulary.ids
    return sorted(zip(scores.tolist(), ids, strict=True), key=lambda pair: (-pair[0], pair[1]))


def test_a_recommendation_is_what_the_bundle_scores_highest(
    client: RecommenderClient, tiny_bundle: Path
) -> None:
    answer = client.recommend(Question(domain="books", histories=BOTH, k=7))

    expected = [pair for pair in by_hand(tiny_bundle, BOTH) if pair[1] not in BOTH["books"]][:7]
    assert [item.item_id for item in answer.items] == [item_id for _, item_id in expected]
    scores = [score for score, _ in expected]
    assert [item.score for item in answer.items] == pytest.approx(scores, rel=1e-5, abs=1e-6)
    assert answer.basis is Basis.PERSONALIZED
    assert answer.unknown_history_items == 1
    assert answer.version.model == Bundle.read(tiny_bundle).digest


def test_every_field_of_a_question_reaches_the_server(
    client: RecommenderClient, tiny_bundle: Path
) -> None:
    order = [item_id for _, item_id in by_hand(tiny_bundle, BOTH)]
    seen, worst, best = BOTH["books"][0], order[-1], order[0]

    among = client.recommend(
        Question(
            domain="books",
            histories=BOTH,
            candidate_items=[worst, best, seen, "unknown"],
            exclude_item_ids=[best],
            exclude_history=False,
            rank_item_ids=[worst, best],
        )
    )
    named = client.recommend(Question(domain="books", histories=BOTH, candidate_set="first"))

    assert [item.item_id for item in among.items] == [seen, worst]
    assert among.unknown_candidates == 1
    assert [(rank.item_id, rank.rank) for rank in among.ranks] == [(worst, 2), (best, 0)]
    assert {item.item_id for item in named.items} == {"b0000", "b0002", "b0004"}


def test_filters_reach_the_server_in_every_call(client: RecommenderClient) -> None:
    # Colours of books, over and over from b0000: red, dark green and red, none, blue.
    green = Filter(attribute="colour", values=["dark green", "nobody's"])
    neither = Filter(attribute="colour", values=["red", "blue"], negate=True)
    asked = [
        Question(domain="books", k=40, filters=[green]),
        Question(domain="books", histories=BOTH, k=40, filters=[neither]),
        Question(domain="books", k=40, filters=[green, neither]),
    ]
    vector = VectorQuestion(domain="books", vector=np.ones(16, np.float32), k=40, filters=[neither])

    answers = [client.recommend(each) for each in asked]
    batch = client.batch_recommend(asked)
    found = client.search_items(vector)

    expected = [{f"b{place:04d}" for place in range(first, 40, 4)} for first in (1, 2)]
    assert [{item.item_id for item in answer.items} for answer in answers] == [*expected, set()]
    for one, other in zip(answers, batch, strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
    assert {item.item_id for item in found.items} == expected[1]


def test_the_basis_says_what_was_known(client: RecommenderClient) -> None:
    asked = [
        Question(domain="books", histories=histories, k=1)
        for histories in (BOTH, {"films": ["f0007"]}, {"films": ["unknown"]})
    ]

    bases = [answer.basis for answer in client.batch_recommend(asked)]

    assert bases == [Basis.PERSONALIZED, Basis.CROSS_DOMAIN, Basis.POPULARITY]


def test_a_batch_answers_in_the_order_of_its_questions(client: RecommenderClient) -> None:
    asked = [
        Question(domain="films", histories={"films": ["f0001"]}, k=3),
        Question(domain="books", histories=BOTH, k=2),
        Question(domain="films", k=4),
    ]

    batch = client.batch_recommend(asked)

    for question, answer in zip(asked, batch, strict=True):
        single = client.recommend(question)
        assert [each.item_id for each in answer.items] == [each.item_id for each in single.items]


def test_vectors_are_those_of_the_bundle_and_find_the_same_items(
    client: RecommenderClient, tiny_bundle: Path
) -> None:
    bundle = Bundle.read(tiny_bundle)
    rows = {name: bundle.domain(name).vocabulary.rows(ids) for name, ids in BOTH.items()}
    expected = Inference.load(bundle, device="cpu").encode(
        "books", [{name: found[found > 0] for name, found in rows.items()}, {}]
    )

    encoded = client.encode_users("books", [BOTH, {}])
    found = client.search_items(
        VectorQuestion(domain="books", vector=encoded.preferences[0], exclude_item_ids=["b0003"])
    )
    answer = client.recommend(
        Question(domain="books", histories=BOTH, exclude_item_ids=["b0003"], exclude_history=False)
    )

    np.testing.assert_allclose(encoded.gurs, expected.gurs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoded.preferences, expected.preferences, rtol=1e-5, atol=1e-6)
    assert encoded.gurs.dtype == np.float32
    assert encoded.bases == (Basis.PERSONALIZED, Basis.POPULARITY)
    assert encoded.unknown_history_items == 1
    assert [item.item_id for item in found.items] == [item.item_id for item in answer.items]


def test_the_release_is_described(
    client: RecommenderClient, tiny_bundle: Path, release_root: Path
) -> None:
    release = client.get_release()

    bundle = Bundle.read(tiny_bundle)
    assert release.dataset == bundle.dataset
    assert release.version.model == bundle.digest
    assert (release_root / release.version.release).is_dir()
    assert (release.dimension, release.max_history) == (16, 12)
    described = [(each.name, each.items, each.candidate_sets) for each in release.domains]
    assert described == [("books", 40, ("first",)), ("films", 300, ("first",))]
    assert [each.attributes for each in release.domains] == [{"colour": 3}, {}]


@pytest.mark.parametrize(
    ("question", "kind", "message"),
    [
        (Question(domain="books", k=0), InvalidInputError, "k: is 0; it may be 1 to 1000"),
        (
            Question(domain="cars"),
            NotFoundError,
            "domain: 'cars' is unknown; the release has books, films",
        ),
        (
            Question(domain="books", candidate_set="last"),
            NotFoundError,
            "candidate_set: 'last' is unknown; domain 'books' has first",
        ),
        (
            Question(domain="books", filters=[Filter(attribute="color", values=["red"])]),
            NotFoundError,
            "filters[0].attribute: 'color' is unknown; domain 'books' has colour",
        ),
        (
            Question(domain="films", filters=[Filter(attribute="colour", values=["red"])]),
            NotFoundError,
            "filters[0].attribute: 'colour' is unknown; domain 'films' has none",
        ),
        (
            Question(domain="books", filters=[Filter(attribute="colour", values=[])]),
            InvalidInputError,
            "filters[0].values: holds 0; a filter may hold 1 to 64",
        ),
        (
            Question(domain="books", candidate_set="first", candidate_items=["b0001"]),
            InvalidInputError,
            "candidate_items and candidate_set: give one of them at most",
        ),
        (
            Question(domain="books", k=2**40),
            InvalidInputError,
            "the request cannot be written as a message: Value out of range: 1099511627776",
        ),
    ],
)
def test_a_bad_question_is_refused_with_the_reason(
    client: RecommenderClient, question: Question, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as refused:
        client.recommend(question)

    assert type(refused.value) is kind
    assert str(refused.value) == message


def test_a_request_that_the_server_finds_too_large_is_the_callers_mistake(
    release_root: Path,
) -> None:
    with (
        server_in_thread(release_root, max_message_bytes=1024) as server,
        RecommenderClient(f"127.0.0.1:{server.port}") as client,
        pytest.raises(InvalidInputError) as refused,
    ):
        client.recommend(Question(domain="books", exclude_item_ids=["x" * 500] * 3))

    expected = f"Recommend: the request is larger than 127.0.0.1:{server.port} accepts"
    assert str(refused.value) == expected


def test_an_answer_larger_than_allowed_names_the_setting(address: str) -> None:
    settings = ClientSettings(max_message_bytes=1024)
    with (
        RecommenderClient(address, settings) as client,
        pytest.raises(RemoteError) as refused,
    ):
        client.recommend(Question(domain="films", k=300))

    assert str(refused.value) == (
        "the answer to Recommend is larger than 1024 bytes; raise max_message_bytes"
    )


def test_a_server_without_a_release_is_not_ready() -> None:
    with (
        service_in_thread(Current()) as address,
        RecommenderClient(address, ClientSettings(attempts=1)) as client,
        pytest.raises(NotReadyError) as refused,
    ):
        client.get_release()

    assert str(refused.value) == (
        f"{address} is not ready to answer GetRelease: no release is loaded yet; try again later"
    )


def test_health_is_what_the_server_says_of_itself(client: RecommenderClient) -> None:
    assert client.is_serving()
    with (
        service_in_thread(Current(), serving=False) as address,
        RecommenderClient(address) as other,
    ):
        assert not other.is_serving()


@pytest.mark.parametrize(
    "address",
    [
        *("localhost", "localhost:", ":50051", "localhost:0", "a:b", "localhost:\u0665"),
        *("http://localhost:50051", "::1:50051", "local host:50051", "localhost\n:50051"),
        *("dns:///:50051", "ipv4:127.0.0.1,127.0.0.1:50051", "ipv6:::1:50051", "ipv4::50051"),
    ],
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(BadSettingError) as refused:
        RecommenderClient(address)

    assert str(refused.value) == f"server address {address!r} must be HOST:PORT"


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1"),
        *("ipv4:127.0.0.1:1,127.0.0.1:2", "ipv6:[::1]:1,[::2]:65535"),
    ],
)
def test_every_kind_of_address_is_taken(address: str) -> None:
    RecommenderClient(address).close()
