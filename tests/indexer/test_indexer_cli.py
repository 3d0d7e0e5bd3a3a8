"""The commands `indexer build|measure|info` and `recguru doctor`, as a shell sees them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer import cli
from indexer.publish import latest, versions
from model.bundle import FORMAT, KIND, Bundle
from model.files import read_manifest, write_manifest
from tests.indexer.index_making import built_in

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run a command line of `indexer` -> exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["indexer", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out, output.err

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def test_build_info_and_measure_tell_people_what_there_is(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("films-00001\nfilms-00009\nunheard of\n")
    build = ["build", "--bundle", bundle.folder, "--out", root, "--device", "cpu"]

    code, out, err = shell(*build, "--candidates", f"new={new}")
    assert code == 0
    assert out.splitlines()[1:] == [
        "  books: 70 items",
        "  films: 1,500 items",
        "  candidate set new: 2 of films",
    ]
    assert "building 100 % (4/4) films tried" in err
    assert (
        "warning: candidate set new: 1 of 3 item ids are known in no domain and are left out\n"
        in err
    )

    code, out, _ = shell("info", "--releases", root)
    assert code == 0
    assert out.startswith(f"latest {latest(root).name}, all files intact\n")
    assert "films: 1,500 items x 8, index flat\n  candidate set new: 2 items\n" in out

    code, out, _ = shell("measure", "--releases", root, "--queries", 20, "--device", "cpu")
    assert code == 0
    assert "  means of 5 random items' vectors of the domain, not of real users\n" in out
    assert "  recall @10 1.0000, @100 1.0000; 32 bytes an item\n" in out


def test_build_info_and_measure_tell_programs_the_same(
    shell: Shell, bundle: Bundle, root: Path
) -> None:
    build = ["build", "--bundle", bundle.folder, "--out", root, "--device", "cpu", "--json"]
    built: dict[str, Any] = json.loads(shell(*build)[1])
    info: dict[str, Any] = json.loads(shell("info", "--releases", root, "--json")[1])
    measured: dict[str, Any] = json.loads(
        shell("measure", "--release", latest(root), "--queries", 9, "--json", "--device", "cpu")[1]
    )

    assert built["release"] == info["latest"] == measured["release"] == latest(root).name
    assert built["digest"] == info["digest"]
    assert built["bundle"] == info["bundle"] == bundle.digest
    assert built["dataset"] == info["dataset"] == bundle.dataset
    assert built["items"] == {"books": 70, "films": 1500}
    assert info["versions"] == versions(root)
    assert info["domains"]["books"] == {
        "items": 70,
        "width": 8,
        "kind": "flat",
        "candidate_sets": {},
    }
    assert measured["domains"]["films"]["recall"] == {"@10": 1.0, "@100": 1.0}
    assert measured["settings"]["queries"] == 9


def test_settings_come_from_file_environment_and_flag_in_that_order(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in(root, bundle)
    config = tmp_path / "recguru.toml"
    config.write_text("[measure]\nqueries = 5\nbatch = 3\nseed = 7\n")
    monkeypatch.setenv("RECGURU_MEASURE_BATCH", "4")
    measure = ["measure", "--releases", root, "--config", config, "--device", "cpu", "--json"]

    settings = json.loads(shell(*measure, "--queries", 6)[1])["settings"]

    assert (settings["queries"], settings["batch"], settings["seed"]) == (6, 4, 7)


def test_a_kind_that_is_not_known_is_refused_with_those_that_are(
    shell: Shell, bundle: Bundle, root: Path
) -> None:
    code, out, err = shell("build", "--bundle", bundle.folder, "--out", root, "--index", "hnsw")
    assert (code, out) == (1, "")
    assert err == "error: setting index.kind: Input should be 'auto' or 'flat' (got 'hnsw')\n"
    assert not root.exists()


def test_a_folder_that_is_no_bundle_is_one_line_of_error(shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell("build", "--bundle", tmp_path, "--out", tmp_path / "releases")
    assert code == 1
    assert err == (f"error: {tmp_path} is not a recguru-bundle: there is no manifest.json in it\n")


def test_a_table_that_is_not_finite_is_refused(shell: Shell, bundle: Bundle, root: Path) -> None:
    path = bundle.folder / "films" / "tables.safetensors"
    held = bytearray(path.read_bytes())
    held[-4:] = b"\x00\x00\xc0\x7f"  # a NaN
    path.write_bytes(held)
    manifest = read_manifest(bundle.folder, kind=KIND, format_number=FORMAT)
    content = {key: manifest[key] for key in ("domains", "network", "dataset", "training")}
    write_manifest(bundle.folder, kind=KIND, format_number=FORMAT, content=content)

    code, _, err = shell("build", "--bundle", bundle.folder, "--out", root)

    assert code == 1
    assert err == f"error: {path}: popularity holds a number that is not finite\n"
    assert not root.exists()


def test_an_empty_root_is_one_line_of_error(shell: Shell, root: Path) -> None:
    code, _, err = shell("info", "--releases", root)
    assert code == 1
    assert err == (
        f"error: {root} holds no release: there is no LATEST in it; run recguru indexer build\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "new"], "--candidates 'new' is not NAME=FILE"),
        (["--candidates", "new="], "--candidates 'new=' is not NAME=FILE"),
        (["--candidates", "a/b=file"], "--candidates: the name 'a/b' must be 1 to 64 letters, dig"),
        (["--candidates", "..=file"], "--candidates: the name '..' must be 1 to 64 letters, digit"),
        (["--candidates", "a=f", "--candidates", "a=g"], "--candidates: the name 'a' stands twice"),
    ],
)
def test_a_candidate_option_of_another_form_is_wrong_usage(
    shell: Shell, tmp_path: Path, options: list[str], message: str
) -> None:
    code, _, err = shell("build", "--bundle", tmp_path, "--out", tmp_path, *options)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("options", [[], ["--releases", "a", "--release", "b"]])
def test_measuring_nothing_or_two_things_is_wrong_usage(shell: Shell, options: list[str]) -> None:
    code, _, err = shell("measure", *options)
    assert code == 2
    assert "give either --releases or --release" in err


@pytest.mark.parametrize("command", ["build", "measure", "info"])
def test_every_command_has_an_example(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    assert code == 0
    assert f"\n  Example:\n    recguru indexer {command} " in out


def test_help_loads_neither_faiss_nor_torch() -> None:
    code = "import sys, indexer.cli; print(sorted({'faiss', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "[]\n"
