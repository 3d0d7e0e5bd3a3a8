"""Imports point one way, heavy libraries stay where they belong, and files stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "indexer", "server", "client")
FOLDERS = (*PACKAGES, "tests", "benchmarks")
SOURCES = [Path("recguru_cli.py")]
SOURCES += sorted(
    path.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("*.py")
)
SHIPPED = [path for path in SOURCES if path.parts[0] not in {"tests", "benchmarks"}]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

NEVER = {"tests", "benchmarks", "recguru_cli"}
FORBIDDEN = {
    "model": {"indexer", "server", "client", "recguru", "faiss", "grpc", "google"} | NEVER,
    "indexer": {"server", "client", "recguru", "grpc", "google"} | NEVER,
    "server": {"client", "faiss"} | NEVER,
    "client": {"indexer", "server", "faiss", "torch", "polars"} | NEVER,
}

ROOMS = ("data", "evaluation", "networks", "training", "baselines", "comparison")
"""Of `model`; each builds on those before it alone, and on the modules that lie in none."""

# Who may name a library that most of the code must do without, as the start of a path.
HOMES = {
    "torch": (
        "model/baselines/bert4rec.py",
        "model/baselines/bprmf.py",
        "model/baselines/cmf.py",
        "model/baselines/cngan.py",
        "model/baselines/doml.py",
        "model/baselines/factors.py",
        "model/baselines/mfem.py",
        "model/baselines/sasrec.py",
        "model/baselines/sequential.py",
        "model/baselines/sequential_training.py",
        "model/baselines/stored_networks.py",
        "model/baselines/transfer.py",
        "model/comparison/autoem.py",
        "model/networks/",
        "model/training/",
        "model/device.py",
        "model/inference.py",
        "model/losses.py",
        "indexer/device.py",
        "server/run.py",  # it sets how many threads torch may use
    ),
    "faiss": (
        "indexer/faiss_api.py",
        "indexer/faiss_build.py",
        "indexer/faiss_changes.py",
        "indexer/faiss_gpu.py",
    ),
    "polars": ("model/data/",),
    "pymilvus": ("indexer/milvus_api.py",),  # an extra
    "recguru": (  # the generated protobuf messages and stubs
        "server/wire.py",
        "server/service.py",
        "server/listener.py",
        "client/wire.py",
        "client/client.py",
    ),
    "opentelemetry": ("server/traces.py",),  # an extra
    "google": ("server/guard.py",),  # a message that is no protobuf is refused there
    "grpc": (
        "server/guard.py",
        "server/interceptors.py",
        "server/service.py",
        "server/health.py",
        "server/listener.py",
        "server/run.py",
        "server/tokens.py",
        "client/calls.py",
        "client/client.py",
    ),
}

# The parts of `model` that the client builds on; what is left needs torch or polars.
FOR_CLIENTS = (
    "model.arrays.",
    "model.baselines.cooccurrence.",
    "model.baselines.popularity.",
    "model.baselines.system.",
    "model.bundle.",
    "model.console.",
    "model.data.dataset.",
    "model.data.training_data.",
    "model.data.vocabulary.",
    "model.errors.",
    "model.evaluation.",
    "model.files.",
    "model.findings.",
    "model.metrics.",
    "model.pem.",
    "model.records.",
    "model.settings.",
)
IN_PROCESS = ("client/cli.py", "model.inference.")
"""The one way from the client to torch: evaluating a bundle in this process."""


@cache
def nodes(path: Path) -> list[ast.AST]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))
    return list(ast.walk(tree))


def imported(path: Path) -> Iterator[str]:
    """Give the dotted name of everything a file imports, wherever in it."""
    for node in nodes(path):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                assert level == 0, f"{path} imports relatively"
                yield from (f"{module}.{name.name}" for name in names)


def top(name: str) -> str:
    return name.partition(".")[0]


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter; return the top-level modules it has loaded at the end."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    trespasses = {
        f"{path} imports {name}"
        for path in SHIPPED
        for name in imported(path)
        if path.parts[0] == package and top(name) in FORBIDDEN[package]
    }
    assert not trespasses


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_the_model_imports_only_rooms_before_it(room: str) -> None:
    later = tuple(f"model.{each}." for each in ROOMS[ROOMS.index(room) + 1 :])
    trespasses = {
        f"{path} imports {name}"
        for path in SHIPPED
        for name in imported(path)
        if path.as_posix().startswith(f"model/{room}/") and name.startswith(later)
    }
    assert not trespasses


def test_every_room_of_the_model_has_its_place_in_the_order() -> None:
    assert {path.parts[1] for path in SHIPPED if path.parts[0] == "model" and path.parts[2:]} == {
        *ROOMS
    }


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_named_only_where_it_is_at_home(library: str) -> None:
    trespasses = {
        str(path)
        for path in SHIPPED
        for name in imported(path)
        if top(name) == library and not path.as_posix().startswith(HOMES[library])
    }
    assert not trespasses


def test_processes_of_one_training_talk_in_one_place() -> None:
    places = {
        path.as_posix()
        for path in SHIPPED
        for name in imported(path)
        if name.startswith("torch.distributed")
    }
    assert places == {"model/training/parallel.py"}


def test_the_client_builds_only_on_the_light_parts_of_the_model() -> None:
    trespasses = {
        f"{path} imports {name}"
        for path in SHIPPED
        for name in imported(path)
        if path.parts[0] == "client"
        and top(name) == "model"
        and not name.startswith(FOR_CLIENTS)
        and not (path.as_posix() == IN_PROCESS[0] and name.startswith(IN_PROCESS[1]))
    }
    assert not trespasses


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("client", {"torch", "faiss", "polars", "indexer", "server"}),
        ("indexer", {"torch", "grpc", "polars", "pymilvus", "server", "client"}),
        ("model", {"torch", "faiss", "grpc", "indexer", "server", "client"}),
    ],
)
def test_what_needs_no_torch_loads_none_by_a_detour(package: str, heavy: set[str]) -> None:
    modules = [
        dotted(path)
        for path in SHIPPED
        if path.parts[0] == package and not path.as_posix().startswith(HOMES["torch"])
    ]
    assert len(modules) > 5
    assert not loaded_after("import " + ", ".join(modules)) & heavy


def test_the_process_that_supervises_workers_loads_none_of_what_they_serve_with() -> None:
    heavy = {"torch", "faiss", "grpc", "polars", "safetensors"}
    assert not loaded_after("import server.supervisor") & heavy


def test_the_commands_help_waits_for_no_heavy_library() -> None:
    heavy = {"torch", "faiss", "grpc", "polars", "google", "matplotlib", "tensorboard"}
    assert not loaded_after("import recguru_cli") & heavy


def test_proto_is_a_source_root_and_not_a_package() -> None:
    found = list((ROOT / "proto").rglob("__init__.py"))
    assert not found, "it would hide the proto-plus library"


def test_nothing_is_pickled() -> None:
    serialisers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = set()
    for path in SHIPPED:
        found |= {f"{path} imports {name}" for name in imported(path) if top(name) in serialisers}
        for node in nodes(path):
            match node:
                case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as attribute):
                    found.add(f"{path}:{node.lineno} calls torch.{attribute}")
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    found.add(f"{path}:{node.lineno} allows pickles")
    assert not found


def test_files_and_functions_stay_small() -> None:
    found = []
    for path in SOURCES:
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            found.append(f"{path} has {lines} lines, more than {MAX_FILE_LINES}")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    found.append(f"{path}:{node.lineno} {node.name} has {length} lines")
    assert not found
