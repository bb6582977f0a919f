"""Imports point down: the table below is the layout, and the recording path carries no baggage."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nclib

PACKAGE = Path(nclib.__file__).parent

LAYOUT = {
    # module or package: what of nclib it may import; what from elsewhere
    "geometry": ((), ("torch", "jaxtyping")),
    "theory": (("geometry",), ("torch", "jaxtyping")),
    "stats": ((), ("torch", "jaxtyping")),
    "modes": ((), ("torch",)),
    "robustness": (("modes",), ("torch", "jaxtyping")),
    "metrics": (("geometry", "stats"), ("torch", "jaxtyping", "numpy")),
    "data": ((), ("torch", "jaxtyping", "numpy", "tqdm")),
    "models": (("geometry",), ("torch", "jaxtyping", "pandas")),
    "memory": ((), ("torch", "jaxtyping")),
    "graphed": ((), ("torch",)),
    "training": (("graphed",), ("torch",)),
    "decay": ((), ("torch", "jaxtyping")),
    "averaging": ((), ("torch",)),
    "stacking": (("models", "training"), ("torch", "jaxtyping")),
    "streams": (("geometry", "metrics", "stats"), ("torch", "jaxtyping")),
    "measure": (("geometry", "metrics", "modes", "robustness", "stats", "streams"), ("torch", "jaxtyping")),
    "tables": ((), ("pandas",)),
    "own": (
        ("geometry", "metrics", "modes", "stats", "streams", "tables"),
        ("torch", "jaxtyping", "numpy", "pandas"),
    ),
    "provenance": ((), ()),
    "runs": (("tables",), ("numpy", "pandas")),
    "recording": (("provenance", "runs", "tables"), ("numpy", "pandas")),
    "publication": (("recording", "runs", "tables"), ("pandas",)),
    "upkeep": (("recording", "runs"), ()),
    "studies": (
        (
            *(
                "averaging",
                "data",
                "decay",
                "geometry",
                "measure",
                "metrics",
                "models",
                "recording",
                "runs",
                "stacking",
                "stats",
                "tables",
            ),
            *("theory", "training"),
        ),
        ("torch", "jaxtyping", "numpy", "pandas", "yaml", "tqdm"),
    ),
    "claims": (("tables",), ("pandas", "numpy", "scipy")),
    "plots": (("tables",), ("pandas", "numpy", "scipy", "matplotlib", "mpl_toolkits", "seaborn")),
    "notebooks": (
        ("data", "runs", "studies"),
        ("yaml", "nbformat", "nbclient", "papermill", "traitlets"),
    ),
    "commands": (("data", "notebooks", "own", "publication", "runs", "studies", "upkeep"), ("pandas",)),
    "cli": (("commands", "data", "notebooks", "runs", "studies"), ()),
}
"""DESIGN's import table. A module may always import from its own package."""
LAZY = {"nclib.studies.cluster": ("distributed",)}
"""What a module may import besides, but only in its functions: an extra that a host may lack."""

RECORDING = (
    "studies",
    "runs",
    "recording",
    "tables",
    "training",
    "decay",
    "graphed",
    "averaging",
    "stacking",
    "provenance",
    "publication",
    "upkeep",
    "modes",
    "streams",
    "measure",
    "models",
    "data",
    "theory",
    "metrics",
    "robustness",
    "stats",
)
RECORDING_NEEDS = {"torch", "numpy", "pandas", "pyarrow", "tqdm", "yaml", "jaxtyping"}


def imports(source: str, module: str, *, eager: bool = False) -> set[str]:
    """Full names of everything a module's source imports, anywhere in it; `from a import b` gives a.b.

    `eager`: only what is imported as the module itself is.
    """
    package = module.split(".")[:-1]
    names = set()
    for node in executed_on_import(ast.parse(source)) if eager else ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value))
    return names


def executed_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Everything in a module but the bodies of functions and what only a type checker sees."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children = node.orelse
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        children = []
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from executed_on_import(child)


def violations(source: str, module: str) -> list[str]:
    """What a module (`nclib.measure`, `nclib.studies.smoke`) imports that the layout does not let it."""
    own = module.split(".")[1]
    inside, outside = LAYOUT[own]
    at_once = {name.split(".")[0] for name in imports(source, module, eager=True)}
    found = []
    for name in sorted(imports(source, module)):
        top, _, rest = name.partition(".")
        if top == "nclib":
            target = rest.split(".")[0]
            allowed = target == own or target in inside
        else:
            lazy = top in LAZY.get(module, ()) and top not in at_once
            allowed = top in outside or top in sys.stdlib_module_names or lazy
        if not allowed:
            found.append(f"{module} imports {name}")
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by name; packages carry their `__init__`."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["nclib", *path.relative_to(PACKAGE).with_suffix("").parts]
        named[".".join(parts)] = path
    del named["nclib.__init__"]  # lazy, and tested as such below
    return named


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_only(module):
    assert violations(modules()[module].read_text(), module) == []


def test_the_layout_names_what_is_there():
    assert {name.split(".")[1] for name in modules()} <= set(LAYOUT)
    levels: list[str] = []
    for name, (inside, _) in LAYOUT.items():
        assert set(inside) <= set(levels), f"{name} is allowed to import from below itself"
        levels.append(name)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nclib.training.loop", "from nclib.metrics import nc"),
        ("nclib.training.loop", "import nclib.measure"),
        ("nclib.training.loop", "def f():\n    from nclib import tables"),
        ("nclib.graphed", "from . import measure"),
        ("nclib.metrics.nc", "from ..measure import measure"),
        ("nclib.training.loop", "from importlib import import_module\nimport_module('nclib.metrics')"),
        ("nclib.data.idx", "from nclib.models import build"),
        ("nclib.runs", "from nclib import studies"),
        ("nclib.runs", "import torch"),
        ("nclib.runs", "from nclib import recording"),
        ("nclib.claims.papyan2020", "from torch import Tensor"),
        ("nclib.claims.papyan2020", "from nclib.runs import find"),
        ("nclib.plots.style", "import torch.nn as nn"),
        ("nclib.plots.style", "from nclib import studies"),
        ("nclib.plots.style", "from nclib import measure_features"),
        ("nclib.studies.mnist1d", "import matplotlib.pyplot as plt"),
        ("nclib.studies.mnist1d", "from nclib.claims import ALL"),
        ("nclib.measure", "import scipy"),
        ("nclib.measure", "from nclib.own.measuring import measure_model"),
        ("nclib.own.measuring", "from nclib.studies import generator"),
        ("nclib.studies.cluster", "from distributed import Client"),
        ("nclib.studies.cluster", "try:\n    import distributed\nexcept ImportError:\n    pass"),
        ("nclib.studies.cluster", "class A:\n    import distributed"),
        ("nclib.studies.cluster", "def f():\n    import distributed\nimport distributed"),
        ("nclib.studies.cluster", "if not TYPE_CHECKING:\n    import distributed"),
        ("nclib.studies.cluster", "def f():\n    import dask"),
        ("nclib.studies.recording", "def f():\n    import distributed"),
        ("nclib.commands", "def f():\n    import distributed"),
        ("nclib.commands", "from nclib import cli"),
    ],
)
def test_an_import_that_reaches_up_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("nclib.training.loop", "import math\nfrom torch import nn"),
        ("nclib.measure", "from nclib.metrics.spectrum import effective_rank\nfrom nclib import stats"),
        ("nclib.studies.mnist1d", "from nclib.studies.params import param\nfrom nclib import data, studies"),
        ("nclib.claims.zhu2021", "from nclib.claims.verdict import judged\nfrom nclib.tables import select"),
        ("nclib.metrics.nc", "from .spectrum import effective_rank"),
        ("nclib.studies.cluster", "def f():\n    from distributed import Client"),
        ("nclib.studies.cluster", "if TYPE_CHECKING:\n    from distributed import Client"),
    ],
)
def test_an_import_that_points_down_is_let_through(module, source):
    assert violations(source, module) == []


@pytest.mark.parametrize("name", RECORDING)
def test_the_recording_path_needs_only_what_a_bare_host_has(name):
    assert set(LAYOUT[name][1]) <= RECORDING_NEEDS
    assert set(LAYOUT[name][0]) <= {*RECORDING, "geometry"}


def bare(code: str) -> subprocess.CompletedProcess:
    """A fresh interpreter's answer, without the test session's hooks."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )


def python(code: str) -> str:
    """Standard output of a fresh interpreter that must succeed."""
    done = bare(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_that_the_package_shows_can_be_had():
    assert {"measure_features", "training", "stats"} <= set(dir(nclib))
    for name in dir(nclib):
        getattr(nclib, name)
    with pytest.raises(AttributeError, match="no attribute 'classification'"):
        nclib.classification  # noqa: B018


def test_claims_plots_and_the_package_itself_load_no_torch():
    code = "import sys, nclib, nclib.tables, nclib.runs, nclib.claims, nclib.plots; print('torch' in sys.modules)"
    assert python(code).strip() == "False"
    control = "import sys, nclib; nclib.measure_features; print('torch' in sys.modules)"
    assert python(control).strip() == "True"


def test_the_studies_import_where_nothing_but_their_needs_is_installed():
    code = f"""
{BARE_HOST}
from importlib import import_module
from nclib import studies
for name in (*studies.STUDIES, "smoke", "grids", "jobs", "pool", "recording", "cluster"):
    import_module("nclib.studies." + name)
import nclib.cli, nclib.upkeep
print(nclib.measure_features.__name__)
"""
    assert python(code).strip() == "measure_features"


BARE_HOST = """
import sys
for name in (
    "matplotlib", "seaborn", "scipy", "sklearn", "papermill", "nbformat", "nbclient", "IPython",
    "distributed", "dask", "dask_jobqueue",
):
    sys.modules[name] = None
"""


def test_a_bare_host_records_and_asks_for_dask_only_when_a_scheduler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path))
    small = "-p num_classes 3 -p per_class 2 -p feature_dim 4 -p epochs 2 -p measurements 2"
    code = f"""
{BARE_HOST}
from nclib.cli import main
if __name__ == "__main__":
    command = "record unconstrained {small}".split()
    assert main([*command, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert main([*command, "--workers", "1"]) == 0
"""
    done = bare(code)
    assert done.returncode == 0, done.stderr
    assert "--scheduler needs Dask: pip install 'nclib[cluster]'" in done.stderr
    assert len(list(tmp_path.glob("unconstrained/*/record.json"))) == 1
