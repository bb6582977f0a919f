"""What lies in `results/` besides records: runs begun, running or failed, and what nothing refers to any more."""

import json
import re
import shutil
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from nclib import recording, runs


def unfinished(study: str) -> dict[str, str]:
    """Keys of runs that are not recorded: "running", "failed: " and why, or "begun" (to be gone on with)."""
    base = runs.results() / study
    states = {path.name.removesuffix(".partial"): "begun" for path in base.glob("*.partial")}
    for path in base.glob("*.failed.json"):
        states[path.name.removesuffix(".failed.json")] = f"failed: {_error(path)}"
    states |= {key: "running" for key in states if recording.is_running(study, key)}
    return {key: state for key, state in states.items() if not runs.is_recorded(study, key)}


def _error(path: Path) -> str:
    try:
        return " ".join(str(json.loads(path.read_text())["provenance"]["error"]).split())
    except (OSError, ValueError, KeyError, TypeError):
        return f"its note {path.name} cannot be read"


@dataclass(frozen=True)
class Leftover:
    """Something in `results/` that can go, and why."""

    path: Path
    why: str
    run: tuple[str, str] | None = None
    """Study and key of the run that it is of."""

    @property
    def size(self) -> int:
        """Bytes that its removal frees."""
        files = [self.path] if self.path.is_file() else [p for p in self.path.rglob("*") if p.is_file()]
        return sum(path.stat().st_size for path in files)

    def remove(self) -> bool:
        """Remove it; not if a process is at its run by now. Whether it was removed."""
        try:
            with recording.lock(*self.run) if self.run else nullcontext():
                if self.path.is_dir():
                    shutil.rmtree(self.path)
                elif self.path.suffix != ".lock":  # which goes as it is released
                    self.path.unlink(missing_ok=True)
        except recording.Busy:
            return False
        return True


def leftovers(study: str, wanted: Collection[str] | None = None) -> list[Leftover]:
    """What can go of a study's results; `wanted` holds the keys of all runs that a grid or notebook names.

    Nothing of a run that is being made. A fresh record goes when it is published, a checkpoint or a note of
    failure when its run is recorded, and what a kill or a damaged file has left, always. With `wanted`, so does
    whatever is of a run that nothing names. What is none of these is somebody's own, and stays.
    """
    base, index, now = runs.results() / study, runs.published_index(study), runs.generation(study)
    found: list[Leftover] = []
    for path in sorted(base.iterdir()) if base.is_dir() else []:
        key, _, kind = path.name.removeprefix(".").partition(".")
        if path.name.startswith(".tmp-") and _is_old(path):
            found.append(Leftover(path, "a write that was killed"))
        if not re.fullmatch("[0-9a-f]{16}", key) or recording.is_running(study, key):
            continue
        if kind == "lock":
            why = "the lock of a process that is gone"
        elif kind.endswith(("damaged", "stale")):
            why = f"a {kind.rpartition('.')[2]} record, set aside"
        elif kind in ("partial", "failed.json") and runs.is_recorded(study, key):
            why = "of a run that is recorded since"
        elif kind == "" and key in index and index[key][0]["provenance"]["generation"] == now:
            why = "a copy of a published record"
        elif wanted is not None and key not in wanted:
            why = "of a run that no grid or notebook names"
        else:
            continue
        found.append(Leftover(path, why, (study, key)))
    return found


def killed_writes() -> list[Leftover]:
    """Temporary folders that a kill has left in `results/` itself."""
    found = sorted(filter(_is_old, runs.results().glob(".tmp-*")))
    return [Leftover(path, "a write that was killed") for path in found]


def _is_old(path: Path) -> bool:
    """Whether no process can still be writing it: it was not touched in the last hour."""
    try:
        return time.time() - path.stat().st_mtime > 3600
    except FileNotFoundError:  # it was being written, and is whole by now
        return False
