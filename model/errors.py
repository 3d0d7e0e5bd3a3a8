"""Failures a caller can act on. Nothing here knows about a transport.

RecGuruError
├── InvalidInputError         what the caller sent cannot be used; sending it again cannot help
│   ├── BadDataError          an input file or its content
│   └── BadSettingError       a configuration value, or two that contradict each other
├── NotFoundError             a name that does not exist: a domain, a candidate set, a file
├── BadArtifactError          a dataset, bundle, checkpoint or release that must not be used
├── TrainingError             training stopped itself: NaN, a collapsed critic
│   └── LostProcessError      one of the processes that train together is gone
├── OverloadedError           try again later
├── UnauthenticatedError      the call says nothing that tells who makes it
├── ForbiddenError            whoever makes the call may not make it
├── NotReadyError             no release is loaded yet, or the server is draining
├── UnavailableIndexError     the engine that keeps an index does not answer; try again later
├── UnavailableDeviceError    the device that was asked for is not there
└── RemoteError               a server answered with a failure, or did not answer
"""


class RecGuruError(Exception):
    """Base of every failure this project raises on purpose; its text is safe to show."""


class InvalidInputError(RecGuruError):
    """The request itself is wrong; sending it again cannot help."""


class BadDataError(InvalidInputError):
    """An input file is missing, broken, or holds nothing that can be used."""


class BadSettingError(InvalidInputError):
    """A configuration value is out of range, unknown, or contradicts another."""


class NotFoundError(RecGuruError):
    """A name stands for nothing here."""


class BadArtifactError(RecGuruError):
    """A folder this project wrote is of another format, damaged, or built from something else."""


class TrainingError(RecGuruError):
    """Training stopped itself; the last good checkpoint is intact."""


class LostProcessError(TrainingError):
    """Another of the processes that train together ended, or no longer answers."""


class OverloadedError(RecGuruError):
    """The server holds as many requests as it may."""

    def __init__(self, text: str, *, retry_s: float | None = None) -> None:
        """Say what is full, and after how many seconds it is worth trying again, if known."""
        super().__init__(text)
        self.retry_s = retry_s


class UnauthenticatedError(RecGuruError):
    """The call carries no credentials that are known."""


class ForbiddenError(RecGuruError):
    """The credentials of the call are known and not good for it."""


class NotReadyError(RecGuruError):
    """No release is loaded yet, or of several servers none serves."""


class UnavailableIndexError(RecGuruError):
    """An index is kept outside this process, and what keeps it does not answer."""


class UnavailableDeviceError(RecGuruError):
    """The device that was asked for is not there."""


class RemoteError(RecGuruError):
    """A server answered with a failure or did not answer in time."""
