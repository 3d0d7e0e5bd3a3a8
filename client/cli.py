"""`recguru recommend` and `recguru evaluate`."""

import enum
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.connection_flags import (
    Config,
    Release,
    Tls,
    TlsAuthority,
    TlsCa,
    TlsCertificate,
    TlsKey,
    TokenFile,
    client_settings,
)
from model.console import limit_threads, make_app, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from client.evaluation import System
    from client.messages import Filter, Question
    from client.settings import ClientSettings
    from model.data.dataset import Dataset
    from model.evaluation.protocol import Scorer

    Opened = Iterator[System]

app = make_app("Ask a running server, and evaluate.")


class Split(enum.StrEnum):
    """The held-out item that is asked for."""

    TEST = "test"
    VALIDATION = "validation"


class Baseline(enum.StrEnum):
    """A system without learned parameters."""

    POPULARITY = "popularity"
    COOCCURRENCE = "co-occurrence"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
History = Annotated[
    list[str] | None,
    typer.Option(metavar="DOMAIN=ID,ID", help="What the user did, oldest first; repeatable."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="ATTRIBUTE=VALUE|VALUE",
        help="Only items with one of these values, with none of them where it is !=; repeatable.",
    ),
]


@app.command()
def recommend(  # noqa: PLR0913  # every flag is a parameter
    *,
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="A running `recguru serve`.")],
    domain: Annotated[str, typer.Option(help="The domain whose items are ranked.")],
    history: History = None,
    user: Annotated[
        str | None, typer.Option(help="Take the histories of this user of --data instead.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset folder: titles, and the histories of --user.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items wanted.")] = 10,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Never this item; repeatable.")
    ] = None,
    candidate_set: Annotated[
        str | None, typer.Option(help="Only items of this set of the release.")
    ] = None,
    only: Only = None,
    json: Json = False,
    config: Config = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_authority: TlsAuthority = None,
    token_file: TokenFile = None,
    release: Release = None,
) -> None:
    """Rank the items of a domain for one user.

    The histories are those of --history, or all that --data knows of --user; without any, the most
    popular items are answered. An id that holds a comma cannot be given by --history.

    \b
    Example:
      recguru recommend --server localhost:50051 --domain books --history films=f12,f7 -k 5
      recguru recommend --server localhost:50051 --domain books --data dataset --user u42
      recguru recommend --server localhost:50051 --domain books --filter "genre=crime|horror"
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    if user is not None and (data is None or history):
        raise typer.BadParameter("needs --data, and no --history", param_hint="--user")
    files = {"ca": tls_ca, "certificate": tls_certificate, "key": tls_key}
    settings = client_settings(config, files, tls_authority, token_file, tls=tls, release=release)
    histories = _given(history or [])
    filters = _given_filters(only or [])

    from client.messages import Question

    question = Question(
        domain=domain,
        histories=histories,
        k=k,
        candidate_set=candidate_set,
        exclude_item_ids=exclude or [],
        filters=filters,
    )
    _show_answer(question, (server, settings), data, user, json=json)


@app.command()
def evaluate(  # noqa: PLR0913  # every flag is a parameter
    *,
    data: Annotated[Path, typer.Option(help="The dataset folder the model was trained on.")],
    out: Annotated[Path, typer.Option(help="Where the report goes, as JSON.")],
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ask a running `recguru serve`.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Score in this process: the folder RUN/bundle.")
    ] = None,
    baseline: Annotated[
        Baseline | None, typer.Option(help="Score by a system without learned parameters.")
    ] = None,
    split: Annotated[Split, typer.Option(help="The held-out item asked for.")] = Split.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sampled negatives.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 64,
    json: Json = False,
    config: Config = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_authority: TlsAuthority = None,
    token_file: TokenFile = None,
    release: Release = None,
) -> None:
    """Rank every held-out item of a dataset; give exactly one of --server, --bundle, --baseline.

    Leave-one-out: each user's last item is to be found among all items of its domain ("full") and
    among 200 sampled negatives ("sampled"). A server and its bundle come to the same figures.

    \b
    Example:
      recguru evaluate --data dataset --server localhost:50051 --out report.json
      recguru evaluate --data dataset --bundle run/bundle --out report.json --json
      recguru evaluate --data dataset --baseline popularity --out popularity.json
    """  # noqa: D301  # the backspace keeps the lines of the example apart
    files = {"ca": tls_ca, "certificate": tls_certificate, "key": tls_key}
    settings = client_settings(config, files, tls_authority, token_file, tls=tls, release=release)

    opened = _system(server, bundle, baseline, settings)
    limit_threads()

    from client.evaluation import evaluate as ask_everything
    from model.data.dataset import Dataset
    from model.evaluation.report import print_report, write_report
    from model.files import check_place

    dataset = Dataset.read(data)
    check_place(out)
    with opened(dataset) as system:
        report = ask_everything(system, dataset, split=split.value, seed=seed, batch=batch)
    write_report(out, report)
    if json:
        print_json(report)
    else:
        print_report(report)
        typer.echo(f"report in {out}")


def _given(history: list[str]) -> "dict[str, list[str]]":
    from client.histories import parse_histories
    from model.errors import InvalidInputError

    try:
        return parse_histories(history)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error), param_hint="--history") from None


def _given_filters(only: list[str]) -> "list[Filter]":
    from client.filters import parse_filters
    from model.errors import InvalidInputError

    try:
        return parse_filters(only)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error), param_hint="--filter") from None


def _show_answer(
    question: "Question",
    server: "tuple[str, ClientSettings]",
    data: Path | None,
    user: str | None,
    *,
    json: bool,
) -> None:
    from client.answer import Titles, as_json, as_lines
    from client.client import RecommenderClient
    from client.histories import known_histories, shortened
    from model.data.dataset import Dataset

    dataset = Dataset.read(data, verify=False) if data is not None else None
    if dataset is not None and user is not None:
        question = replace(question, histories=known_histories(dataset, user))
    with RecommenderClient(*server) as client:
        most = None if user is None else client.get_release().max_history
        answer = client.recommend(question if most is None else shortened(question, most=most))
    titles = Titles(dataset)
    if json:
        print_json(as_json(question, answer, titles))
    else:
        typer.echo("\n".join(as_lines(question, answer, titles)))


def _system(
    server: str | None, bundle: Path | None, baseline: Baseline | None, settings: "ClientSettings"
) -> "Callable[[Dataset], AbstractContextManager[System]]":
    match server, bundle, baseline:
        case str(), None, None:
            return partial(_from_server, server, settings)
        case None, Path(), None:
            return partial(_from_bundle, bundle)
        case None, None, Baseline():
            return partial(_from_baseline, baseline)
    raise typer.BadParameter("give exactly one", param_hint="--server, --bundle, --baseline")


@contextmanager
def _from_server(address: str, settings: "ClientSettings", dataset: "Dataset") -> "Opened":
    from client.client import RecommenderClient
    from client.evaluation import over_the_wire

    with RecommenderClient(address, settings) as client:
        yield over_the_wire(client, dataset)


@contextmanager
def _from_bundle(folder: Path, dataset: "Dataset") -> "Opened":
    from client.evaluation import InProcess, System, check_dataset, check_items
    from model.bundle import Bundle
    from model.inference import BundleScorer

    bundle = Bundle.read(folder)
    check_dataset(f"bundle {folder}", bundle.dataset, dataset)
    check_items(bundle, dataset)
    yield System("bundle", InProcess(BundleScorer(bundle)), model=bundle.digest)


@contextmanager
def _from_baseline(baseline: Baseline, dataset: "Dataset") -> "Opened":
    from client.evaluation import InProcess, System
    from model.baselines.cooccurrence import Cooccurrence, CooccurrenceSettings
    from model.baselines.popularity import Popularity, PopularitySettings
    from model.data.training_data import TrainingData

    data = TrainingData.of(dataset)
    scorer: Scorer
    if baseline is Baseline.POPULARITY:
        scorer = Popularity.fit(data, PopularitySettings(), seed=0)
    else:
        plain = CooccurrenceSettings(
            decay=1.0, last=None, smoothing=0.0
        )  # as `docs/results.md` states it
        scorer = Cooccurrence.fit(data, plain, seed=0)
    yield System(baseline.value, InProcess(scorer))
