"""Notebooks as programs: strict parameters, execution by papermill, and the gate that keeps stale pages out."""

import ast
import hashlib
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import yaml

from nclib import data as datasets
from nclib import runs, studies
from nclib.data import folders
from nclib.studies.params import ParameterError, StudyParams, axis, check_names, coerce, expand

FOLDER = runs.ROOT / "notebooks"
PROFILES = ("smoke", "quick", "paper")
_IPYTHON = {"In", "Out", "exit", "quit", "open", "get_ipython"}


# Inside a notebook


def check(namespace: Mapping[str, object], **types: type) -> None:
    """Check a notebook's parameters by name and type, for notebooks that train nothing.

    Raises ParameterError naming a variable that is none of `types` (and the nearest that is), or has another type.
    """
    given = _variables(namespace)
    check_names(given, types)
    for name, kind in types.items():
        coerce(name, kind, given[name])


def sweep(namespace: Mapping[str, object], study: str, **axes: str) -> list[StudyParams]:
    """The runs that a notebook's parameters ask for, checked before anything is trained.

    Every variable of the notebook must be a parameter of the study, or one of `axes` (variable to parameter), whose
    value is a flat string such as "2,4,8" or "0-4"; the product of all axes is returned. An axis may bind several
    parameters at once: `pairs="width:width_b"` reads "32:32,8:64" as two pairs. In a notebook of several sweeps
    `sizes=""` says that the variable `sizes` belongs to another one. Raises ParameterError naming an unknown
    variable and the nearest known one, a wrong type, or a value out of range.
    """
    return resolve(_variables(namespace), study, axes)


def resolve(given: Mapping[str, object], study: str, axes: Mapping[str, str]) -> list[StudyParams]:
    """`sweep` on plain name-value pairs."""
    params = studies.get(study).Params
    types = params.__dataclass_fields__
    check_names(given, (*axes, *params.names()))
    values: dict[str, object] = {}
    joint: list[list[dict[str, object]]] = []
    for name, value in given.items():
        if name not in axes:
            values[name] = coerce(name, types[name].type, value)
            continue
        coerce(name, str, value)
        if not axes[name]:
            continue
        fields = axes[name].split(":")
        try:
            if len(fields) > 1:
                joint.append(_joint(value, {field: types[field].type for field in fields}))
            elif fields[0] in given and fields[0] != name:
                raise ParameterError(
                    f"{fields[0]} is a variable of its own: it cannot be the axis {name}, too"
                )
            else:
                values[fields[0]] = axis(value, types[fields[0]].type)
        except ParameterError as error:
            raise ParameterError(f"{name}: {error}") from None
    blocks = ({k: v for part in chosen for k, v in part.items()} for chosen in itertools.product(*joint))
    return expand(params, [values | block for block in blocks])


def _joint(text: str, fields: Mapping[str, type]) -> list[dict[str, object]]:
    """The values of an axis that binds several parameters: "32:32,8:64" for `width:width_b`."""
    chosen = []
    for part in text.split(","):
        parts = part.split(":")
        if len(parts) != len(fields):
            raise ParameterError(
                f"cannot read {part.strip()!r} in {text!r}: write each as {':'.join(fields)}, with commas between"
            )
        chosen.append({k: axis(v, kind)[0] for (k, kind), v in zip(fields.items(), parts, strict=True)})
    return chosen


def _variables(namespace: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in _IPYTHON
        and not isinstance(value, ModuleType)
        and not callable(value)
    }


# Around a notebook


def declared(notebook: Path) -> dict[str, object]:
    """Names and defaults of the cell tagged `parameters`. Raises ParameterError when there is not exactly one."""
    cells = [c for c in _read(notebook)["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{notebook}: needs exactly one cell tagged `parameters`, has {len(cells)}")
    values = {}
    for node in ast.parse(_source(cells[0])).body:
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
    for cell in _code(_read(notebook)):
        for node in ast.walk(ast.parse(_source(cell))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "notebooks.sweep":
                axes = {keyword.arg: keyword.value.value for keyword in node.keywords}
                found.append((node.args[1].value, axes))
    return found


class ExecutionError(Exception):
    """A notebook stopped with an error; the message is that error's one line."""


def execute(notebook: Path, given: Mapping[str, object], output: Path, *, progress: bool = False) -> None:
    """Execute with papermill from the notebook's folder and write the result in one piece, run metadata stripped.

    Raises ExecutionError, and writes nothing, when a cell fails.
    """
    import papermill  # here, since recording needs neither papermill nor Jupyter

    with tempfile.TemporaryDirectory() as folder:
        # papermill formats both paths as templates: braces in them must not reach it.
        source, target = Path(folder) / "in.ipynb", Path(folder) / "out.ipynb"
        source.write_text(notebook.read_text())
        try:
            papermill.execute_notebook(
                str(source), str(target), parameters=dict(given), kernel_name="python3", cwd=str(FOLDER),
                progress_bar=progress, autosave_cell_every=0,
                # or the kernel warns on our stderr, at every start, that local sockets are not encrypted
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            line = next((text.strip() for text in str(error.evalue).splitlines() if text.strip()), "")
            raise ExecutionError(line if error.ename in _PLAIN else f"{error.ename}: {line}") from None
        finished = json.loads(target.read_text())
    _strip(finished)
    finished["metadata"]["nclib"] = stamp(finished)
    _write(finished, output)


_PLAIN = {"ParameterError", "DataError", "RecordError", "ValueError"}
"""Errors whose message says all: what is wrong and what to do."""


def _write(notebook: dict, path: Path) -> None:
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _strip(notebook: dict) -> None:
    """Remove what differs between two runs of the same notebook: times, durations, the interpreter's version."""
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        for name in ("execution", "papermill"):
            cell["metadata"].pop(name, None)
        if cell["metadata"].get("tags") == []:
            del cell["metadata"]["tags"]
        if "outputs" in cell:
            cell["outputs"] = _merged(cell["outputs"])


def _merged(outputs: list[dict]) -> list[dict]:
    """Outputs with neighbouring pieces of one stream joined: where they are cut depends on the moment of a flush."""
    merged: list[dict] = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output["output_type"] == last.get("output_type") == "stream" and output["name"] == last["name"]:
            text = "".join(last["text"]) + "".join(output["text"])
            merged[-1] = last | {"text": text.splitlines(keepends=True)}
        else:
            merged.append(output)
    return merged


def stamp(notebook: dict) -> dict[str, str]:
    """What `execute` writes into a notebook and `gate` compares: what its outputs followed from, and the outputs."""
    outputs = [cell.get("outputs", []) for cell in _code(notebook)]
    shown = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
    return {"fingerprint": fingerprint(notebook), "outputs": shown}


def fingerprint(notebook: dict) -> str:
    """sha256 of everything that a notebook's outputs follow from: its code, all published records, claims and plots."""
    digest = hashlib.sha256()
    for cell in _code(notebook):
        digest.update(_source(cell).encode() + b"\0")
    followed = [
        p
        for folder in (runs.PUBLISHED, runs.SMOKE)
        for p in folder.rglob("*.*")
        if p.suffix in (".json", ".parquet", ".npz")
    ]
    followed += [
        p
        for name in ("claims", "plots", "theory", "metrics")
        for p in (runs.ROOT / "nclib" / name).rglob("*.*")
        if p.suffix in (".py", ".html", ".css", ".js")
    ]
    followed += [runs.ROOT / "nclib" / name for name in ("geometry.py", "stats.py", "tables.py")]
    for path in sorted(followed):
        digest.update(str(path.relative_to(runs.ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def gate(notebook: Path) -> list[str]:
    """What keeps a notebook from being published, one line each; empty when nothing does.

    Executed from top to bottom without errors or stderr, after the last change of its code, records, claims or
    plots; every output as that execution wrote it; every run it names is published and of today's generation;
    every image has an alternative text; at least one cell for nbval to compare.
    """
    content, problems = _read(notebook), []
    code = [c for c in _code(content) if _source(c).strip()]
    try:
        declared(notebook)
    except ParameterError as error:
        problems.append(str(error))
    if [c.get("execution_count") for c in code] != list(range(1, len(code) + 1)):
        problems.append("was not executed from top to bottom on a fresh kernel")
    for i, cell in enumerate(code, 1):
        outputs = cell.get("outputs", [])
        if any(o["output_type"] == "error" for o in outputs):
            problems.append(f"code cell {i} holds an error")
        if any(o.get("name") == "stderr" for o in outputs):
            problems.append(f"code cell {i} holds output on stderr")
        images = [o for o in outputs if any(k.startswith("image/") for k in o.get("data", {}))]
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        if images and not alt.strip():
            problems.append(f"code cell {i} shows an image without an alternative text")
    if not any("NBVAL_CHECK_OUTPUT" in _source(c) for c in code):
        problems.append("has no cell marked NBVAL_CHECK_OUTPUT: nbval would compare nothing")
    if any("injected-parameters" in c["metadata"].get("tags", []) for c in content["cells"]):
        problems.append("was executed with other parameters than its own")
    stored, today = content["metadata"].get("nclib", {}), stamp(content)
    if stored.get("fingerprint") != today["fingerprint"]:
        problems.append(
            "is stale: code, records, claims or plots changed since it was executed; run `make notebooks`"
        )
    if stored.get("outputs") != today["outputs"]:
        problems.append("shows outputs that its execution did not write; run `make notebooks`")
    for study, axes in sweeps(notebook):
        index, old = runs.published_index(study), set(runs.stale(study))
        keys = [studies.key(study, params) for params in resolve(declared(notebook), study, axes)]
        absent, moved = [k for k in keys if k not in index], [k for k in keys if k in old]
        if absent:
            problems.append(
                f"{len(absent)} of its {len(keys)} runs of {study} are not published, first {absent[0]}"
            )
        if moved:
            problems.append(
                f"{len(moved)} of its runs of {study} were made before numbers moved: record them again"
            )
    return [f"{notebook.name}: {problem}" for problem in problems]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ParameterError(f"there is no notebook {path}; notebooks are in {FOLDER.name}/") from None
    except ValueError:
        raise ParameterError(f"{path} is not a notebook: its content is not JSON") from None


def _code(notebook: Mapping) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _source(cell: Mapping) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _main(command: str, notebooks: Iterable[Path]) -> int:
    """`gate` or `execute-all` over the repository's notebooks."""
    if command == "execute-all":
        for notebook in notebooks:
            print(f"executing {notebook.name}", flush=True)
            try:
                execute(notebook, {}, notebook)
            except ExecutionError as error:
                print(f"{notebook.name}: {error}", file=sys.stderr)
                return 1
        return 0
    problems = [problem for notebook in notebooks for problem in gate(notebook)]
    print("\n".join(problems) or "every notebook is complete, in order and fresh")
    return 1 if problems else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "default")
    sys.exit(_main(sys.argv[1], sorted(FOLDER.glob("*.ipynb"))))
