"""The run store as one reads it: a run is found by the parameters that name it."""

import dataclasses
import hashlib
import json
import os
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from nclib import tables

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "data" / "runs"
SMOKE = ROOT / "data" / "smoke"


class RecordError(Exception):
    """A record is damaged, foreign or cannot be made; the message is one line and says what to do."""


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
            shown = relative(self.arrays_path)
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


def own_seconds(provenance: dict) -> float:
    """A run's share of the seconds that it was trained in, side by side with others."""
    return provenance["seconds"] / provenance.get("side_by_side", 1)


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
    raise RecordError(f"{relative(path)} {what}: restore it with `git checkout -- {relative(path)}`")


def relative(path: Path) -> str:
    """A path as messages name it: within the checkout, from its root."""
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
            f"the record {relative(folder)} cannot be read ({type(error).__name__}): "
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
