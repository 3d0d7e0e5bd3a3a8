"""Which release answers: loads what `LATEST` names, checks it, and swaps it in whole."""

import asyncio
import logging
from concurrent.futures import Executor
from pathlib import Path

from indexer.release import latest
from indexer.spec import DeviceChoice
from model.errors import NotReadyError, RecGuruError
from server.engine import Engine
from server.metrics import Metrics

log = logging.getLogger(__name__)


class Current:
    """The engine that answers; replacing this one reference is the whole swap.

    Passes that have begun finish with the engine they began with.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine to ask.

        Raises:
            NotReadyError: If none is loaded yet.
        """
        if self._engine is None:
            raise NotReadyError("no release is loaded yet; try again later")
        return self._engine

    def swap(self, engine: Engine) -> None:
        """Let this engine answer from now on."""
        self._engine = engine


class ReleaseWatcher:
    """Follows the `LATEST` pointer of a release root.

    A release that fails to load or to answer a probe is refused: the one before goes on serving,
    and nothing is tried again until `LATEST` or a file of the release it names changes.
    """

    def __init__(
        self,
        root: Path,
        current: Current,
        *,
        device: DeviceChoice,
        poll_s: float,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        """Make a watcher that has seen nothing yet.

        Args:
            root: The release root.
            current: Where a good release goes.
            device: `auto`, `cpu` or `cuda`.
            poll_s: Seconds between two looks.
            executor: One thread for reading the disk, apart from the compute thread.
            metrics: Told what was taken up and what was refused.
        """
        self._root = root
        self._current = current
        self._device = device
        self._poll_s = poll_s
        self._executor = executor
        self._metrics = metrics
        self._seen: object = None
        self._served: object = None

    async def start(self) -> None:
        """Load the release that `LATEST` names.

        Raises:
            RecGuruError: If there is none that can serve; the text says why.
        """
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(self._executor, self._load)
        self._current.swap(engine)
        self._metrics.release_loaded(engine.version)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    async def look(self) -> None:
        """Swap in the release that `LATEST` names if it, or a file of it, has changed."""
        loop = asyncio.get_running_loop()
        serving = self._current.engine.version.release
        try:
            engine = await loop.run_in_executor(self._executor, self._load_if_changed)
        except RecGuruError as error:
            self._metrics.release_refused()
            log.warning("release refused, still serving release=%s reason: %s", serving, error)
        except Exception:
            self._metrics.release_refused()
            log.exception("release refused, still serving release=%s", serving)
        else:
            if engine is not None:
                self._current.swap(engine)
                self._metrics.release_loaded(engine.version)
                log.info(
                    "release swapped release=%s model=%.12s before=%s",
                    engine.version.release,
                    engine.version.model,
                    serving,
                )

    def _load(self) -> Engine:
        state = self._seen = _state(self._root)
        engine = Engine.load(latest(self._root), device=self._device)
        engine.probe()
        self._served = state
        return engine

    def _load_if_changed(self) -> Engine | None:
        state = _state(self._root)
        if state == self._served:  # also where `LATEST` went to a bad release and came back
            self._seen = state
        return None if state == self._seen else self._load()


def _state(root: Path) -> object:
    """Tell apart what `LATEST` named at two times: its folder and the states of the files in it."""
    try:
        folder = latest(root)
        files = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    except (RecGuruError, OSError) as error:
        return str(error)
    return folder, [(path, now.st_ino, now.st_size, now.st_mtime_ns) for path, now in files]
