"""`RecommenderClient`: the calls of the service as methods with plain values."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2_grpc
from recguru.v1 import recommender_pb2_grpc

from client import wire
from client.address import stands_for_many
from client.calls import Caller, open_channel
from client.messages import (
    Encodings,
    FoundItems,
    Histories,
    Question,
    Recommendation,
    ReleaseInfo,
    VectorQuestion,
)
from client.settings import ClientSettings
from model.errors import NotReadyError


class RecommenderClient:
    """A connection to one server, opened by the first call; safe for use by several threads.

    Every method takes the seconds the call may take in all, the settings' where none are given, and
    raises errors of `model.errors` only (see `client.calls.Caller.call`). Those that rank or encode
    take a key too, whom the call is for: while a release is tried out, calls of one key are all
    answered by it or all by the other, and calls without a key never by it. Close the client, or
    use it as a context manager.
    """

    def __init__(self, address: str, settings: ClientSettings | None = None) -> None:
        """Make a client that has not connected yet.

        Args:
            address: `HOST:PORT`, or `dns:///HOST:PORT` for all servers of that name in turn.
            settings: Deadline, retries, TLS; the defaults where none are given.

        Raises:
            BadSettingError: If the address is no such text, or a TLS file cannot be read.
        """
        settings = settings or ClientSettings()
        self.address = address
        self._channel = open_channel(address, settings)
        self._stub = recommender_pb2_grpc.RecommenderStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        # Of several servers `_channel` reaches those alone that serve: where none does, only a
        # channel to all of them tells servers that are not ready from none.
        self._channel_to_all = (
            open_channel(address, settings, serving_only=False)
            if stands_for_many(address)
            else self._channel
        )
        self._health_of_all = health_pb2_grpc.HealthStub(self._channel_to_all)
        self._caller = Caller(address, settings, answers=self._answers)
        once = settings.model_copy(update={"attempts": 1})
        self._health_caller = Caller(address, once, answers=self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._caller.close()
        self._health_caller.close()
        self._channel.close()
        self._channel_to_all.close()

    def recommend(
        self, question: Question, *, deadline_s: float | None = None, key: str | None = None
    ) -> Recommendation:
        """Rank the items of one domain for one user."""
        request = wire.question_to_proto(question)
        response = self._caller.call(
            self._stub.Recommend, request, name="Recommend", deadline_s=deadline_s, key=key
        )
        return wire.recommendation_from_proto(response)

    def batch_recommend(
        self,
        questions: Sequence[Question],
        *,
        deadline_s: float | None = None,
        key: str | None = None,
    ) -> list[Recommendation]:
        """Rank the items for several users; one answer for each question, in their order."""
        request = wire.batch_to_proto(questions)
        response = self._caller.call(
            self._stub.BatchRecommend,
            request,
            name="BatchRecommend",
            deadline_s=deadline_s,
            key=key,
        )
        return wire.batch_from_proto(response, questions=len(questions))

    def encode_users(
        self,
        domain: str,
        users: Sequence[Histories],
        *,
        deadline_s: float | None = None,
        key: str | None = None,
    ) -> Encodings:
        """Give the GURs of users and their preference vectors for a domain."""
        request = wire.users_to_proto(domain, users)
        response = self._caller.call(
            self._stub.EncodeUsers, request, name="EncodeUsers", deadline_s=deadline_s, key=key
        )
        return wire.encodings_from_proto(response, users=len(users))

    def search_items(
        self, question: VectorQuestion, *, deadline_s: float | None = None, key: str | None = None
    ) -> FoundItems:
        """Find the items nearest to a vector, by inner product."""
        request = wire.vector_question_to_proto(question)
        response = self._caller.call(
            self._stub.SearchItems, request, name="SearchItems", deadline_s=deadline_s, key=key
        )
        return wire.found_items_from_proto(response)

    def get_release(self, *, deadline_s: float | None = None) -> ReleaseInfo:
        """Say what the server has loaded."""
        request = wire.release_to_proto()
        response = self._caller.call(
            self._stub.GetRelease, request, name="GetRelease", deadline_s=deadline_s
        )
        return wire.release_from_proto(response)

    def is_serving(self, *, deadline_s: float | None = None) -> bool:
        """Ask `grpc.health.v1` once, without retries, whether the server takes calls.

        Returns:
            False while it loads its first release, and for a moment after it was told to stop; of
            several servers, while none of them serves.

        Raises:
            RemoteError: If no server answers; so it is with one that drains, which soon refuses new
                connections.
        """
        request = wire.health_to_proto()
        try:
            response = self._health_caller.call(
                self._health.Check, request, name="Check", deadline_s=deadline_s
            )
        except NotReadyError:  # of several servers none serves, and so none was asked
            return False
        return wire.health_from_proto(response)

    def _answers(self, within_s: float) -> bool:
        try:
            self._health_of_all.Check(wire.health_to_proto(), timeout=within_s)
        except ValueError:  # the channel was closed meanwhile
            return False
        except grpc.RpcError as error:
            return error.code() in {
                grpc.StatusCode.UNIMPLEMENTED,
                grpc.StatusCode.NOT_FOUND,
            }
        return True
