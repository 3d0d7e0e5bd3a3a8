"""Which release answers: loads what `LATEST` names, checks it, and swaps it in whole."""

import asyncio
import hashlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from indexer.publish import canary, latest
from model.errors import NotFoundError, NotReadyError, RecGuruError, UnavailableIndexError
from server.call import Lane
from server.engine import Engine
from server.messages import shown
from server.metrics import Metrics

T = TypeVar("T")

log = logging.getLogger(__name__)

_NICENESS = 10
"""Of a thread that loads while calls are answered: a tenth of the core where others want it too."""
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class _Canary:
    """A release that some calls try out."""

    engine: Engine
    share: float


class Current:
    """The engines that answer; replacing a reference is the whole swap.

    Passes that have begun finish with the engine they began with.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._canary: _Canary | None = None

    @property
    def engine(self) -> Engine:
        """The engine of the release that `LATEST` names.

        Raises:
            NotReadyError: If none is loaded yet.
        """
        if self._engine is None:
            raise NotReadyError("no release is loaded yet; try again later")
        return self._engine

    @property
    def canary(self) -> Engine | None:
        """The engine of the release that some calls try out, if there is one."""
        return None if self._canary is None else self._canary.engine

    def chosen(self, lane: Lane) -> Engine:
        """Return the engine of a lane; the stable one where there is no canary (any more).

        Raises:
            NotReadyError: If none is loaded yet.
        """
        canary = self._canary
        return self.engine if lane is Lane.STABLE or canary is None else canary.engine

    def lane_for(self, key: str | None) -> Lane:
        """Choose who answers a call that is for this key; without one, nobody tries anything out.

        The same key gets the same answer on every server for as long as the canary lasts; a larger
        share keeps those who are in. Another canary draws others.
        """
        canary = self._canary
        if canary is None or key is None:
            return Lane.STABLE
        salt = canary.engine.version.release
        digest = hashlib.blake2b(f"{salt} {key}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest) / 2**64  # 0 to 1, each as likely as any other
        return Lane.CANARY if place < canary.share else Lane.STABLE

    def lane_of(self, version: str) -> Lane:
        """Find the lane that a release answers in.

        Raises:
            NotFoundError: If it is not loaded.
        """
        loaded = {self.engine.version.release: Lane.STABLE}
        if (canary := self.canary) is not None:
            loaded.setdefault(canary.version.release, Lane.CANARY)
        if version not in loaded:
            raise NotFoundError(f"release {shown(version)} is not loaded; {', '.join(loaded)} is")
        return loaded[version]

    def swap(self, engine: Engine) -> None:
        """Let this engine answer from now on."""
        self._engine = engine

    def try_out(self, engine: Engine, share: float) -> None:
        """Let this engine answer for a share of the keys, 0 to 1."""
        self._canary = _Canary(engine, share)

    def end_canary(self) -> None:
        """Let the stable engine answer every call."""
        self._canary = None


class ReleaseWatcher:
    """Follows the pointers `LATEST` and `CANARY` of a release root.

    A release that fails to load or to answer a probe is refused: the one before goes on serving, a
    canary is tried out no more, and nothing is tried again until the pointer or a file of the
    release it names changes. Where the release is not what failed, it is tried again: at the next
    look if what keeps its index did not answer, after a pause if the disk or the memory failed.
    """

    def __init__(
        self,
        root: Path,
        current: Current,
        *,
        load: Callable[[Path], Engine],
        poll_s: float,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        """Make a watcher that has seen nothing yet.

        Args:
            root: The release root.
            current: Where a good release goes.
            load: Makes an engine of a release folder and asks it a probe; raises if it must not be
                used.
            poll_s: Seconds between two looks.
            executor: One thread for reading the disk, apart from the compute thread.
            metrics: Told what was taken up and what was refused.
        """
        self._root = root
        self._current = current
        self._load_engine = load
        self._poll_s = poll_s
        self._executor = executor
        self._metrics = metrics
        self._seen: object = None
        self._served: object = None
        self._canary_seen: object = None
        self._canary_files: object = None
        self._pauses: dict[Lane, _Pause] = {}

    async def start(self) -> None:
        """Load the release that `LATEST` names, and the canary if there is one.

        Raises:
            RecGuruError: If there is none that can serve; the text says why.
        """
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(self._executor, self._load)
        self._current.swap(engine)
        self._metrics.release_loaded(engine.version, Lane.STABLE.value, first=True)
        await self._look_for_canary()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    async def look(self) -> None:
        """Swap in what the pointers name if they, or a file of theirs, have changed."""
        for lane, pause in self._pauses.items():
            if pause.is_over():
                self._try_again(lane)
        serving = self._current.engine.version.release
        engine = await self._loaded(self._load_if_changed, Lane.STABLE, serving)
        if engine is not None:
            self._current.swap(engine)
            self._metrics.release_loaded(engine.version, Lane.STABLE.value)
            log.info(
                "release swapped release=%s model=%.12s before=%s",
                engine.version.release,
                engine.version.model,
                serving,
            )
        await self._look_for_canary()

    async def _look_for_canary(self) -> None:
        """Begin, change or end what is tried out as `CANARY` says."""
        loop = asyncio.get_running_loop()
        state = await loop.run_in_executor(self._executor, self._canary_state)
        if state == self._canary_seen:
            return
        self._canary_seen = state
        serving = self._current.engine.version.release
        tried = await self._loaded(self._load_canary, Lane.CANARY, serving)
        if tried is not None:
            engine, share = tried
            if engine is not self._current.canary:
                self._metrics.release_loaded(engine.version, Lane.CANARY.value)
            self._current.try_out(engine, share)
            log.info("canary release=%s share=%g", engine.version.release, share)
        elif self._current.canary is not None:
            self._current.end_canary()
            self._metrics.release_gone(Lane.CANARY.value)
            log.info("canary ended, release=%s answers every call", serving)

    async def _loaded(self, load: Callable[[], T | None], lane: Lane, serving: str) -> T | None:
        """Load on the executor; None where there is nothing new, or it is refused."""
        what = "release" if lane is Lane.STABLE else "canary"
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._executor, load)
        except (RecGuruError, OSError, MemoryError) as error:
            self._metrics.release_refused(lane.value)
            reason = str(error) or type(error).__name__
            log.warning("%s refused, still serving release=%s reason: %s", what, serving, reason)
            if isinstance(error, UnavailableIndexError):
                self._try_again(lane)
            elif _of_the_system(error):
                self._pauses.setdefault(lane, _Pause()).begin()
            return None
        except Exception:
            self._metrics.release_refused(lane.value)
            log.exception("%s refused, still serving release=%s", what, serving)
            return None
        if found is not None:
            self._pauses.pop(lane, None)
        return found

    def _try_again(self, lane: Lane) -> None:
        """Let the next look take what a lane's pointer names for new."""
        if lane is Lane.STABLE:
            self._seen = None
        else:
            self._canary_seen = None

    def _load(self) -> Engine:
        state = self._seen = _state(self._root)
        engine = self._load_engine(latest(self._root))
        self._served = state
        return engine

    def _load_if_changed(self) -> Engine | None:
        state = _state(self._root)
        if state == self._served:  # also where `LATEST` went to a bad release and came back
            self._seen = state
            self._pauses.pop(Lane.STABLE, None)
        if state == self._seen:
            return None
        _give_way()
        return self._load()

    def _canary_state(self) -> object:
        """Tell apart what is to be tried out at two times; what is stable is not tried out."""
        try:
            tried = canary(self._root)
        except RecGuruError as error:
            return str(error)
        if tried is None or tried.version == self._current.engine.version.release:
            return None
        return tried, _files(self._root / tried.version)

    def _load_canary(self) -> tuple[Engine, float] | None:
        tried = canary(self._root)
        if tried is None or tried.version == self._current.engine.version.release:
            return None
        loaded, files = self._current.canary, _files(self._root / tried.version)
        if loaded is None or files != self._canary_files:
            _give_way()
            loaded = self._load_engine(self._root / tried.version)
            self._canary_files = files
        return loaded, tried.share


def _of_the_system(error: BaseException | None) -> bool:
    """Say whether the disk or the memory failed, and not what lies there: it may do the next time.

    A file that is missing is damage.
    """
    while error is not None:
        if isinstance(error, OSError | MemoryError):
            return not isinstance(error, FileNotFoundError)
        error = error.__cause__ or error.__context__
    return False


class _Pause:
    """The time before a release that could not be read is read again; twice as long every time.

    All of it is hashed again, beside the calls.
    """

    def __init__(self) -> None:
        self._pause_s = _FIRST_PAUSE_S
        self._until_s = math.inf

    def begin(self) -> None:
        """Begin a pause."""
        self._until_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def is_over(self) -> bool:
        """Say once of each pause that it is over."""
        if time.monotonic() < self._until_s:
            return False
        self._until_s = math.inf
        return True


def _give_way() -> None:
    """Let other threads have the core first, for as long as this one lives.

    Calls are answered while a release loads, as a rule on the same core.
    """
    if sys.platform == "linux":  # elsewhere threads have no niceness of their own
        thread = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _state(root: Path) -> object:
    """Tell apart what `LATEST` named at two times: its folder and the states of the files in it."""
    try:
        folder = latest(root)
    except (RecGuruError, OSError) as error:
        return str(error)
    return folder, _files(folder)


def _files(folder: Path) -> object:
    try:
        files = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    except OSError as error:
        return str(error)
    return [(path, now.st_ino, now.st_size, now.st_mtime_ns) for path, now in files]
