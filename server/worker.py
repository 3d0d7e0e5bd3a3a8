"""One of several server processes on a port; `server.supervisor` starts it and hears from it.

    python -m server.worker

Standard input: the settings as one line of JSON, then nothing for as long as the supervisor lives;
its end means that the worker is on its own, and it drains. Standard output: one line of JSON, as
`Report`, once calls are answered or it is certain that they never will be. Settings come this way
and not as arguments, which every user of the machine can read.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from model.errors import RecGuruError
from server.config import ServeSettings
from server.logs import configure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells its supervisor."""

    failure: str = ""
    """Why it cannot serve; empty if it does."""


def main() -> None:
    """Serve until told to stop; leave with 1 if that cannot be."""
    tell = _reporter()
    settings = ServeSettings.model_validate_json(sys.stdin.buffer.readline())
    configure(settings.log_format)
    try:
        asyncio.run(_serve(settings, tell))
    except RecGuruError as error:
        tell(Report(failure=str(error)))
        sys.exit(1)
    except Exception as error:
        log.exception("the worker cannot go on")
        tell(Report(failure=f"{type(error).__name__}: {error}"))
        sys.exit(1)


async def _serve(settings: ServeSettings, tell: Callable[[Report], None]) -> None:
    from server import run  # noqa: PLC0415  # torch: seconds, and the supervisor imports `Report`

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _heard)
    await run.serve(settings, ready=lambda _: tell(Report()), shared_port=True)


def _heard() -> None:
    """Drain where standard input ends; nothing is ever said there."""
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        log.warning("the supervisor is gone")
        signal.raise_signal(signal.SIGTERM)


def _reporter() -> Callable[[Report], None]:
    """Keep standard output for reports alone: what a library prints goes to standard error."""
    reports = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(report: Report) -> None:
        os.write(reports, json.dumps(asdict(report)).encode() + b"\n")

    return tell


if __name__ == "__main__":
    main()
