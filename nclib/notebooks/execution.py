"""Execution by papermill: a notebook is written in one piece, less what differs between two runs of it."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nclib.notebooks.asking import FOLDER
from nclib.notebooks.freshness import stamp


class ExecutionError(Exception):
    """A notebook stopped with an error; the message is that error's one line."""


def execute(notebook: Path, given: Mapping[str, object], output: Path, *, progress: bool = False) -> None:
    """Execute with papermill from the notebook's folder and write the result in one piece, run metadata stripped.

    On one thread, unless OMP_NUM_THREADS names another number. Raises ExecutionError, and writes nothing, when a
    cell fails.
    """
    import papermill  # here, since recording needs neither papermill nor Jupyter

    with tempfile.TemporaryDirectory() as folder, _one_thread():
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for a kernel that is started within.

    Sums come out in one order, and on a busy machine no thread waits for others at every small matrix.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


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
