"""The run store: a run is found by its parameters, written whole or not at all, and never made twice."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from nclib import tables
from nclib.provenance import collect

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "data" / "runs"
SMOKE = ROOT / "data" / "smoke"


class RecordError(Exception):
    """A record is damaged, foreign or cannot be made; the message is one line and says what to do."""


class Busy(RecordError):
    """Another process is making this very run."""


class Damaged(RecordError):
    """A fresh record that cannot be read: set it aside, and the run is made again."""


def results() -> Path:
    """Where fresh runs go: $NCLIB_RESULTS, or the git-ignored `results/` of the checkout."""
    return Path(os.environ.get("NCLIB_RESULTS", ROOT / "results"))


def resolved(params: object) -> dict[str, object]:
    """The parameters that name a run: every field, less those at the value that reproduces older records.

    A field added to a Params later declares that value as `field(metadata={"absent": value})`.
    """
    values = dataclasses.asdict(params)
    for field in dataclasses.fields(params):
        if "absent" in field.metadata and values[field.name] == field.metadata["absent"]:
            del values[field.name]
    return values


def key(study: str, params: object, data: dict[str, str]) -> str:
    """Sixteen hex digits: sha256 of canonical JSON of study, schema, resolved parameters, data checksums."""
    return _key(study, resolved(params), data)


def _key(study: str, params: dict[str, object], data: dict[str, str]) -> str:
    content = {"study": study, "schema": tables.SCHEMA, "params": params, "data": data}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Run:
    """One recorded run: its numbers, the parameters that name it, and how it was made."""

    key: str
    study: str
    params: dict[str, object]
    rows: pd.DataFrame
    """The long table as recorded, columns `tables.COLUMNS`."""
    provenance: dict[str, object]
    arrays_path: Path | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The long table with the run's parameters joined as columns."""
        return join(self.rows, {self.key: self.params}, absent(self.study))

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is not a scalar: name to array; empty when the run recorded none."""
        if self.arrays_path is None:
            return {}
        try:
            with self.arrays_path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:
            shown = _shown(self.arrays_path)
            raise RecordError(
                f"{shown} cannot be read ({type(error).__name__}): restore it, or delete its record"
            ) from error

    def __repr__(self) -> str:
        return f"Run({self.study} {self.key}, {len(self.rows)} rows)"


def join(rows: pd.DataFrame, params: dict[str, dict[str, object]], absent: dict[str, object]) -> pd.DataFrame:
    """The rows with each run's parameters as columns; one that is a column already (seed) is kept once.

    A run without a parameter was made with the value in `absent`.
    """
    frame = pd.DataFrame.from_dict({k: absent | p for k, p in params.items()}, orient="index")
    return rows.join(frame.drop(columns=[c for c in frame if c in tables.COLUMNS]), on="run")


# Finding


def find(study: str, run_key: str) -> Run | None:
    """The run of this key among fresh results, then among published records; None if there is none.

    Of two records, the one of today's generation. Raises Damaged for a fresh record that cannot be read, and
    RecordError for a published one.
    """
    folder = results() / study / run_key
    fresh = read_folder(folder, study) if folder.is_dir() else None
    if fresh is not None and is_of_today(fresh):
        return fresh
    index = published_index(study)
    if run_key not in index:
        return fresh
    entry, chunk = index[run_key]
    rows = _published_rows(chunk)
    rows = rows[rows.run == run_key].reset_index(drop=True)
    published_run = _run(study, run_key, entry, rows, chunk.parent)
    return published_run if fresh is None or is_of_today(published_run) else fresh


def is_of_today(run: Run) -> bool:
    """Whether the run was made under today's generation."""
    return run.provenance["generation"] == generation(run.study)


def is_recorded(study: str, run_key: str) -> bool:
    """Whether there is a record of this key that can be read, fresh or published."""
    try:
        return find(study, run_key) is not None
    except Damaged:
        return False


def is_current(study: str, run_key: str) -> bool:
    """Whether there is such a record of today's generation: one of another is made again where runs are made."""
    try:
        found = find(study, run_key)
    except Damaged:
        return False
    return found is not None and is_of_today(found)


def published_index(study: str) -> dict[str, tuple[dict, Path]]:
    """Key to (record, chunk's Parquet file) of every published run of a study; of two, the one published last."""
    folder = PUBLISHED / study
    files = tuple(sorted((path, path.stat().st_mtime_ns) for path in folder.glob("*.json")))
    return _index(files)


@lru_cache(maxsize=32)
def _index(files: tuple[tuple[Path, int], ...]) -> dict[str, tuple[dict, Path]]:
    index = {}
    for path, _ in files:
        content = _read_json(path)
        if not isinstance(content.get("runs"), dict):
            _damaged(path, "is not the record of a chunk")
        for run_key, entry in content["runs"].items():
            index[run_key] = (entry, path.with_suffix(".parquet"))
    return index


def published(study: str) -> pd.DataFrame:
    """All published rows of a study with parameters joined; an empty table when nothing is published."""
    index = published_index(study)
    if not index:
        return pd.DataFrame(columns=list(tables.COLUMNS))
    chunk_of = {key: chunk for key, (_, chunk) in index.items()}
    parts = []
    for chunk in sorted(set(chunk_of.values())):
        rows = _published_rows(chunk)
        parts.append(rows[rows.run.map(chunk_of) == chunk])
    rows = pd.concat(parts)
    params = {k: entry["params"] for k, (entry, _) in index.items()}
    return join(rows.reset_index(drop=True), params, absent(study))


def _published_rows(chunk: Path) -> pd.DataFrame:
    return _cached_rows(chunk, chunk.stat().st_mtime_ns) if chunk.exists() else _damaged(chunk, "is missing")


@lru_cache(maxsize=64)
def _cached_rows(chunk: Path, _mtime: int) -> pd.DataFrame:
    expected = _read_json(chunk.with_suffix(".json"))["sha256"]
    if sha256(chunk) != expected:
        _damaged(chunk, "does not match the checksum beside it")
    return tables.read(chunk)


def _damaged(path: Path, what: str):
    raise RecordError(f"{_shown(path)} {what}: restore it with `git checkout -- {_shown(path)}`")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    return content if isinstance(content, dict) else _damaged(path, "is not readable JSON")


def read_folder(folder: Path, study: str) -> Run:
    """The fresh record in a folder. Raises Damaged when it is not as it was written."""
    try:
        entry, table = json.loads((folder / "record.json").read_text()), folder / "table.parquet"
        if _key(study, entry["params"], entry["data"]) != folder.name:
            raise ValueError("other parameters than its name says")
        if entry.get("sha256", sha256(table)) != sha256(table):  # records of before have none
            raise ValueError("another table than was written")
        return _run(study, folder.name, entry, tables.read(table), folder, "arrays.npz")
    except Exception as error:
        raise Damaged(
            f"the record {_shown(folder)} cannot be read ({type(error).__name__}): "
            "`nclib record` sets it aside and makes the run again"
        ) from error


def sha256(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(
    study: str, run_key: str, entry: dict, rows: pd.DataFrame, folder: Path, arrays: str | None = None
) -> Run:
    path = folder / (arrays or f"{run_key}.npz")
    return Run(run_key, study, entry["params"], rows, entry["provenance"], path if path.exists() else None)


# Recording


def record(
    study: str,
    params: object,
    data: dict[str, str],
    produce: Callable[[Path], tuple[list[dict], dict[str, np.ndarray]]],
    environment: dict[str, object],
) -> Run:
    """The run of these parameters: found if it was ever made, else made by `produce` and written whole.

    `produce` gets a folder for its checkpoints, which outlives a kill and is removed when the record stands.
    A failure leaves `<key>.failed.json` with the traceback, and no record. Raises RecordError when the same
    run is being made by another process.
    """
    run_key = key(study, params, data)
    if is_current(study, run_key):
        return find(study, run_key)
    base = results() / study
    base.mkdir(parents=True, exist_ok=True)
    partial = base / f"{run_key}.partial"
    failed = base / f"{run_key}.failed.json"
    with lock(study, run_key):
        if is_current(study, run_key):  # another process has finished it since
            return find(study, run_key)
        _make_room(study, run_key)
        if is_current(study, run_key):  # a damaged copy hid a published record
            return find(study, run_key)
        _begin(partial, generation(study))
        # Before the work: its checkpoints write the sum of earlier sessions and this one to the same place.
        earlier = _earlier_seconds(partial)
        provenance = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **collect(),
            "generation": generation(study),
            **environment,
        }
        begun = time.perf_counter()
        entry = {"params": resolved(params), "data": data, "provenance": provenance}
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
    return find(study, run_key)


def _make_room(study: str, run_key: str) -> None:
    """Set aside a fresh record that cannot be read, or is of another generation."""
    folder = results() / study / run_key
    if not folder.exists():
        return
    try:
        read_folder(folder, study)
        kind = "stale"
    except Damaged:
        kind = "damaged"
    aside = folder.with_name(f"{run_key}.{uuid.uuid4().hex[:8]}.{kind}")
    folder.rename(aside)
    print(f"nclib: a {kind} record was set aside as {_shown(aside)}", file=sys.stderr)


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


def own_seconds(provenance: dict) -> float:
    """A run's share of the seconds that it was trained in, side by side with others."""
    return provenance["seconds"] / provenance.get("side_by_side", 1)


def _earlier_seconds(partial: Path) -> float:
    """Seconds that sessions before a resumption spent, which the checkpoint's writer left here."""
    path = partial / "seconds"
    return float(path.read_text()) if path.exists() else 0.0


def _lock_file(study: str, run_key: str) -> Path:
    return results() / study / f".{run_key}.lock"


@contextlib.contextmanager
def lock(study: str, run_key: str) -> Iterator[None]:
    """Held by whoever makes a run, or removes what is left of one. Raises Busy when it is held."""
    path = _lock_file(study, run_key)
    while True:
        handle = path.open("w")
        try:
            # The kernel releases it even when the holder is killed.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
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
        entry = entry | {"sha256": sha256(temporary / "table.parquet")}
        (temporary / "record.json").write_text(json.dumps(entry, indent=1, allow_nan=False))
        _settle(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_folder() -> Path:
    temporary = results() / f".tmp-{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    return temporary


def _settle(temporary: Path, target: Path) -> None:
    """Make a complete folder durable, then visible under its name in one step."""
    for path in temporary.iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    temporary.rename(target)


RECORD_FILES = ("record.json", "table.parquet", "arrays.npz")


def carry(study: str, run_key: str) -> dict[str, bytes]:
    """The files of a fresh record, to be taken to another machine; empty if it is not among fresh results."""
    folder = results() / study / run_key
    return {name: (folder / name).read_bytes() for name in RECORD_FILES if (folder / name).exists()}


def adopt(study: str, run_key: str, files: dict[str, bytes]) -> None:
    """Take in a record that another machine has made; one that is here, or being made, stays as it is."""
    if is_current(study, run_key) or not files:
        return
    temporary = _temporary_folder()
    try:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (results() / study).mkdir(exist_ok=True)
        with contextlib.suppress(Busy), lock(study, run_key):
            if not is_current(study, run_key):
                _make_room(study, run_key)
            if not is_current(study, run_key):
                _settle(temporary, results() / study / run_key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# Freshness, and what a table comes from


def generation(study: str) -> int:
    """The generation of the study's smoke record: it goes up when a number in it has moved. 0 without one."""
    path = SMOKE / f"{study}.json"
    return _read_json(path)["generation"] if path.exists() else 0


def absent(study: str) -> dict[str, object]:
    """Parameters added to a study later, and the value that each has in runs whose records do not name it."""
    path = SMOKE / f"{study}.json"
    return _read_json(path).get("absent", {}) if path.exists() else {}


def stale(study: str) -> list[str]:
    """Keys of published runs that were made under another generation than today's."""
    now = generation(study)
    return [k for k, (entry, _) in published_index(study).items() if entry["provenance"]["generation"] != now]


def origin(study: str, table: pd.DataFrame) -> str:
    """One line naming the runs that a table, and so a figure, comes from: keys, commit, torch, device."""
    keys = list(dict.fromkeys(table.run))
    found = [run for run in (find(study, k) for k in keys) if run is not None]
    if len(found) < len(keys):
        raise RecordError(
            f"{len(keys) - len(found)} of {len(keys)} runs in this table are not in the run store"
        )
    every = [run.provenance for run in found]

    def distinct(values: list[str]) -> str:
        return ", ".join(sorted(set(values)))

    shown = ", ".join(k[:8] for k in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    commits = distinct([str(p["commit"])[:7] + ("+" if p["dirty"] else "") for p in every])
    return (
        f"Made from {len(keys)} run{'s' * (len(keys) != 1)} of {study} ({shown}); "
        f"commit {commits}; torch {distinct([p['versions']['torch'] for p in every])}; "
        f"{distinct([p['device'] for p in every])}; "
        f"generation {distinct([str(p['generation']) for p in every])}."
    )
