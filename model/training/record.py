"""What a training leaves to look at: `metrics.jsonl` and TensorBoard events.

A line of `metrics.jsonl` is one logged step: `{"phase": ..., "step": ..., "<figure>": ...}`.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch.utils.tensorboard import SummaryWriter

from model.files import write_bytes_atomically

METRICS = "metrics.jsonl"
EVENTS = "tensorboard"
_PLACE = ("phase", "step")
"""What says where a line belongs; the rest are figures."""


class Keeper(Protocol):
    """Takes the figures of one run."""

    def add(self, phase: str, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of one step."""


class Unrecorded:
    """Lets figures go: another process writes them."""

    def add(self, phase: str, step: int, figures: Mapping[str, float]) -> None:
        """Do nothing."""


class Record:
    """Writes the figures of one run; after a resume it goes on where the checkpoint was."""

    def __init__(self, run: Path, *, phases: list[str], reached: tuple[int, int]) -> None:
        """Open the record of a run.

        Args:
            run: The run's folder.
            phases: The phases' names in their order.
            reached: Phase and step of the checkpoint to go on from; lines of later steps are
                dropped, for those steps are done again.
        """
        path = run / METRICS
        kept = [line for line in read_metrics(run) if _done(line, phases, reached)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_bytes_atomically(path, text.encode())
        self._file = path.open("a", encoding="utf-8")
        shutil.rmtree(run / EVENTS, ignore_errors=True)  # they cannot be cut off at a step
        self._events = SummaryWriter(str(run / EVENTS))
        for line in kept:
            self._show(line["phase"], line["step"], line)

    def add(self, phase: str, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of one step."""
        self._file.write(json.dumps({"phase": phase, "step": step, **figures}) + "\n")
        self._file.flush()
        self._show(phase, step, figures)

    def _show(self, phase: str, step: int, figures: Mapping[str, Any]) -> None:
        """Give TensorBoard the figures of one step."""
        for name, figure in figures.items():
            if name not in _PLACE:
                self._events.add_scalar(f"{phase}/{name}", figure, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._events.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's `metrics.jsonl`; a last line cut off by a kill is left out."""
    path = run / METRICS
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _done(line: Mapping[str, Any], phases: list[str], reached: tuple[int, int]) -> bool:
    return (phases.index(line["phase"]), line["step"]) <= reached
