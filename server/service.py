"""The calls of `recguru.v1.Recommender`: message to question, to the compute thread, and back."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc

from model.errors import RecGuruError
from server import call as calls
from server import wire
from server.call import KEY, RELEASE, Lane
from server.compute import Compute
from server.config import RequestLimits
from server.messages import Recommendation, RecommendQuestion, SearchResult, located
from server.metrics import Metrics
from server.releases import Current

NAME = pb.DESCRIPTOR.services_by_name["Recommender"].full_name

M = TypeVar("M")
Q = TypeVar("Q")
A = TypeVar("A", Recommendation, SearchResult)

_PARTS_AT_ONCE = 16
"""Parts of a batch converted before other calls have their turn on the event loop."""

Context = grpc.aio.ServicerContext[Any, Any]  # the stubs' own context type is private


class RecommenderService(pb_grpc.RecommenderServicer):
    """Answers calls; failures leave it as exceptions, see `server.guard`."""

    def __init__(
        self, current: Current, compute: Compute, limits: RequestLimits, metrics: Metrics
    ) -> None:
        self._current = current
        self._compute = compute
        self._limits = limits
        self._metrics = metrics

    async def Recommend(  # noqa: N802  # the contract's name
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Rank the items of one domain for one user."""
        question = wire.recommend_from_proto(request, self._limits)
        until_s = _until_s(context)
        answer, lane = await self._answered(
            lambda lane: self._compute.recommend(question, lane, until_s=until_s)
        )
        self._count(question, answer, lane)
        return wire.recommendation_to_proto(answer)

    async def BatchRecommend(  # noqa: N802  # the contract's name
        self, request: pb.BatchRecommendRequest, context: Context
    ) -> pb.BatchRecommendResponse:
        """Rank the items for several users."""
        questions = await self._converted(request.requests, "requests", wire.recommend_from_proto)
        lane = self._lane(_named_release())
        outcomes = await self._compute.recommend_all(questions, lane, until_s=_until_s(context))
        answers = []
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, RecGuruError):
                raise located(outcome, f"requests[{place}]")
            answers.append(outcome)
        responses = []
        for place, answer in enumerate(answers, start=1):
            self._count(questions[place - 1], answer, lane)
            responses.append(wire.recommendation_to_proto(answer))
            if place % _PARTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return pb.BatchRecommendResponse(responses=responses)

    async def EncodeUsers(  # noqa: N802  # the contract's name
        self, request: pb.EncodeUsersRequest, context: Context
    ) -> pb.EncodeUsersResponse:
        """Give the vectors of users."""
        users = await self._converted(request.users, "users", wire.user_from_proto)
        question = wire.encode_from_proto(request, users)
        lane = self._lane(_named_release())
        parts = await self._compute.encode(question, lane, until_s=_until_s(context))
        return wire.encodings_to_proto(parts)

    async def SearchItems(  # noqa: N802  # the contract's name
        self, request: pb.SearchItemsRequest, context: Context
    ) -> pb.SearchItemsResponse:
        """Find the items nearest to a vector."""
        question = wire.search_from_proto(request, self._limits)
        until_s = _until_s(context)
        answer, _ = await self._answered(
            lambda lane: self._compute.search(question, lane, until_s=until_s)
        )
        return wire.search_result_to_proto(answer)

    async def GetRelease(  # noqa: N802  # the contract's name
        self,
        request: pb.GetReleaseRequest,  # the contract's signature
        context: Context,
    ) -> pb.GetReleaseResponse:
        """Say what is loaded."""
        return wire.release_to_proto(self._current.chosen(self._lane(_named_release())).info)

    async def _answered(self, ask: Callable[[Lane], Awaitable[A]]) -> tuple[A, Lane]:
        """Ask in the lane of the current call -> the answer, and the lane.

        Whoever named a release waits for no other: where the lane has got another one meanwhile, it
        is asked for again, in the lane where it is now or in vain.
        """
        named = _named_release()
        while True:
            lane = self._lane(named)
            answer = await ask(lane)
            if named is None or answer.version.release == named:
                return answer, lane

    def _lane(self, named: str | None) -> Lane:
        """Choose which of two releases side by side answers the current call, and say so of it."""
        call = _call()
        if named is None:
            call.lane = self._current.lane_for(calls.text_of(call.metadata, KEY))
        else:
            call.lane = self._current.lane_of(named)
        return call.lane

    def _count(self, question: RecommendQuestion, answer: Recommendation, lane: Lane) -> None:
        self._metrics.answered(
            question.domain, answer.basis.value, lane.value, unknown=answer.unknown_history_items
        )

    async def _converted(
        self, parts: Sequence[M], field: str, convert: Callable[[M, RequestLimits], Q]
    ) -> list[Q]:
        wire.check_batch(len(parts), field, self._limits)
        converted = []
        for place, part in enumerate(parts, start=1):
            try:
                converted.append(convert(part, self._limits))
            except RecGuruError as error:
                raise located(error, f"{field}[{place - 1}]") from None
            if place % _PARTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return converted


def _call() -> calls.Call:
    call = calls.current()
    if call is None:
        raise RuntimeError("a call outside the guard")
    return call


def _named_release() -> str | None:
    """Return the release that the current call asks for by name, if it does."""
    return calls.text_of(_call().metadata, RELEASE)


def _until_s(context: Context) -> float:
    remaining_s: float | None = context.time_remaining()  # the stubs forget that it may be unset
    return math.inf if remaining_s is None else time.monotonic() + remaining_s
