"""What lies in `results/` besides records: runs begun, running or failed, and what nothing refers to any more."""

import json
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nclib import runs


def unfinished(study: str) -> dict[str, str]:
    """Keys of runs that are not recorded: "running", "failed" with its error, or "begun" (to be gone on with)."""
    base = runs.results() / study
    states = {path.name.removesuffix(".partial"): "begun" for path in base.glob("*.partial")}
    for path in base.glob("*.failed.json"):
        states[path.name.removesuffix(".failed.json")] = f"failed: {_error(path)}"
    for key in states:
        if runs.is_running(study, key):
            states[key] = "running"
    return states


def _error(path: Path) -> str:
    try:
        return " ".join(json.loads(path.read_text())["provenance"]["error"].split())
    except (OSError, ValueError, KeyError, TypeError):
        return f"its note {path.name} cannot be read"


@dataclass(frozen=True)
class Leftover:
    """Something in `results/` that can go, and why."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes that its removal frees."""
        files = [self.path] if self.path.is_file() else [p for p in self.path.rglob("*") if p.is_file()]
        return sum(path.stat().st_size for path in files)

    def remove(self) -> None:
        """Remove it."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def leftovers(study: str, wanted: Collection[str]) -> list[Leftover]:
    """What can go of a study's results; `wanted` holds the keys of all runs that a grid or notebook names.

    Nothing of a run that is being made. A fresh record goes when it is published, or when nothing names it; a
    checkpoint or a note of failure when its run is recorded, or when nothing names it; what a kill or a
    damaged file has left, always.
    """
    base, index, found = runs.results() / study, runs.published_index(study), []
    for path in sorted(base.iterdir()) if base.is_dir() else []:
        key, _, kind = path.name.removeprefix(".").partition(".")
        if runs.is_running(study, key):
            continue
        if kind == "lock":
            why = "the lock of a process that is gone"
        elif key.startswith("tmp-"):
            why = "a write that was killed"
        elif kind.endswith("damaged"):
            why = "a damaged record, set aside"
        elif kind in ("partial", "failed.json") and runs.is_recorded(study, key):
            why = "of a run that is recorded since"
        elif kind == "" and key in index:
            why = "a copy of a published record"
        elif key not in wanted:
            why = "of a run that no grid or notebook names"
        else:
            continue
        found.append(Leftover(path, why))
    return found


def killed_writes() -> list[Leftover]:
    """Temporary folders that a kill has left in `results/` itself, unless one was touched in the last hour."""
    old = [p for p in runs.results().glob(".tmp-*") if time.time() - p.stat().st_mtime > 3600]
    return [Leftover(path, "a write that was killed") for path in sorted(old)]
