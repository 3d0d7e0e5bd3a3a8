"""A checkpoint that does not fit on the disk: its file is named, and those before stay."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
FILES = ("networks.safetensors", "phase.safetensors", "manifest.json")


def test_a_checkpoint_that_does_not_fit_is_told_by_its_file_and_those_before_stay(
    namespace: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.model.training.full_disk", str(tmp_path)],
        cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "proto"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    *refused, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last == {
        "missing": 0,
        "error": "",
        "there": ["00000001", "00000002"],
        "newest": 2,
    }
    place = re.escape(f"{tmp_path}/disk/checkpoints/.00000002.")
    named = []
    for outcome in refused:
        said = re.fullmatch(
            rf"{place}\w+/(\S+) cannot be written: .*No space left on device.*", outcome["error"]
        )
        assert said, outcome
        named.append(said[1])
        assert outcome["there"] == ["00000000", "00000001"]
        assert outcome["newest"] == 1
    assert list(dict.fromkeys(named)) == list(FILES)
