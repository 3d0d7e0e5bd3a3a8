"""Checkpoints on a disk that gets full.

    python -m tests.model.training.full_disk FOLDER

Needs a mount namespace in which FOLDER/disk can be mounted. Each line of output is what came of a
checkpoint for which so many pages of the disk were missing.
"""

import json
import sys
from pathlib import Path

from model.errors import RecGuruError
from model.training.checkpoint import Checkpoints, Progress
from model.training.phases import PreTraining
from tests.model.training.context_making import QUICK, chained_dataset, context_of
from tests.small_disk import SmallDisk

DISK_BYTES = 4 << 20
LEVELS = 8
"""Numbers of free pages that are tried, besides the last few."""
LAST = 2
"""Pages missing at the end, where the manifest is written."""


def main_here() -> None:
    """Write two checkpoints, then try a third with ever more room."""
    disk = SmallDisk(Path(sys.argv[1]) / "disk", DISK_BYTES)
    context = context_of(chained_dataset(), QUICK)
    phase = PreTraining(context, 0)
    phase.step(0)
    folder = disk.place / "checkpoints"
    checkpoints = Checkpoints(folder, made={"dataset": "digest"})
    checkpoints.write(Progress(0, 1, 0, {}), context.networks, phase)
    free = disk.free
    checkpoints.write(Progress(0, 1, 1, {}), context.networks, phase)
    needed = free - disk.free
    spread = range(0, needed - LAST, max(1, needed // LEVELS))
    for pages in (*spread, *range(needed - LAST, needed + 1)):
        error = ""
        with disk.filled(pages):
            try:
                checkpoints.write(Progress(0, 2, 2, {}), context.networks, phase)
            except RecGuruError as refused:
                error = str(refused)
        newest = checkpoints.newest()
        assert newest is not None
        line = {
            "missing": needed - pages,
            "error": error,
            "there": sorted(path.name for path in folder.iterdir()),
            "newest": newest.written,
        }
        sys.stdout.write(f"{json.dumps(line)}\n")


if __name__ == "__main__":
    main_here()
