"""What a notebook asks for, read from its file before any kernel starts."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from nclib import data as datasets
from nclib import runs, studies
from nclib.data import folders
from nclib.notebooks.variables import resolve
from nclib.studies.params import ParameterError, StudyParams, check_names, coerce

FOLDER = runs.ROOT / "notebooks"
PROFILES = ("smoke", "quick", "paper")


def declared(notebook: Path) -> dict[str, object]:
    """Names and defaults of the cell tagged `parameters`. Raises ParameterError when there is not exactly one."""
    cells = [c for c in read(notebook)["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{notebook}: needs exactly one cell tagged `parameters`, has {len(cells)}")
    values = {}
    for node in ast.parse(source(cells[0])).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or getattr(node, "value", None) is None:
            raise ParameterError(f"{notebook}: the parameters cell may only hold plain assignments")
        values[target.id] = ast.literal_eval(node.value)
    return values


def parameters(notebook: Path, given: Mapping[str, object], profile: str | None = None) -> dict[str, object]:
    """What differs from the notebook's defaults: a profile's values, then the given ones, checked as the notebook will.

    Text is read as the type of the parameter's default. Raises ParameterError before any kernel is started.
    """
    defaults = declared(notebook)
    chosen = dict(profile_of(notebook, profile)) if profile else {}
    check_names(given, defaults)
    chosen |= {name: _typed(name, value, type(defaults[name])) for name, value in given.items()}
    check_names(chosen, defaults)
    chosen = {name: coerce(name, type(defaults[name]), value) for name, value in chosen.items()}
    for dataset in {studies.get(study).dataset(params) for study, params in cells(notebook, chosen)}:
        _require_intact(dataset)
    return chosen


def cells(notebook: Path, chosen: Mapping[str, object]) -> list[tuple[str, StudyParams]]:
    """The (study, params) of every run that a notebook will ask for under these parameters."""
    values = declared(notebook) | dict(chosen)
    return [(study, params) for study, axes in sweeps(notebook) for params in resolve(values, study, axes)]


def asked(study: str, profile: str | None, replaced: Mapping[str, str]) -> list[StudyParams]:
    """The runs of one study that all notebooks together ask for, with their own values or a profile's.

    `replaced` holds flat axes ("2,4,8", "0-4") that stand in place of what the notebooks say of those
    parameters. Raises ParameterError for an unknown parameter, and for one that a notebook binds to others
    which `replaced` lacks.
    """
    check_names(replaced, studies.get(study).Params.names())
    found: list[StudyParams] = []
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        for name, axes in sweeps(notebook):
            if name != study:
                continue
            values = declared(notebook) | (profile_of(notebook, profile) if profile else {})
            bound = {variable: set(axes.get(variable, variable).split(":")) for variable in values}
            for variable, fields in bound.items():
                if fields & set(replaced) and fields - set(replaced):
                    both = " and ".join(sorted(fields))
                    raise ParameterError(
                        f"{notebook.stem} gives {both} together, as {variable}: replace both"
                    )
            kept = {v: value for v, value in values.items() if not bound[v] & set(replaced)}
            left = {v: fields for v, fields in axes.items() if v in kept}
            found += resolve(kept | replaced, study, left | {field: field for field in replaced})
    return list(dict.fromkeys(found))


def _typed(name: str, value: object, kind: type) -> object:
    if not isinstance(value, str) or kind is str:
        return value
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return kind(value) if kind in (int, float) else value
    except ValueError:
        raise ParameterError(f"{name}: expected {kind.__name__}, got {value!r}") from None


def _require_intact(dataset: str | None) -> None:
    """Data that is here must be whole before a kernel starts; what is not here may be recorded, or downloaded."""
    folders.chosen()  # an $NCLIB_DATA that is no folder is an error even where the embedded data would do
    if dataset is not None and datasets.available(dataset):
        datasets.load(dataset, "train")
        datasets.load(dataset, "test")


def profile_of(notebook: Path, profile: str) -> dict[str, object]:
    """A notebook's section of params/<profile>.yml; empty where the profile changes nothing."""
    if profile not in PROFILES:
        raise ParameterError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    content = yaml.safe_load((FOLDER / "params" / f"{profile}.yml").read_text())
    return content.get(notebook.stem) or {}


def sweeps(notebook: Path) -> list[tuple[str, dict[str, str]]]:
    """The (study, axes) of every `notebooks.sweep(globals(), "study", axis="field")` call in a notebook."""
    found = []
    for cell in code_cells(read(notebook)):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "notebooks.sweep":
                axes = {keyword.arg: keyword.value.value for keyword in node.keywords}
                found.append((node.args[1].value, axes))
    return found


def read(path: Path) -> dict:
    """A notebook's content. Raises ParameterError when there is no such file, or it is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ParameterError(f"there is no notebook {path}; notebooks are in {FOLDER.name}/") from None
    except ValueError:
        raise ParameterError(f"{path} is not a notebook: its content is not JSON") from None


def code_cells(notebook: Mapping) -> list[dict]:
    """The code cells of a notebook's content, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: Mapping) -> str:
    """A cell's text, which the format may hold as a list of lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
