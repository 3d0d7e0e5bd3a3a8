"""One loaded release: the networks and the indexes that answer together, and their version.

Shapes: B users, D width, V items of a domain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from indexer.milvus_api import MilvusSettings
from indexer.placement import index_device
from indexer.release import Release
from indexer.search import DomainIndex, Found, Query
from indexer.spec import GpuUse
from model.arrays import Floats, Rows
from model.basis import Basis
from model.errors import (
    BadArtifactError,
    InvalidInputError,
    NotFoundError,
    RecGuruError,
    UnavailableIndexError,
)
from model.gur_cache import GurCache
from model.inference import Inference
from model.settings import DeviceChoice
from server.messages import (
    Choice,
    DomainInfo,
    EncodeQuestion,
    Encodings,
    Histories,
    ItemRank,
    Ranking,
    Recommendation,
    RecommendQuestion,
    ReleaseInfo,
    SearchQuestion,
    SearchResult,
    Version,
    listed,
    located,
    shown,
)
from server.picks import Pick, pick

Q = TypeVar("Q", RecommendQuestion, SearchQuestion)
P = TypeVar("P")
A = TypeVar("A")

_PROBE_ITEMS = 3
_NO_MILVUS = MilvusSettings()
_NOTHING: Rows = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class _Known:
    """A user's histories as far as the model knows them."""

    rows: dict[str, Rows]
    """By domain, oldest first, domains without a known item left out."""
    unknown: int


@dataclass(frozen=True, slots=True)
class _Task:
    """A `RecommendQuestion` in rows."""

    question: RecommendQuestion
    known: _Known
    pick: Pick


@dataclass(frozen=True, slots=True)
class _Hunt:
    """A `SearchQuestion` in rows."""

    question: SearchQuestion
    pick: Pick


class Engine:
    """Answers questions from one release. Not safe for use by two threads at once."""

    def __init__(self, release: Release, inference: Inference) -> None:
        self._inference = inference
        self._indexes = release.indexes
        self.info = _describe(release, inference)
        self.version = self.info.version

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: DeviceChoice,
        gpus: GpuUse = "first",
        milvus: MilvusSettings = _NO_MILVUS,
    ) -> Self:
        """Load a release folder whole, every file checked against its digest.

        Args:
            folder: The release folder.
            device: `auto`, `cpu` or `cuda`.
            gpus: What the indexes make of several GPUs; the networks are on the first.
            milvus: Where Milvus runs, for a release whose index is kept there.

        Raises:
            NotFoundError: If it is no release folder.
            BadArtifactError: If something in it must not be used; the file is named.
            UnavailableDeviceError: If the device is not there.
            UnavailableIndexError: If Milvus does not answer.
        """
        place = index_device(device, gpus)
        release = Release.read(folder, device=place, threads=1, milvus=milvus)
        return cls(release, Inference.load(release.bundle, device=device))

    def keep_gurs(self, entries: int, on_lookups: Callable[[int, int], None]) -> None:
        """Keep GURs for users who ask again from now on; with 0 entries keep none.

        Answers stay as they are but for rounding: a GUR that is kept was made in another batch.
        For the arguments see `GurCache`.
        """
        self._inference.gur_cache = GurCache(entries, on_lookups) if entries else None

    def recommend(
        self, questions: Sequence[RecommendQuestion]
    ) -> list[Recommendation | RecGuruError]:
        """Answer questions, those of one domain as one pass through the networks, in their order.

        Returns:
            For each question its answer, or why it has none: `NotFoundError` for an unknown domain,
            candidate set or attribute.
        """
        return self._answered(questions, self._task, self._recommend)

    def encode(self, question: EncodeQuestion) -> Encodings:
        """Encode users as one pass through the networks.

        Raises:
            NotFoundError: If the target domain, or that of a history, is unknown.
        """
        self._index(question.domain)
        known = []
        for place, histories in enumerate(question.users):
            try:
                known.append(self._known(histories))
            except RecGuruError as error:
                raise located(error, f"users[{question.first + place}]") from None
        encoded = self._inference.encode(question.domain, [user.rows for user in known])
        self._check(encoded.gurs)
        self._check(encoded.preferences)
        return Encodings(
            gurs=encoded.gurs,
            preferences=encoded.preferences,
            bases=encoded.bases,
            unknown_history_items=sum(user.unknown for user in known),
            version=self.version,
        )

    def search(self, questions: Sequence[SearchQuestion]) -> list[SearchResult | RecGuruError]:
        """Find items near vectors.

        Returns:
            For each question its answer, or why it has none: `NotFoundError` for an unknown domain,
            candidate set or attribute, `InvalidInputError` for a vector of another width.
        """
        return self._answered(questions, self._hunt, self._search)

    def probe(self) -> None:
        """Answer a real question on every basis in every domain, to see that the release can.

        Raises:
            BadArtifactError: If an answer is not what it must be.
            UnavailableIndexError: If an index is kept elsewhere, and does not answer.
        """
        items = {name: index.vocabulary.ids[:_PROBE_ITEMS] for name, index in self._indexes.items()}
        crossed = Basis.CROSS_DOMAIN if self._inference.reads_others else Basis.POPULARITY
        for domain in items:
            elsewhere = {name: ids for name, ids in items.items() if name != domain}
            self._probe(domain, items, Basis.PERSONALIZED)
            self._probe(domain, elsewhere, crossed if elsewhere else Basis.POPULARITY)
            self._probe(domain, {}, Basis.POPULARITY)

    def _probe(self, domain: str, histories: Histories, basis: Basis) -> None:
        question = RecommendQuestion(
            domain=domain,
            histories=histories,
            choice=Choice(k=_PROBE_ITEMS),
            exclude_history=False,
        )
        place = f"release {self.version.release}: the {basis.value} probe of domain {shown(domain)}"
        outcome = self.recommend([question])[0]
        if isinstance(outcome, UnavailableIndexError):
            raise outcome
        if isinstance(outcome, RecGuruError):
            raise BadArtifactError(f"{place} failed: {outcome}")
        if outcome.basis is not basis:
            raise BadArtifactError(f"{place} was answered as {outcome.basis.value}")
        if not outcome.ranking.item_ids or not np.isfinite(outcome.ranking.scores).all():
            raise BadArtifactError(f"{place} found no items with finite scores")

    def _answered(
        self,
        questions: Sequence[Q],
        prepare: Callable[[Q], P],
        compute: Callable[[str, Sequence[P]], Sequence[A]],
    ) -> list[A | RecGuruError]:
        """Prepare each question by itself, then compute those of one domain together."""
        outcomes: dict[int, A | RecGuruError] = {}
        groups: dict[str, dict[int, P]] = {}
        for place, question in enumerate(questions):
            try:
                prepared = prepare(question)
            except RecGuruError as error:
                outcomes[place] = error
            else:
                groups.setdefault(question.domain, {})[place] = prepared
        for domain, members in groups.items():
            answers = _each(domain, list(members.values()), compute)
            outcomes.update(zip(members, answers, strict=True))
        return [outcomes[place] for place in range(len(questions))]

    def _task(self, question: RecommendQuestion) -> _Task:
        index = self._index(question.domain)
        known = self._known(question.histories)
        read = known.rows.get(question.domain, _NOTHING)
        more = read if question.exclude_history else _NOTHING
        return _Task(question, known, pick(index, question.choice, more))

    def _recommend(self, domain: str, tasks: Sequence[_Task]) -> list[Recommendation]:
        index = self._index(domain)
        preferred = self._inference.prefer(domain, [task.known.rows for task in tasks])
        self._check(preferred.preferences)
        queries = [
            Query(
                vector=None if basis is Basis.POPULARITY else vector,
                k=task.question.choice.k,
                candidates=task.pick.candidates,
                excluded=task.pick.excluded,
                ranked=index.vocabulary.rows(task.question.rank_item_ids),
            )
            for task, basis, vector in zip(
                tasks, preferred.bases, preferred.preferences, strict=True
            )
        ]
        return [
            Recommendation(
                ranking=self._ranking(domain, found),
                version=self.version,
                basis=basis,
                unknown_history_items=task.known.unknown,
                unknown_candidates=task.pick.unknown_candidates,
                ranks=_ranks(task.question.rank_item_ids, found),
            )
            for task, basis, found in zip(
                tasks, preferred.bases, index.search(queries), strict=True
            )
        ]

    def _check(self, vectors: Floats) -> None:
        if not np.isfinite(vectors).all():
            release = self.version.release
            raise BadArtifactError(f"release {release}: its networks give numbers not finite")

    def _hunt(self, question: SearchQuestion) -> _Hunt:
        picked = pick(self._index(question.domain), question.choice, _NOTHING)
        width = self.info.dimension
        if len(question.vector) != width:
            raise InvalidInputError(
                f"vector: holds {len(question.vector)} numbers; the release's dimension is {width}"
            )
        return _Hunt(question, picked)

    def _search(self, domain: str, hunts: Sequence[_Hunt]) -> list[SearchResult]:
        queries = [
            Query(
                vector=hunt.question.vector,
                k=hunt.question.choice.k,
                candidates=hunt.pick.candidates,
                excluded=hunt.pick.excluded,
            )
            for hunt in hunts
        ]
        return [
            SearchResult(
                ranking=self._ranking(domain, found),
                version=self.version,
                unknown_candidates=hunt.pick.unknown_candidates,
            )
            for hunt, found in zip(hunts, self._index(domain).search(queries), strict=True)
        ]

    def _index(self, domain: str, what: str = "domain:") -> DomainIndex:
        index = self._indexes.get(domain)
        if index is None:
            known = listed(self._indexes)
            raise NotFoundError(f"{what} {shown(domain)} is unknown; the release has {known}")
        return index

    def _known(self, histories: Histories) -> _Known:
        rows: dict[str, Rows] = {}
        unknown = 0
        for domain, item_ids in histories.items():
            found = self._index(domain, "histories: domain").vocabulary.rows(item_ids)
            known = found[found > 0]
            unknown += len(found) - len(known)
            if len(known):
                rows[domain] = known
        return _Known(rows, unknown)

    def _ranking(self, domain: str, found: Found) -> Ranking:
        return Ranking(
            item_ids=self._index(domain).vocabulary.ids.take(found.rows - 1),
            scores=found.scores.tolist(),
        )


def _each(
    domain: str, tasks: Sequence[P], compute: Callable[[str, Sequence[P]], Sequence[A]]
) -> Sequence[A | RecGuruError]:
    """Compute together; where an index does not answer, each alone: some do not need it."""
    try:
        return compute(domain, tasks)
    except UnavailableIndexError as error:
        if len(tasks) == 1:
            return [error]
    return [_each(domain, [task], compute)[0] for task in tasks]


def _ranks(item_ids: Sequence[str], found: Found) -> list[ItemRank]:
    return [
        ItemRank(item_id, score, rank)
        for item_id, score, rank in zip(
            item_ids, found.ranked_scores.tolist(), found.ranks.tolist(), strict=True
        )
    ]


def _describe(release: Release, inference: Inference) -> ReleaseInfo:
    domains = [
        DomainInfo(
            name=name,
            items=len(release.indexes[name].vocabulary),
            index_kind=release.indexes[name].kind,
            candidate_sets=sorted(release.indexes[name].candidate_sets),
            attributes={
                attribute: len(values)
                for attribute, values in sorted(release.indexes[name].attributes.items())
            },
        )
        for name in inference.domains
    ]
    return ReleaseInfo(
        version=Version(release.version, release.bundle.digest, release.digest),
        dataset=release.dataset,
        dimension=inference.width,
        max_history=inference.max_history,
        domains=domains,
    )
