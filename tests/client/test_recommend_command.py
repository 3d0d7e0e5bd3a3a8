"""`recguru recommend` for people and for programs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from client.client import RecommenderClient
from client.filters import parse_filters
from client.histories import known_histories, parse_histories, shortened
from client.messages import Filter, Question
from model.bundle import Bundle
from model.data.dataset import Dataset
from model.errors import InvalidInputError, NotFoundError
from tests.commands import Command

HEAVY = [
    "client.client", "client.messages", "client.evaluation", "client.histories", "client.answer",
    "client.filters", "client.cli",
]  # fmt: skip


def test_the_answer_is_printed_with_titles_basis_and_version(
    recguru: Command, address: str, tiny_dataset: Path, tiny_bundle: Path
) -> None:
    ask = Question(domain="books", histories={"films": ["f0004", "f0009"]}, k=2)
    with RecommenderClient(address) as client:
        answer = client.recommend(ask)

    done = recguru(
        "recommend", "--server", address, "--domain", "books", "--data", tiny_dataset, "-k", 2,
        "--history", "films=f0004", "--history", "films=f0009",
    )  # fmt: skip

    first, second = answer.items
    release, model = answer.version.release, Bundle.read(tiny_bundle).digest[:12]
    width = max(len(f"{item.score:.4f}") for item in answer.items)
    assert done.code == 0, done.errors
    assert done.output.splitlines() == [
        "history in films, 2 items:",
        "  -  f0004  films no. f0004",
        "  -  f0009  films no. f0009",
        f"recommended from books, basis CROSS_DOMAIN, release {release}, model {model}:",
        f"   1  {first.score:{width}.4f}  {first.item_id}  books no. {first.item_id}",
        f"   2  {second.score:{width}.4f}  {second.item_id}  books no. {second.item_id}",
    ]


def test_json_holds_the_whole_answer(recguru: Command, address: str) -> None:
    done = recguru(
        "recommend", "--server", address, "--domain", "films", "--history", "films=f0001,nobody",
        "--exclude", "f0000", "--candidate-set", "first", "--json",
    )  # fmt: skip

    shown = json.loads(done.output)
    assert {item["item_id"] for item in shown["items"]} == {"f0002", "f0003", "f0004"}
    assert shown["basis"] == "PERSONALIZED"
    assert shown["unknown_history_items"] == 1
    assert set(shown["version"]) == {"release", "model", "index"}
    assert [item["item_id"] for item in shown["histories"]["films"]] == ["f0001", "nobody"]


def test_a_user_of_the_dataset_brings_all_that_is_known(
    recguru: Command, address: str, tiny_dataset: Path
) -> None:
    dataset = Dataset.read(tiny_dataset)
    books = dataset.domain("books")
    longest = int(books.sequences.lengths.argmax())
    user = books.users[longest]
    everything = known_histories(dataset, user)
    assert len(everything["books"]) > 12  # more than the model reads

    done = recguru(
        "recommend", "--server", address, "--domain", "books", "--data", tiny_dataset,
        "--user", user, "-k", "40", "--json",
    )  # fmt: skip

    with RecommenderClient(address) as client:
        answer = client.recommend(Question(domain="books", histories=everything, k=40))
    assert [item["item_id"] for item in json.loads(done.output)["items"]] == [
        item.item_id for item in answer.items
    ]
    assert len(answer.items) == 40 - len(set(everything["books"]))


def test_histories_go_on_where_a_domain_is_given_again() -> None:
    given = ["books=b1,b2", "films=f1", "books=b3"]

    assert parse_histories(given) == {"books": ["b1", "b2", "b3"], "films": ["f1"]}


@pytest.mark.parametrize("text", ["books", "books=", "=b1", "books=b1,,b2"])
def test_a_history_without_domain_or_ids_is_wrong_usage(
    recguru: Command, address: str, text: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_histories([text])
    done = recguru("recommend", "--server", address, "--domain", "books", "--history", text)

    message = f"history {text!r} must be DOMAIN=ID,ID,... without empty ids"
    assert str(refused.value) == message
    assert done.code == 2
    assert message in done.errors


def test_filters_are_given_with_their_values_and_negated_by_an_exclamation_mark(
    recguru: Command, address: str
) -> None:
    done = recguru(
        "recommend", "--server", address, "--domain", "books", "-k", "99", "--json",
        "--filter", "colour=dark green|blue", "--filter", "colour!=red",
    )  # fmt: skip

    assert done.code == 0, done.errors
    # Of the colours red, dark green and red, none, blue, over and over from b0000.
    expected = {f"b{place:04d}" for place in range(3, 40, 4)}
    assert {item["item_id"] for item in json.loads(done.output)["items"]} == expected


def test_a_filter_is_split_at_its_first_sign_and_its_bars() -> None:
    assert parse_filters(["a=b", "c!=d|e=f", "g.h-1!=!i"]) == [
        Filter(attribute="a", values=["b"]),
        Filter(attribute="c", values=["d", "e=f"], negate=True),
        Filter(attribute="g.h-1", values=["!i"], negate=True),
    ]


@pytest.mark.parametrize("text", ["colour", "=red", "!=red", "colour=", "colour=red||blue", ""])
def test_a_filter_without_attribute_or_values_is_wrong_usage(
    recguru: Command, address: str, text: str
) -> None:
    done = recguru("recommend", "--server", address, "--domain", "books", "--filter", text)

    assert done.code == 2
    assert "--filter" in done.errors
    with pytest.raises(InvalidInputError, match="must be ATTRIBUTE=VALUE"):
        parse_filters([text])


def test_an_attribute_nobody_has_is_one_line_of_error(recguru: Command, address: str) -> None:
    done = recguru("recommend", "--server", address, "--domain", "films", "--filter", "a=b")

    assert done.code == 1
    assert done.errors == ("error: filters[0].attribute: 'a' is unknown; domain 'films' has none\n")


def test_a_user_needs_a_dataset(recguru: Command, address: str) -> None:
    done = recguru("recommend", "--server", address, "--domain", "books", "--user", "u000")

    assert done.code == 2
    assert "--user: needs --data, and no --history" in done.errors


def test_a_user_nobody_knows_is_an_error(tiny_dataset: Path) -> None:
    with pytest.raises(NotFoundError) as unknown:
        known_histories(Dataset.read(tiny_dataset), "nobody")

    assert str(unknown.value) == "user 'nobody' is in no domain of the dataset"


def test_what_the_model_does_not_read_is_sent_as_exclusions() -> None:
    histories = {"books": ["a", "b", "a", "c", "d"], "films": ["x", "y", "z"]}
    question = Question(domain="books", histories=histories, exclude_item_ids=["e"])

    sent = shortened(question, most=2)
    with_history = shortened(replace(question, exclude_history=False), most=2)

    assert sent.histories == with_history.histories == {"books": ["c", "d"], "films": ["y", "z"]}
    assert sent.exclude_item_ids == ["e", "a", "b"]
    assert with_history.exclude_item_ids == ["e"]


def test_an_unknown_domain_is_one_line_of_error(recguru: Command, address: str) -> None:
    done = recguru("recommend", "--server", address, "--domain", "cars")

    assert done.code == 1
    assert done.errors == "error: domain: 'cars' is unknown; the release has books, films\n"


def test_the_client_needs_neither_torch_nor_faiss_nor_polars() -> None:
    script = f"import sys, {', '.join(HEAVY)}; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    loaded = {name.strip("'[] ") for name in done.stdout.split(",")}
    assert "client.evaluation" in loaded
    assert not {"torch", "faiss", "polars", "matplotlib"} & loaded


def test_commands_load_grpc_only_when_they_run() -> None:
    script = "import sys, recguru_cli; print('grpc' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "False False\n"
