"""A version that some calls try out: `recguru releases canary`, as a shell and a server see it."""

import shutil
from pathlib import Path

import pytest

from indexer.publish import Canary, canary, latest, versions
from model.bundle import Bundle
from model.errors import BadArtifactError
from tests.commands import Command
from tests.indexer.index_making import built_in, write_small_bundle


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish three releases, to be copied."""
    folder = tmp_path_factory.mktemp("canary")
    bundle = Bundle.read(write_small_bundle(folder / "bundle"))
    for _ in range(3):
        built_in(folder / "releases", bundle)
    return folder / "releases"


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """Return three releases of the test's own."""
    return shutil.copytree(published, tmp_path / "releases")


def test_a_canary_begins_changes_its_share_and_ends(recguru: Command, root: Path) -> None:
    old = versions(root)[0]
    command = ("releases", "canary", "--releases", root)

    assert canary(root) is None
    left = recguru(*command, old, "--share", "0.05")
    assert (left.code, left.output) == (0, f"0.05 of the calls try {old} out\n")
    assert canary(root) == Canary(old, 0.05)
    assert recguru(*command, old, "--share", "1").code == 0
    assert canary(root) == Canary(old, 1.0)
    assert latest(root).name == versions(root)[-1]
    assert recguru(*command, "--end").code == 0
    assert recguru(*command, "--end").code == 0
    assert canary(root) is None


def test_no_canary_is_ended_where_there_is_no_release(recguru: Command, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    left = recguru("releases", "canary", "--releases", nowhere, "--end")

    assert left.code == 1
    assert left.errors == f"error: {nowhere} holds no release; see recguru releases list\n"
    assert not nowhere.exists()


def test_the_canary_is_listed_and_neither_pruned_nor_kept_once_it_is_active(
    recguru: Command, root: Path
) -> None:
    first, second, third = versions(root)
    recguru("releases", "canary", "--releases", root, first, "--share", "0.25")

    lines = recguru("releases", "list", "--releases", root).output.splitlines()
    assert [line[0] for line in lines] == ["*", " ", "~"]
    assert lines[2].endswith("  canary, 0.25 of the calls")
    assert recguru("releases", "prune", "--releases", root, "--keep", "1").output == (
        f"removed {second}\n1 versions removed\n"
    )
    assert recguru("releases", "activate", "--releases", root, first).code == 0
    assert canary(root) is None
    assert latest(root).name == first
    assert versions(root) == [first, third]


def test_what_cannot_be_a_canary_is_refused_and_changes_nothing(
    recguru: Command, root: Path
) -> None:
    old, damaged, active = versions(root)
    (root / damaged / "index" / "films.faiss").write_bytes(b"")
    command = ("releases", "canary", "--releases", root)
    recguru(*command, old, "--share", "0.1")

    for code, said, arguments in (
        (1, f"LATEST names {active}: it answers every call already", (active, "--share", "0.1")),
        (1, "films.faiss", (damaged, "--share", "0.1")),
        (1, "holds no version 'nothing'", ("nothing", "--share", "0.1")),
        (2, "--share", (old, "--share", "1.5")),
        (2, "VERSION and --share go together", (old,)),
        (2, "VERSION and --share go together", ("--share", "0.1")),
        (2, "give VERSION and --share, or --end alone", (old, "--share", "0.1", "--end")),
        (2, "give VERSION and --share, or --end alone", ()),
    ):
        left = recguru(*command, *arguments)
        assert left.code == code
        assert said in " ".join(left.errors.split())
        assert canary(root) == Canary(old, 0.1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nothing 0.1\n", "names 'nothing', which is no release"),
        ("../elsewhere 0.1\n", "names '../elsewhere', which is no release"),
        ("{version}\n", "the share '' is no number from 0 to 1"),
        ("{version} 1.01\n", "the share '1.01' is no number from 0 to 1"),
        ("{version} nan\n", "the share 'nan' is no number from 0 to 1"),
        ("{version} -0.5\n", "the share '-0.5' is no number from 0 to 1"),
        ("", "names '', which is no release"),
    ],
)
def test_a_pointer_that_says_nothing_is_refused(root: Path, content: str, said: str) -> None:
    pointer = root / "CANARY"
    pointer.write_text(content.format(version=versions(root)[0]), encoding="utf-8")

    with pytest.raises(BadArtifactError) as refused:
        canary(root)

    assert str(refused.value).startswith(f"{pointer}")
    assert said in str(refused.value)


@pytest.mark.parametrize("content", ["{gone} 0.1\n", "{version} 1.01\n", ""])
def test_a_pointer_that_says_nothing_does_not_hinder_an_activation(
    recguru: Command, root: Path, content: str
) -> None:
    gone, old, before = versions(root)
    shutil.rmtree(root / gone)
    written = content.format(gone=gone, version=old)
    (root / "CANARY").write_text(written, encoding="utf-8")

    left = recguru("releases", "activate", "--releases", root, old)

    assert (left.code, left.errors) == (0, "")
    assert left.output == f"LATEST names {old}; before it named {before}\n"
    assert latest(root).name == old
    assert (root / "CANARY").read_text(encoding="utf-8") == written


@pytest.mark.parametrize("share", [1.0, 0.0, 0.05, 1e-05, 0.123456])
def test_a_share_is_read_as_it_was_written(recguru: Command, root: Path, share: float) -> None:
    old = versions(root)[0]
    recguru("releases", "canary", "--releases", root, old, "--share", str(share))
    assert canary(root) == Canary(old, share)


def test_a_release_can_be_published_without_becoming_the_active_one(
    recguru: Command, root: Path, bundle: Bundle
) -> None:
    active = latest(root)

    build = ("indexer", "build", "--bundle", bundle.folder, "--out", root, "--device", "cpu")
    assert recguru(*build, "--no-activate").code == 0

    assert latest(root) == active
    assert len(versions(root)) == 4
    assert recguru(*build).code == 0
    assert latest(root).name == versions(root)[-1]
