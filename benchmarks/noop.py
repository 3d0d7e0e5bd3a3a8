"""A server that answers every `Recommend` with the same prepared message: the stack and no work.

    python -m benchmarks.noop ANSWER

ANSWER is a file that holds a `RecommendResponse`. Prints the port, then serves until it is ended.
"""

import asyncio
import sys
from pathlib import Path

import grpc
from recguru.v1 import recommender_pb2 as pb
from recguru.v1 import recommender_pb2_grpc as pb_grpc


class Noop(pb_grpc.RecommenderServicer):
    """Reads each request, and writes the same answer again."""

    def __init__(self, answer: pb.RecommendResponse) -> None:
        self._answer = answer

    async def Recommend(  # noqa: N802  # the contract's name
        self,
        request: pb.RecommendRequest,  # the contract's signature
        context: object,
    ) -> pb.RecommendResponse:
        """Answer."""
        return self._answer


async def main(answer: pb.RecommendResponse) -> None:
    """Serve."""
    server = grpc.aio.server()
    pb_grpc.add_RecommenderServicer_to_server(Noop(answer), server)  # type: ignore[abstract]  # the other calls are not asked for
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(pb.RecommendResponse.FromString(Path(sys.argv[1]).read_bytes())))
