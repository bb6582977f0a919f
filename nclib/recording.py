"""Recording: a run is written whole or not at all, and never made twice."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from nclib import runs, tables
from nclib.provenance import collect


class Busy(runs.RecordError):
    """Another process is making this very run."""


def record(
    study: str,
    params: object,
    data: dict[str, str],
    produce: Callable[[Path], tuple[list[dict], dict[str, np.ndarray]]],
    environment: dict[str, object],
) -> runs.Run:
    """The run of these parameters: found if it was ever made, else made by `produce` and written whole.

    `produce` gets a folder for its checkpoints, which outlives a kill and is removed when the record stands.
    A failure leaves `<key>.failed.json` with the traceback, and no record. Raises RecordError when the same
    run is being made by another process.
    """
    run_key = runs.key(study, params, data)
    if runs.is_current(study, run_key):
        return runs.find(study, run_key)
    base = runs.results() / study
    base.mkdir(parents=True, exist_ok=True)
    partial = base / f"{run_key}.partial"
    failed = base / f"{run_key}.failed.json"
    with lock(study, run_key):
        if runs.is_current(study, run_key):  # another process has finished it since
            return runs.find(study, run_key)
        _make_room(study, run_key)
        if runs.is_current(study, run_key):  # a damaged copy hid a published record
            return runs.find(study, run_key)
        _begin(partial, runs.generation(study))
        # Before the work: its checkpoints write the sum of earlier sessions and this one to the same place.
        earlier = _earlier_seconds(partial)
        provenance = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **collect(),
            "generation": runs.generation(study),
            **environment,
        }
        provenance |= _resumed_from(partial, provenance)
        begun = time.perf_counter()
        entry = {"params": runs.resolved(params), "data": data, "provenance": provenance}
        try:
            rows, arrays = produce(partial)
            table = tables.from_rows(rows, run=run_key, seed=params.seed)
            provenance |= {"status": "done", "seconds": round(time.perf_counter() - begun + earlier, 1)}
            _write_folder(base / run_key, entry, table, arrays)
        except Exception as error:
            provenance |= {
                "status": "failed",
                "error": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
            }
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_whole(failed, json.dumps(entry, indent=1))
            raise
        shutil.rmtree(partial)
        failed.unlink(missing_ok=True)
    return runs.find(study, run_key)


def _make_room(study: str, run_key: str) -> None:
    """Set aside a fresh record that cannot be read, or is of another generation."""
    folder = runs.results() / study / run_key
    if not folder.exists():
        return
    try:
        runs.read_folder(folder, study)
        kind = "stale"
    except runs.Damaged:
        kind = "damaged"
    aside = folder.with_name(f"{run_key}.{uuid.uuid4().hex[:8]}.{kind}")
    folder.rename(aside)
    print(f"nclib: a {kind} record was set aside as {runs.relative(aside)}", file=sys.stderr)


def _begin(partial: Path, now: int) -> None:
    """The folder of a run's checkpoints: those of another generation would mix two codes in one run."""
    note = partial / "generation"
    if partial.exists() and (not note.exists() or note.read_text() != str(now)):
        shutil.rmtree(partial)
    if not partial.exists():  # a note written again on a full disk would be an empty one
        partial.mkdir()
        note.write_text(str(now))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees all of it or none."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        temporary.write_text(text)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _earlier_seconds(partial: Path) -> float:
    """Seconds that sessions before a resumption spent, which the checkpoint's writer left here."""
    path = partial / "seconds"
    return float(path.read_text()) if path.exists() else 0.0


def _resumed_from(partial: Path, provenance: dict[str, object]) -> dict[str, list]:
    """What is known of the sessions before a resumption: another commit or number of threads rounds otherwise.

    This session is noted for the ones after it.
    """
    path = partial / "sessions.json"
    # Without a checkpoint there is nothing to resume.
    saved = path.exists() and (partial / "seconds").exists()
    earlier = json.loads(path.read_text()) if saved else []
    with contextlib.suppress(OSError):  # a full disk shows at the first checkpoint, which is what resumes
        write_whole(path, json.dumps([*earlier, provenance]))
    return {"resumed_from": earlier} if earlier else {}


def _lock_file(study: str, run_key: str) -> Path:
    return runs.results() / study / f".{run_key}.lock"


@contextlib.contextmanager
def lock(study: str, run_key: str) -> Iterator[None]:
    """Held by whoever makes a run, or removes what is left of one. Raises Busy when it is held."""
    path = _lock_file(study, run_key)
    patience = time.monotonic() + 0.1
    while True:
        handle = path.open("w")
        try:
            # The kernel releases it even when the holder is killed.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            if time.monotonic() < patience:  # whoever asks `is_running` holds it for a moment
                time.sleep(0.01)
                continue
            raise Busy(f"{study} {run_key} is being recorded by another process: wait for it") from None
        # Its last holder may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                break
        handle.close()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        handle.close()


def is_running(study: str, run_key: str) -> bool:
    """Whether a process of this machine is making this run."""
    try:
        with _lock_file(study, run_key).open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _write_folder(target: Path, entry: dict, table: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    temporary = _temporary_folder()
    try:
        tables.write(table, temporary / "table.parquet")
        if arrays:
            np.savez_compressed(temporary / "arrays.npz", **arrays)
        # Parquet alone does not notice a flipped bit.
        entry = entry | {"sha256": runs.sha256(temporary / "table.parquet")}
        (temporary / "record.json").write_text(json.dumps(entry, indent=1, allow_nan=False))
        _settle(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_folder() -> Path:
    temporary = runs.results() / f".tmp-{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    return temporary


def _settle(temporary: Path, target: Path) -> None:
    """Make a complete folder durable, then visible under its name in one step."""
    for path in temporary.iterdir():
        _to_disk(path)
    _to_disk(temporary)
    temporary.rename(target)
    _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    """A file's bytes, or a folder's names, outlast a power cut from here on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


RECORD_FILES = ("record.json", "table.parquet", "arrays.npz")


def carry(study: str, run_key: str) -> dict[str, bytes]:
    """The files of a fresh record, to be taken to another machine; empty if it is not among fresh results."""
    folder = runs.results() / study / run_key
    return {name: (folder / name).read_bytes() for name in RECORD_FILES if (folder / name).exists()}


def adopt(study: str, run_key: str, files: dict[str, bytes]) -> None:
    """Take in a record that another machine has made; one that is here, or being made, stays as it is."""
    if runs.is_current(study, run_key) or not files:
        return
    temporary = _temporary_folder()
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (runs.results() / study).mkdir(exist_ok=True)
        with contextlib.suppress(Busy), lock(study, run_key):
            if not runs.is_current(study, run_key):
                _make_room(study, run_key)
            if not runs.is_current(study, run_key):
                _settle(temporary, runs.results() / study / run_key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
