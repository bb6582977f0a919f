"""What the Makefile asks of all notebooks: `python -m nclib.notebooks gate`, or `execute-all`."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from nclib.notebooks.asking import FOLDER
from nclib.notebooks.execution import ExecutionError, execute
from nclib.notebooks.freshness import gate


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
