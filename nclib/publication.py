"""Publication: finished runs of `results/` become chunks under `data/runs/`, which are only ever added to."""

import json
import shutil

import pandas as pd

from nclib import recording, runs, tables

CHUNK_LIMIT = 4_000_000
"""Bytes a published file may have: below the 5 MB that the repository allows, with room to spare."""


def publish(study: str) -> tuple[int, list[str]]:
    """Append the finished runs of `results/` as new chunks; (how many, why others were not).

    Refused: runs made under another generation of the study's smoke record, and damaged records. No chunk that
    is published is rewritten; a run published again, its record having become stale, takes the older one's place.
    """
    index, now = runs.published_index(study), runs.generation(study)
    fresh, refused = [], []
    for folder in sorted(p for p in (runs.results() / study).glob("*") if p.is_dir() and p.suffix == ""):
        published_under = index[folder.name][0]["provenance"]["generation"] if folder.name in index else None
        if published_under == now:
            continue
        try:
            run = runs.read_folder(folder, study)
        except runs.Damaged as error:
            refused.append(str(error))
            continue
        if not runs.is_of_today(run):
            if folder.name in index:  # the copy of a published record, as stale as that
                continue
            refused.append(
                f"{run.key}: made under generation {run.provenance['generation']}, now {now}: record it again"
            )
            continue
        fresh.append(run)
    pending: list[runs.Run] = []
    for run in fresh:
        pending.append(run)
        if sum(len(r.rows) for r in pending) > 250_000:
            _write_chunk(study, pending)
            pending = []
    if pending:
        _write_chunk(study, pending)
    return len(fresh), refused


def _write_chunk(study: str, new: list[runs.Run]) -> None:
    folder = runs.PUBLISHED / study
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.stem) for p in folder.glob("*.json")), default=0)
    path = folder / f"{number:04d}.parquet"
    temporary = path.with_suffix(".tmp")
    tables.write(pd.concat([run.rows for run in new], ignore_index=True), temporary)
    if temporary.stat().st_size > CHUNK_LIMIT:
        temporary.unlink()
        if len(new) == 1:
            raise runs.RecordError(f"{new[0].key} alone exceeds {CHUNK_LIMIT} bytes: measure at fewer epochs")
        _write_chunk(study, new[: len(new) // 2])
        _write_chunk(study, new[len(new) // 2 :])
        return
    for run in new:
        if run.arrays_path is not None:
            shutil.copyfile(run.arrays_path, folder / f"{run.key}.npz")
    entries = {r.key: {"params": r.params, "data": _data_of(r), "provenance": r.provenance} for r in new}
    content = {
        "study": study,
        "schema": tables.SCHEMA,
        "sha256": runs.sha256(temporary),
        "runs": entries,
    }
    temporary.rename(path)
    # The index is read from the JSON files: until this one is there, the chunk does not exist.
    recording.write_whole(path.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")


def _data_of(run: runs.Run) -> dict[str, str]:
    return json.loads((runs.results() / run.study / run.key / "record.json").read_text())["data"]
