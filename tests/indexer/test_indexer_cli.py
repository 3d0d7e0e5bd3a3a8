"""The commands `indexer build|measure|info` and `recguru doctor`, as a shell sees them."""

import json
import os
import re
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
        "  books: 70 items, index flat",
        "  films: 1,500 items, index flat",
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
    assert "  20 queries: means of 5 random items' vectors of the domain, not of real users" in out
    assert "  recall @10 1.0000, @100 1.0000; 32 bytes an item\n" in out
    assert "  single search (1 query): p50 " in out
    assert "  batched search (20 queries): p50 " in out  # there are no 64


def test_attributes_are_told_of_and_what_is_wrong_with_them_is_one_line(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    table = tmp_path / "films.tsv"
    table.write_text("item_id\tgenre\nfilms-00001\tlove|crime\nunheard of\tlove\n")
    build = ["build", "--bundle", bundle.folder, "--out", root, "--device", "cpu"]

    code, out, err = shell(*build, "--attributes", f"films={table}")
    assert code == 0
    assert out.splitlines()[-1] == "  attribute genre of films: 2 values"
    assert (
        "warning: attributes of films: 1 of 2 item ids are not known there and are left out\n"
        in err
    )
    code, out, _ = shell("info", "--releases", root)
    assert "index flat\n  attribute genre: 2 values\n" in out
    told = json.loads(shell(*build, "--attributes", f"films={table}", "--json")[1])
    assert told["attributes"] == {"films": {"values": {"genre": 2}, "unknown": 1}}

    table.write_text("item_id\tgenre\nfilms-00001\tlove\nfilms-00001\tcrime\n")
    code, out, err = shell(*build, "--attributes", f"films={table}")
    assert (code, out) == (1, "")
    reason = f"attribute file {table}: item id 'films-00001' stands in lines 2 and 3"
    assert err == f"error: {reason}\n"
    code, _, err = shell(*build, "--attributes", f"songs={table}")
    assert (code, err) == (1, "error: attributes of 'songs': the bundle has books, films\n")


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
        "cold_items": 0,
        "width": 8,
        "kind": "flat",
        "since_built": None,
        "candidate_sets": {},
        "attributes": {},
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
    code, out, err = shell("build", "--bundle", bundle.folder, "--out", root, "--index", "nsw")
    assert (code, out) == (2, "")
    assert err.endswith(
        "'nsw' is not one of 'auto', 'flat', 'flat-f16', 'flat-int8', 'hnsw', 'ivf', 'ivf-int8', "
        "'ivf-pq', 'milvus'.\n"
    )
    assert not root.exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[index.hnsw]\nlinks = 1", "index.hnsw.links: Input should be greater than or equal to 2"),
        ("[index.ivf]\nprobe = 3", "index.ivf.probe: there is no such setting"),
        ("[index.ivf_pq]\ngroup = 0", "index.ivf_pq.group: Input should be greater than or equal"),
        ("[index]\nrecall = 1.5", "index.recall: Input should be less than or equal to 1"),
        ("[index]\nauto_kinds = ['flat']", "index.auto_kinds.0: Input should be 'flat-f16', 'flat"),
        ("[index]\nhnsw = 3", "index.hnsw: Input should be a valid dictionary or instance of Hnsw"),
    ],
)
def test_a_parameter_of_a_kind_that_cannot_be_is_one_line(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path, table: str, said: str
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text(table)
    code, out, err = shell("build", "--bundle", bundle.folder, "--out", root, "--config", config)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: setting {said}")
    assert err.count("\n") == 1
    assert not root.exists()


def test_a_kind_and_its_parameters_come_from_the_command_line_and_the_config(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text("[index]\nrecall = 0.9\n[index.hnsw]\nlinks = 12\n")
    build = ("build", "--bundle", bundle.folder, "--out", root, "--device", "cpu")

    code, out, err = shell(*build, "--index", "hnsw", "--config", config)

    assert code == 0
    assert "  films: 1,500 items, index hnsw" in out.splitlines()
    assert (
        "warning: the bundle holds no users' preference vectors of books, films: the index was "
        "tried with means of items' vectors\n"
    ) in err
    spec = json.loads((latest(root) / "index" / "films.json").read_text())
    assert (spec["kind"], spec["links"]) == ("hnsw", 12)


def test_an_index_below_its_gate_is_one_line_and_leaves_nothing(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "recguru.toml"
    config.write_text("[index.ivf]\nlists = 30\nprobes = 1\n")
    build = ("build", "--bundle", bundle.folder, "--out", root, "--device", "cpu")

    code, out, err = shell(*build, "--index", "ivf", "--config", config)

    assert (code, out) == (1, "")
    said = err.splitlines()[-1]
    assert re.fullmatch(
        r"error: the ivf index of (books|films) found \d\d\.\d\d% of what exact search finds, "
        r"wanted are 99\.00%; not published",
        said,
    )
    assert sorted(path.name for path in root.iterdir()) in ([], [".lock"])


def test_a_sweep_says_what_other_kinds_would_do(
    shell: Shell, bundle: Bundle, root: Path, tmp_path: Path
) -> None:
    built_in(root, bundle)
    picture = tmp_path / "kinds.png"
    sweep = ["measure", "--releases", root, "--queries", 20, "--device", "cpu", "--sweep"]

    code, out, err = shell(*sweep, "--kinds", "ivf,flat", "--plot", picture)
    figures = json.loads(shell(*sweep, "--kinds", "hnsw", "--json")[1])

    assert code == 0
    assert "measuring 100 % (6/6) films ivf" in err
    lines = [line.split() for line in out.splitlines()]
    kinds = [line[0] for line in lines if line and line[0] in {"flat", "ivf"}]
    assert kinds.count("flat") == 2 * len({1, os.cpu_count()})
    assert kinds.count("ivf") >= 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    (hnsw,) = figures["sweeps"]["films"]
    assert hnsw["spec"] == {"kind": "hnsw", "links": 32, "build_effort": 100, "build_threads": 1}
    assert hnsw["bytes_per_item"] > 2 * 9 + 2 * 32 * 4
    assert {point["threads"] for point in hnsw["points"]} == {1, os.cpu_count()}
    recalls = [point["recall"] for point in hnsw["points"] if point["threads"] == 1]
    assert recalls[-1] >= max(recalls[:-1], default=0)
    for point in hnsw["points"]:
        assert 0 < point["single"]["p50_ms"] <= point["single"]["p99_ms"]
        assert point["batched"]["queries_per_s"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sweep", "--kinds", "ivf,nsw"], "--kinds: 'nsw' is none of flat, flat-f16,"),
        (["--kinds", "ivf"], "--kinds and --plot go with --sweep"),
        (["--plot", "kinds.png"], "--kinds and --plot go with --sweep"),
    ],
)
def test_a_sweep_of_nothing_is_wrong_usage(
    shell: Shell, tmp_path: Path, options: list[str], message: str
) -> None:
    code, _, err = shell("measure", "--release", tmp_path, *options)
    assert code == 2
    assert message in " ".join(err.split())


@pytest.mark.parametrize("picture", ["kinds.xyz", "missing.txt/kinds.png"])
def test_a_picture_that_cannot_be_drawn_is_said_before_anything_is_measured(
    shell: Shell, root: Path, bundle: Bundle, tmp_path: Path, picture: str
) -> None:
    assert shell("build", "--bundle", bundle.folder, "--out", root, "--device", "cpu")[0] == 0
    (tmp_path / "missing.txt").touch()
    place = tmp_path / picture

    code, out, err = shell("measure", "--releases", root, "--sweep", "--plot", place)

    assert (code, out) == (1, "")
    assert err.startswith(f"error: {'picture ' * picture.endswith('xyz')}{place}")
    assert err.count("\n") == 1


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
        (["--attributes", "films"], "--attributes 'films' is not DOMAIN=FILE"),
        (["--attributes", "films="], "--attributes 'films=' is not DOMAIN=FILE"),
        (["--attributes", "a=f", "--attributes", "a=g"], "--attributes: the name 'a' stands twice"),
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
