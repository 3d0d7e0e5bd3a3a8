"""Nothing shipped can run code that it finds in a file: no pickles, no evaluated text."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("model", "indexer", "server", "client", "benchmarks")
SHIPPED = [ROOT / "recguru_cli.py"]
SHIPPED += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

SERIALISERS = {
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "jsonpickle",
    "marshal",
    "pickle",
    "shelve",
}
RUNNERS = {"eval", "exec", "compile", "__import__"}
"""Builtins that make code of text."""

# `weights_only=True` makes `torch.load` safer, not safe, and checkpoints are safetensors files.
FORBIDDEN = {
    "pandas.read_pickle": "loads pickles",
    "torch.hub.load": "runs downloaded code",
    "torch.jit.load": "loads pickles",
    "torch.load": "loads pickles",
    "torch.save": "writes pickles",
    "yaml.full_load": "makes objects of text",
    "yaml.load": "makes objects of text",
    "yaml.load_all": "makes objects of text",
    "yaml.unsafe_load": "makes objects of text",
}
SUFFIXES = ("_object", "_object_list")
"""How the collectives of `torch.distributed` that send pickles are called."""


def dangers(source: str) -> set[str]:
    """List what in a source can run foreign code, as `line: what`."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    found = set()
    for node in ast.walk(tree):
        for what in _dangers_of(node, names):
            assert isinstance(node, ast.stmt | ast.expr)
            found.add(f"{node.lineno}: {what}")
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Give each name that an import binds, and the dotted name it stands for."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    own = name.name.partition(".")[0]
                    yield (name.asname, name.name) if name.asname else (own, own)
            case ast.ImportFrom(module=str(module), names=names):
                for name in names:
                    yield name.asname or name.name, f"{module}.{name.name}"


def _dangers_of(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Import(names=imported):
            yield from (f"imports {name.name}" for name in imported if _serialises(name.name))
        case ast.ImportFrom(module=str(module), names=imported):
            yield from _dangers_of_import(module, [name.name for name in imported])
        case ast.Attribute():
            yield from _dangers_of_name(_dotted(node, names))
        case ast.Name(id=name) if name in RUNNERS - names.keys():
            yield f"names {name}"
        case ast.Call():
            yield from _dangers_of_call(node, names)


def _dangers_of_import(module: str, imported: Iterable[str]) -> Iterator[str]:
    if _serialises(module):
        yield f"imports {module}"
    for name in imported:
        yield from _dangers_of_name(f"{module}.{name}")


def _dangers_of_name(dotted: str) -> Iterator[str]:
    if dotted in FORBIDDEN:
        yield f"{dotted} {FORBIDDEN[dotted]}"
    package, _, name = dotted.rpartition(".")
    if package == "builtins" and name in RUNNERS:
        yield f"names {name}"
    if package.startswith("torch.distributed") and name.endswith(SUFFIXES):
        yield f"{dotted} sends pickles"


def _dangers_of_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    dotted = _dotted(call.func, names)
    pickles = [keyword.value for keyword in call.keywords if keyword.arg == "allow_pickle"]
    for value in pickles:
        if not (isinstance(value, ast.Constant) and value.value is False):
            yield "may allow pickles"
    # False is the default of numpy today; who reads the call should not have to know of which.
    if dotted == "numpy.load" and not pickles:
        yield "numpy.load does not say allow_pickle=False"
    if dotted in {"importlib.import_module", "importlib.__import__"}:
        for argument in call.args:
            match argument:
                case ast.Constant(value=str(module)) if _serialises(module):
                    yield f"imports {module}"


def _serialises(module: str) -> bool:
    return module.partition(".")[0] in SERIALISERS


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Spell a name in full, its aliases undone; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return names.get(name, "")
        case ast.Attribute(value=value, attr=attribute):
            front = _dotted(value, names)
            return f"{front}.{attribute}" if front else ""
    return ""


def test_nothing_shipped_can_run_what_a_file_holds() -> None:
    assert len(SHIPPED) > 100
    found = {
        f"{path.relative_to(ROOT)}:{danger}"
        for path in SHIPPED
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "1: imports pickle"),
        ("import pickle as json", "1: imports pickle"),
        ("import json, cPickle", "1: imports cPickle"),
        ("from pickle import loads", "1: imports pickle"),
        ("from dill import *", "1: imports dill"),
        ("import cloudpickle.fast", "1: imports cloudpickle.fast"),
        ("def later():\n    import joblib", "2: imports joblib"),
        ("import shelve", "1: imports shelve"),
        ("import marshal", "1: imports marshal"),
        ("import importlib\nimportlib.import_module('pickle')", "2: imports pickle"),
        ("from importlib import import_module as get\nget('dill')", "2: imports dill"),
        ("__import__('pickle')", "1: names __import__"),
        ("import torch\ntorch.load(path)", "2: torch.load loads pickles"),
        ("import torch\ntorch.load(path, weights_only=True)", "2: torch.load loads pickles"),
        ("import torch as t\nread = t.load", "2: torch.load loads pickles"),
        ("from torch import load", "1: torch.load loads pickles"),
        ("import torch\ntorch.save(state, path)", "2: torch.save writes pickles"),
        ("import torch.jit\ntorch.jit.load(path)", "2: torch.jit.load loads pickles"),
        (
            "import torch.distributed as dist\ndist.broadcast_object_list(seeds)",
            "2: torch.distributed.broadcast_object_list sends pickles",
        ),
        (
            "from torch.distributed import all_gather_object",
            "1: torch.distributed.all_gather_object sends pickles",
        ),
        ("import numpy as np\nnp.load(path)", "2: numpy.load does not say allow_pickle=False"),
        (
            "from numpy import load\nload(path, 'r')",
            "2: numpy.load does not say allow_pickle=False",
        ),
        (
            "import numpy as np\nnp.load(path, None, True)",
            "2: numpy.load does not say allow_pickle=False",
        ),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "2: may allow pickles"),
        ("import numpy as np\nnp.load(path, allow_pickle=wanted)", "2: may allow pickles"),
        ("read_array(file, allow_pickle=True)", "1: may allow pickles"),
        ("import pandas\npandas.read_pickle(path)", "2: pandas.read_pickle loads pickles"),
        ("import yaml\nyaml.load(text)", "2: yaml.load makes objects of text"),
        ("from yaml import unsafe_load", "1: yaml.unsafe_load makes objects of text"),
        ("eval(text)", "1: names eval"),
        ("map(eval, texts)", "1: names eval"),
        ("exec(text)", "1: names exec"),
        ("code = compile(text, '', 'exec')", "1: names compile"),
        ("import builtins\nbuiltins.exec(text)", "2: names exec"),
    ],
)
def test_each_danger_is_seen(source: str, danger: str) -> None:
    assert dangers(source) == {danger}


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(text)",
        "from re import compile\ncompile(text)",
        "import numpy as np\nnp.load(path, mmap_mode='r', allow_pickle=False)",
        "import json\njson.load(file)",
        "import ast\nast.literal_eval(text)",
        "network.eval()",
        "import yaml\nyaml.safe_load(text)",
        "from safetensors.torch import load_file, save_file",
        "import torch.distributed as dist\ndist.all_gather(parts, part)",
        "store.load(path)",
    ],
)
def test_what_is_harmless_is_let_through(source: str) -> None:
    assert not dangers(source)
