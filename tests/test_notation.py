"""The prose pages and the code agree: metric names, names of nclib, defaults of studies, citation keys."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import nclib
from nclib import claims, runs, studies, tables

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PAGES = sorted([*BOOK.glob("*.md"), ROOT / "CONTRIBUTING.md"])
NAME = re.compile(r"\bnclib(?:\.\w+)+")
FILES = {"md", "py", "toml", "ipynb", "yml", "csv", "json"}


def section(text: str, title: str) -> str:
    """What stands under a second-level heading, its subsections included."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_cells(text: str) -> list[str]:
    """The code-formatted first cells of all table rows."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one: a function, class, method or dataclass field."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", {}) and part == parts[-1]
            found = getattr(found, part)
        return True
    return False


def test_the_notation_page_lists_every_metric_once_and_no_other():
    listed = first_cells(section((BOOK / "notation.md").read_text(), "Metrics"))
    assert sorted(listed) == sorted(tables.METRICS)


def test_metrics_named_anywhere_on_the_notation_page_exist():
    prefixes = r"(?:nc[1-4]|ncc|cka)_\w+"
    named = set(re.findall(rf"`({prefixes})`", (BOOK / "notation.md").read_text()))
    assert named and named <= set(tables.METRICS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_name_of_nclib_on_a_page_exists(page):
    names = {n for n in NAME.findall(page.read_text()) if n.rpartition(".")[2] not in FILES}
    assert sorted(n for n in names if not exists(n)) == []


@pytest.mark.parametrize(
    "name", ["nclib.stats.ClassStats.mu_H", "nclib.statistics", "nclib.tables.METRICS.x"]
)
def test_a_name_that_does_not_exist_is_found_out(name):
    assert not exists(name)


def test_the_api_page_covers_every_module_once():
    listed = re.findall(r"automodule:: (\S+)", (BOOK / "api.md").read_text())
    modules = [m.name for m in pkgutil.walk_packages(nclib.__path__, "nclib.")]
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("study", studies.STUDIES)
def test_the_deviations_page_prints_the_defaults_of_the_code(study):
    text = section((BOOK / "deviations.md").read_text(), f"`{study}`")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE)
    params = studies.get(study).Params()
    shown = {name: value for name, value in rows}
    assert len(shown) == len(rows) > (1 if study == "statements" else 5)
    assert {name: str(getattr(params, name)) for name in shown} == shown
    assert set(shown) | {"seed"} == set(params.names()), "a parameter is missing from the page"


def test_every_source_and_citation_is_in_the_bibliography():
    keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
    assert len(set(keys)) == len(keys)
    cited = {c.source for c in claims.ALL}
    for page in BOOK.glob("*.md"):
        for group in re.findall(r"\{cite:[tp]\}`([^`]+)`", page.read_text()):
            cited |= {key.strip() for key in group.split(",")}
    assert cited <= set(keys)


@pytest.mark.parametrize("study", ["unconstrained", "landscape", "mnist1d"])
def test_the_deviations_page_prints_each_optimisers_own_settings(study):
    text = section((BOOK / "deviations.md").read_text(), f"`{study}`").split("| Setting |", 1)[1]
    header, _, *rows = text.split("\n\n", 1)[0].splitlines()
    optimizers = [cell.strip() for cell in header.strip(" |").split("|")]
    shown = {name: {} for name in optimizers}
    for row in rows:
        setting, *values = [cell.strip(" `") for cell in row.strip(" |").split("|")]
        for name, value in zip(optimizers, values, strict=True):
            shown[name][setting] = value
    own = studies.get(study).OWN
    assert shown == {o: {name: str(value) for name, value in own[o].items()} for o in own}


def test_the_reproducibility_page_explains_every_field_of_provenance():
    text = section((BOOK / "reproducibility.md").read_text(), "Keys")
    entries = [entry for study in studies.STUDIES for entry, _ in runs.published_index(study).values()]
    assert entries
    recorded = set().union(*(entry["provenance"] for entry in entries))
    assert set(first_cells(text)) == recorded


class _Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 3)

    def features(self, x):
        return self.trunk(x)

    def forward(self, x):
        return self.head(self.features(x))


def test_the_examples_for_ones_own_network_run_and_agree():
    text = section((BOOK / "reexecute.md").read_text(), "Measure your own network")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = _Network(), torch.randn(60, 5)
    y = torch.arange(60) % 3
    names = {
        "model": model,
        "x": x,
        "y": y,
        "K": 3,
        "loader": list(zip(x.split(20), y.split(20), strict=True)),
    }
    values = []
    for block in blocks:
        tree = ast.parse(block)
        if isinstance(tree.body[-1], ast.Expr):
            tree.body[-1] = ast.Assign([ast.Name("value", ast.Store())], tree.body[-1].value)
        names["value"] = None
        exec(compile(ast.fix_missing_locations(tree), "reexecute.md", "exec"), names)
        values.append(names["value"])
    one_call, in_memory, _, similarity = values
    # the same batches in float32, so that only float64 comes after them
    assert {name: one_call[name] for name in names["streamed"]} == pytest.approx(names["streamed"], rel=1e-9)
    assert {name: one_call[name] for name in in_memory} == pytest.approx(in_memory, rel=1e-4)
    assert names["streamed"] == pytest.approx(in_memory, rel=1e-4)
    assert similarity == pytest.approx(1)
