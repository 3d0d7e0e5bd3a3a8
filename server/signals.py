"""What ends a server: SIGTERM, or Ctrl-C."""

import asyncio
import signal
import sys

_ENDS = (signal.SIGTERM, signal.SIGINT)


def exit_when_told() -> None:
    """End the process with 0 when a signal comes, until `stop_requests` takes over.

    As process 1 of a container, a signal that nobody handles is lost.
    """
    for number in _ENDS:
        signal.signal(number, lambda *_: sys.exit(0))


def stop_requests() -> asyncio.Event:
    """Return an event of the running loop that the signals set from now on."""
    requested = asyncio.Event()
    for number in _ENDS:
        asyncio.get_running_loop().add_signal_handler(number, requested.set)
    return requested
