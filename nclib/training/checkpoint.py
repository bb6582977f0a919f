"""Checkpoints: what was killed goes on from the last one."""

import hashlib
import io
import os
import pickle
import sys
import time
from pathlib import Path

import torch


class Checkpoint(dict):
    """Everything needed to go on after a kill, kept in one file that is replaced whole.

    A dict of plain values and tensors: `train` keeps its state under "training", the caller adds what it has
    measured so far, and both are written together or not at all. Beside the file, `seconds` says how long the
    work has taken. A file that is not as it was written is named and set aside as `*.damaged`, and the work
    starts over. It is saved `every` so many seconds: $NCLIB_CHECKPOINT_SECONDS, or 60.
    """

    def __init__(self, path: Path, *, every: float | None = None):
        super().__init__()
        self._path = path
        self._every = _seconds_between() if every is None else every
        self._begun = self._saved = time.monotonic()
        if path.exists():
            try:
                self.update(_read_whole(path))
            except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
                aside = path.replace(path.with_suffix(".damaged"))
                print(f"nclib: a damaged checkpoint was set aside as {aside}", file=sys.stderr)
        self._seconds_before = float(self.get("seconds", 0.0))

    def due(self) -> bool:
        """Whether `every` seconds have passed since the last save."""
        return time.monotonic() - self._saved >= self._every

    def save(self) -> None:
        """Write all of it, atomically."""
        self["seconds"] = self._seconds_before + time.monotonic() - self._begun
        # torch.save into a file hides what the disk said, and torch.load does not notice a flipped bit.
        state = io.BytesIO()
        torch.save(dict(self), state)
        _write_whole(self._path, hashlib.sha256(state.getbuffer()).digest(), state.getbuffer())
        _write_whole(self._path.with_name("seconds"), f"{self['seconds']:.1f}".encode())
        self._saved = time.monotonic()


def _seconds_between() -> float:
    given = os.environ.get("NCLIB_CHECKPOINT_SECONDS", "60")
    try:
        return float(given)
    except ValueError:
        raise ValueError(f"NCLIB_CHECKPOINT_SECONDS is a number of seconds, got {given!r}") from None


def _write_whole(path: Path, *parts: bytes | memoryview) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        handle.writelines(parts)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _read_whole(path: Path) -> dict:
    with path.open("rb") as handle:
        digest, state = handle.read(hashlib.sha256().digest_size), io.BytesIO(handle.read())
    if hashlib.sha256(state.getbuffer()).digest() != digest:
        raise ValueError("not as it was written")
    return torch.load(state, map_location="cpu", weights_only=True)  # another host may have other devices
