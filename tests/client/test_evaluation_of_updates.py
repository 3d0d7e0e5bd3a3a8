"""A bundle whose items are not the dataset's any more is not scored by the dataset's rows."""

import shutil
from pathlib import Path

import pytest

from tests.commands import Command
from tests.indexer.update_making import paired, updated


@pytest.mark.parametrize("new", ["f0003-a", "zzz"])
def test_an_updated_bundle_is_not_evaluated_in_process(
    release_root: Path, tiny_dataset: Path, tmp_path: Path, recguru: Command, new: str
) -> None:
    root = Path(shutil.copytree(release_root, tmp_path / "releases"))
    made = updated(root, {"films": {"rename": paired(tmp_path / "names", {"f0003": new})}})
    bundle = made.folder / "bundle"

    done = recguru(
        "evaluate", "--data", tiny_dataset, "--bundle", bundle, "--out", tmp_path / "report"
    )

    assert done.code == 1
    assert done.errors.splitlines()[-1] == (
        f"error: bundle {bundle} was updated: its items of films are not the dataset's; "
        "evaluate its release with --server"
    )
