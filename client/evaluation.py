"""Offline evaluation: every question of a dataset, to a server or to a model in this process.

Both ways ask the same questions in the same batches and order, so they come to the same figures.
Shapes: Q questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import ne
from typing import Any, Protocol

import numpy as np

from client.client import RecommenderClient
from client.histories import shortened
from client.messages import Question, Recommendation
from model.bundle import Bundle
from model.console import Advance, progress
from model.data.dataset import Dataset
from model.errors import BadArtifactError, RemoteError
from model.evaluation.protocol import Questions, Scorer, Split, questions
from model.evaluation.ranking import Ranks, rank_in_process
from model.evaluation.report import make_report

DEPTH = 20
"""Items asked for in the full ranking: the deepest cut-off of the report."""


class Ranker(Protocol):
    """Whatever can be evaluated."""

    def rank(self, asked: Questions, *, batch: int, advance: Advance) -> Ranks:
        """Rank the target of each question.

        Args:
            asked: The questions.
            batch: Questions answered together.
            advance: Told of each batch that is done, in questions.
        """
        ...


@dataclass(frozen=True, slots=True)
class InProcess:
    """A model in this process."""

    scorer: Scorer

    def rank(self, asked: Questions, *, batch: int, advance: Advance) -> Ranks:
        """Rank by the scores of all items."""
        return rank_in_process(self.scorer, asked, batch=batch, advance=advance)


class OverTheWire:
    """A server, asked as any other client asks."""

    def __init__(self, client: RecommenderClient, dataset: Dataset) -> None:
        """Look at what the server has loaded.

        Raises:
            BadArtifactError: If its model was trained on another dataset.
            RecGuruError: If the server does not answer; see `client.calls.Caller.call`.
        """
        self._client = client
        self.release = client.get_release()
        check_dataset(
            f"the model of release {self.release.version.release} at {client.address}",
            self.release.dataset,
            dataset,
        )
        # One list a domain: looking an id up in the vocabulary's text costs twenty times as much.
        self._ids = {
            domain.name: np.array([None, *domain.vocabulary.ids], object)
            for domain in dataset.domains
        }

    def rank(self, asked: Questions, *, batch: int, advance: Advance) -> Ranks:
        """Rank by what the server answers: two batch calls for each batch of questions.

        A target that an approximate index misses counts as a miss, so that the index shows in the
        figures.

        Raises:
            RemoteError: If the server swaps its release meanwhile.
            RecGuruError: If it does not answer; see `client.calls.Caller.call`.
        """
        full = np.zeros(len(asked), np.int64)
        sampled = np.zeros(len(asked), np.int64)
        for places in asked.batches(batch):
            everything = self._answers([self._among_all(asked, place) for place in places])
            negatives = self._answers([self._among_negatives(asked, place) for place in places])
            for place, answer, narrow in zip(places, everything, negatives, strict=True):
                full[place] = rank_as_answered(answer)
                sampled[place] = narrow.ranks[0].rank
            advance(len(places))
        return Ranks(full, sampled)

    def _among_all(self, asked: Questions, place: int) -> Question:
        question = Question(
            domain=asked.domain,
            histories=self._histories(asked, place),
            k=DEPTH,
            exclude_item_ids=self._hidden(asked, place),
            rank_item_ids=[self._target(asked, place)],
        )
        return shortened(question, most=self.release.max_history)

    def _among_negatives(self, asked: Questions, place: int) -> Question:
        drawn = asked.negatives[place]
        target = self._target(asked, place)
        question = Question(
            domain=asked.domain,
            histories=self._histories(asked, place),
            k=1,
            candidate_items=[*self._ids[asked.domain][drawn[drawn > 0]].tolist(), target],
            exclude_history=False,
            rank_item_ids=[target],
        )
        return shortened(question, most=self.release.max_history)

    def _histories(self, asked: Questions, place: int) -> dict[str, list[str]]:
        known = asked.history(place)
        return {name: self._ids[name][rows].tolist() for name, rows in known.items()}

    def _hidden(self, asked: Questions, place: int) -> list[str]:
        """Name what the user has had and the server is not told of: it cannot come up either."""
        if not asked.cold:
            return []
        rows = asked.known[int(asked.users[place])]
        return list(dict.fromkeys(self._ids[asked.domain][rows].tolist()))

    def _target(self, asked: Questions, place: int) -> str:
        return str(self._ids[asked.domain][asked.targets[place]])

    def _answers(self, batch: Sequence[Question]) -> list[Recommendation]:
        answers = self._client.batch_recommend(batch)
        if answers[0].version != self.release.version:
            raise RemoteError(
                f"{self._client.address} swapped release {self.release.version.release} for "
                f"{answers[0].version.release} during the evaluation; run it again"
            )
        return answers


@dataclass(frozen=True, slots=True)
class System:
    """What is evaluated, and what the report says of it."""

    name: str
    """In a word."""
    ranker: Ranker
    release: str | None = None
    """Name of the release, where a server answers."""
    model: str | None = None
    """Digest of the bundle, where there is one."""


def over_the_wire(client: RecommenderClient, dataset: Dataset) -> System:
    """Make a server ready to be evaluated; see `OverTheWire` for what is raised."""
    ranker = OverTheWire(client, dataset)
    version = ranker.release.version
    return System("server", ranker, release=version.release, model=version.model)


def evaluate(
    system: System, dataset: Dataset, *, split: Split, seed: int, batch: int
) -> dict[str, Any]:
    """Ask every question of both domains, with progress on standard error.

    Shared users are asked a second time with their history in the domain hidden.

    Args:
        system: What is evaluated.
        dataset: Where the questions come from.
        split: Which of the held-out items is asked for.
        seed: What the sampled negatives are drawn with.
        batch: Questions answered together.

    Returns:
        The report, as `model.evaluation.report` describes it, and the digest of the bundle as
        `model`.
    """
    asked = [
        questions(dataset, domain.name, split=split, seed=seed, cold=cold)
        for domain in dataset.domains
        for cold in (False, True)
    ]
    with progress("evaluating", sum(map(len, asked))) as advance:
        ranks = [system.ranker.rank(each, batch=batch, advance=advance) for each in asked]
    report = make_report(
        list(zip(asked, ranks, strict=True)),
        dataset=dataset.digest,
        system=system.name,
        release=system.release,
    )
    return {**report, "model": system.model}


def check_dataset(model: str, trained_on: str, dataset: Dataset) -> None:
    """Refuse to evaluate a model on anything but the dataset it was trained on.

    What it was trained on may hold what another dataset keeps for the test.

    Args:
        model: What is to be evaluated, for the message.
        trained_on: The digest of the dataset behind the model.
        dataset: The dataset of the questions.

    Raises:
        BadArtifactError: If the two are not the same.
    """
    if trained_on != dataset.digest:
        raise BadArtifactError(
            f"{model} was trained on dataset {trained_on[:12]}, not on {dataset.digest[:12]}; "
            "evaluate it with the dataset it was trained on"
        )


def check_items(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse to score a dataset's rows with a bundle whose rows are other items.

    Raises:
        BadArtifactError: If its items are not the dataset's: it was updated after training.
    """
    for domain in dataset.domains:
        ids = bundle.domain(domain.name).vocabulary.ids
        if len(ids) != len(domain.vocabulary) or any(map(ne, ids, domain.vocabulary.ids)):
            raise BadArtifactError(
                f"bundle {bundle.folder} was updated: its items of {domain.name} are not the "
                "dataset's; evaluate its release with --server"
            )


def rank_as_answered(answer: Recommendation) -> int:
    """Return the exact rank of the first ranked item, or 0 if the list missed it.

    It is missed if it ranks among the first `DEPTH` and is not among the items of the answer.
    """
    target = answer.ranks[0]
    shown = any(item.item_id == target.item_id for item in answer.items)
    return target.rank if shown or target.rank > DEPTH else 0
