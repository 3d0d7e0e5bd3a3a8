"""The compute thread: everything that touches a model or an index happens on it, in passes.

Each kind of work has its own bounded queue; the queues take turns, one pass each. A second thread
would only fight the first for its core: more cores are used by more processes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from model.errors import RecGuruError
from server.batcher import Batcher
from server.call import Lane
from server.config import QueueLimits
from server.engine import Engine
from server.messages import (
    EncodeQuestion,
    Encodings,
    Recommendation,
    RecommendQuestion,
    SearchQuestion,
    SearchResult,
)
from server.metrics import Metrics
from server.releases import Current

Q = TypeVar("Q")
A = TypeVar("A")

Recommended = list[Recommendation | RecGuruError]
RecommendPasses = Batcher[tuple[Engine, Sequence[RecommendQuestion]], Recommended]
EncodePasses = Batcher[tuple[Engine, EncodeQuestion], Encodings]


class Compute:
    """Asks the engine, on the compute thread.

    Single questions are gathered and answered by the release that is current in their lane when
    their pass begins. Questions of a batch call name the engine, so that all its passes are of one
    release. `until_s` is the caller's deadline on the clock of `time.monotonic`; what has not begun
    by then is dropped.
    """

    def __init__(self, current: Current, limits: QueueLimits, metrics: Metrics) -> None:
        self._current = current
        self._max_pass_users = limits.max_pass_users
        self._executor = executor = ThreadPoolExecutor(1, thread_name_prefix="compute")

        def queue(
            name: str,
            forward: Callable[[Sequence[Q]], Sequence[A | Exception]],
            *,
            users_of: Callable[[Q], int] | None = None,
        ) -> Batcher[Q, A]:
            """Make a queue of single questions, or of parts of batch calls, a pass each."""
            passes = users_of is not None

            def on_pass(
                items: Sequence[Q], waits_s: Sequence[float], seconds: float, waiting: int
            ) -> None:
                users = len(items) if users_of is None else sum(map(users_of, items))
                metrics.pass_ended(name, waits_s, seconds, users=users, waiting=waiting)

            return Batcher(
                forward,
                executor=executor,
                max_items=1 if passes else limits.max_users,
                max_pending=limits.max_pending_passes if passes else limits.max_pending,
                max_wait_s=(limits.max_pass_wait_ms if passes else limits.max_wait_ms) / 1000,
                on_pass=on_pass,
            )

        self._recommend: Batcher[tuple[Lane, RecommendQuestion], Recommendation] = queue(
            "recommend", self._recommend_gathered
        )
        self._search: Batcher[tuple[Lane, SearchQuestion], SearchResult] = queue(
            "search", self._search_gathered
        )
        self._recommend_passes: RecommendPasses = queue(
            "batch_recommend", _recommend_each, users_of=lambda part: len(part[1])
        )
        self._encode_passes: EncodePasses = queue(
            "encode", _encode_each, users_of=lambda part: len(part[1].users)
        )

    async def recommend(
        self, question: RecommendQuestion, lane: Lane, *, until_s: float
    ) -> Recommendation:
        """Answer one question, in one pass with others that wait.

        Raises:
            RecGuruError: Why there is no answer.
        """
        return await self._recommend.submit((lane, question), until_s=until_s)

    async def search(self, question: SearchQuestion, lane: Lane, *, until_s: float) -> SearchResult:
        """Answer one question, in one pass with others that wait.

        Raises:
            RecGuruError: Why there is no answer.
        """
        return await self._search.submit((lane, question), until_s=until_s)

    async def recommend_all(
        self, questions: Sequence[RecommendQuestion], lane: Lane, *, until_s: float
    ) -> Recommended:
        """Answer the questions of one call in passes of their own.

        Returns:
            For each question its answer, or why it has none.

        Raises:
            RecGuruError: Why there is no answer at all.
        """
        engine = self._current.chosen(lane)
        outcomes: Recommended = []
        for first in range(0, len(questions), self._max_pass_users):
            part = questions[first : first + self._max_pass_users]
            outcomes += await self._recommend_passes.submit((engine, part), until_s=until_s)
        return outcomes

    async def encode(
        self, question: EncodeQuestion, lane: Lane, *, until_s: float
    ) -> list[Encodings]:
        """Encode the users of one call in passes of their own; one answer for each pass.

        Raises:
            RecGuruError: Why there is no answer.
        """
        engine = self._current.chosen(lane)
        parts: list[Encodings] = []
        for first in range(0, len(question.users), self._max_pass_users):
            users = question.users[first : first + self._max_pass_users]
            part = EncodeQuestion(domain=question.domain, users=users, first=first)
            parts.append(await self._encode_passes.submit((engine, part), until_s=until_s))
        return parts

    def close(self) -> None:
        """Let the pass that runs end, and drop what waits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _recommend_gathered(
        self, asked: Sequence[tuple[Lane, RecommendQuestion]]
    ) -> list[Recommendation | Exception]:
        return self._by_lane(asked, lambda engine, questions: engine.recommend(questions))

    def _search_gathered(
        self, asked: Sequence[tuple[Lane, SearchQuestion]]
    ) -> list[SearchResult | Exception]:
        return self._by_lane(asked, lambda engine, questions: engine.search(questions))

    def _by_lane(
        self,
        asked: Sequence[tuple[Lane, Q]],
        ask: Callable[[Engine, Sequence[Q]], Sequence[A | RecGuruError]],
    ) -> list[A | Exception]:
        """Ask the engine of each lane its questions; answers in the order of these.

        What fails as a whole in one lane fails there alone: nobody pays for what others try out.
        """
        outcomes: dict[int, A | Exception] = {}
        for lane in Lane:
            places = [place for place, (chosen, _) in enumerate(asked) if chosen is lane]
            if not places:
                continue
            try:
                answers = ask(self._current.chosen(lane), [asked[place][1] for place in places])
            except Exception as error:  # noqa: BLE001  # whatever it is belongs to these callers
                outcomes.update(dict.fromkeys(places, error))
            else:
                outcomes.update(zip(places, answers, strict=True))
        return [outcomes[place] for place in range(len(asked))]


def _recommend_each(
    parts: Sequence[tuple[Engine, Sequence[RecommendQuestion]]],
) -> list[Recommended]:
    return [engine.recommend(questions) for engine, questions in parts]


def _encode_each(parts: Sequence[tuple[Engine, EncodeQuestion]]) -> list[Encodings]:
    return [engine.encode(question) for engine, question in parts]
