"""The gate that keeps stale pages out: what a notebook's outputs followed from is stamped into it."""

import hashlib
import json
from pathlib import Path

from nclib import runs, studies
from nclib.notebooks.asking import code_cells, declared, read, source, sweeps
from nclib.notebooks.variables import resolve
from nclib.studies.params import ParameterError


def stamp(notebook: dict) -> dict[str, str]:
    """What `execute` writes into a notebook and `gate` compares: what its outputs followed from, and the outputs."""
    outputs = [cell.get("outputs", []) for cell in code_cells(notebook)]
    shown = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
    return {"fingerprint": fingerprint(notebook), "outputs": shown}


def fingerprint(notebook: dict) -> str:
    """sha256 of everything that a notebook's outputs follow from: its code, all published records, claims and plots."""
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        digest.update(source(cell).encode() + b"\0")
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
    followed += [
        runs.ROOT / "nclib" / name for name in ("geometry.py", "stats.py", "tables.py", "studies/clock.py")
    ]
    for path in sorted(followed):
        digest.update(str(path.relative_to(runs.ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def gate(notebook: Path) -> list[str]:
    """What keeps a notebook from being published, one line each; empty when nothing does.

    Executed from top to bottom without errors or stderr, after the last change of its code, records, claims or
    plots; every output as that execution wrote it; every run it names is published and of today's generation;
    every image has an alternative text; at least one cell for nbval to compare.
    """
    content, problems = read(notebook), []
    code = [c for c in code_cells(content) if source(c).strip()]
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
    if not any("NBVAL_CHECK_OUTPUT" in source(c) for c in code):
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
