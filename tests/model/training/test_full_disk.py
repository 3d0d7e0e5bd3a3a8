"""A checkpoint that does not fit on the disk: its file is named, and those before stay."""

import re
from pathlib import Path

from tests.small_disk import outcomes_of

FILES = ("networks.safetensors", "phase.safetensors", "manifest.json")


def test_a_checkpoint_that_does_not_fit_is_told_by_its_file_and_those_before_stay(
    namespace: list[str], tmp_path: Path
) -> None:
    *refused, last = outcomes_of(namespace, "tests.model.training.full_disk", tmp_path)

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
            rf"{place}\w+/new/(\S+) cannot be written: .*No space left on device.*",
            outcome["error"],
        )
        assert said, outcome
        named.append(said[1])
        assert outcome["there"] == ["00000000", "00000001"]
        assert outcome["newest"] == 1
    assert list(dict.fromkeys(named)) == list(FILES)
