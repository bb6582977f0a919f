"""How a run was made: commit, versions, host."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def collect() -> dict[str, object]:
    """Commit and whether tracked files differ from it, versions, and the kind of host.

    Where git knows no commit, as in a copy without `.git`, it is $NCLIB_COMMIT.
    """
    commit, dirty = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    commit = commit or os.environ.get("NCLIB_COMMIT")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pandas")}
    return {
        "commit": commit,
        "dirty": None if dirty is None else bool(dirty),
        "versions": versions,
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        },
    }


def _git(*command: str) -> str | None:
    try:
        # Whose files they are does not matter: nothing is done but to read.
        git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
        done = subprocess.run([*git, *command], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
