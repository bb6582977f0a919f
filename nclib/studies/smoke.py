"""Stale means the numbers moved: each study's smoke run against its committed record and generation.

A record that is published carries the generation it was made under. The generation goes up only when a number
that was in the smoke record has moved; a change of source text that moves none, or a metric that only adds
rows, leaves every published record valid.
"""

import dataclasses
import json
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from nclib import runs, studies, tables
from nclib.stacking import side_by_side

RELATIVE, ABSOLUTE = 1e-5, 1e-9
"""A number has moved when it differs by more than ABSOLUTE + RELATIVE |old|. Smoke runs are float64 and a few
steps long, so that another processor or BLAS stays orders of magnitude below this, and a changed formula does
not.
"""
_ROW = ["epoch", "split", "labels", "layer", "metric"]


def run(study: str) -> pd.DataFrame:
    """The rows of the study's smoke run, made afresh on one CPU thread and recorded nowhere."""
    module = studies.get(study)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            cpu = torch.device("cpu")
            # as `jobs` does it: the numbers that are held are those of the engine that records
            (done,) = side_by_side([partial(module.run, module.SMOKE, folder=Path(folder), device=cpu)])
    finally:
        torch.set_num_threads(threads)
    if done.error is not None:
        raise done.error
    rows, _ = done.result
    return tables.from_rows(rows, run="smoke", seed=module.SMOKE.seed)


def recorded(study: str) -> pd.DataFrame:
    """The rows of the committed smoke record."""
    return tables.read(runs.SMOKE / f"{study}.parquet")


def moved(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Rows of the old record whose number is different, missing or newly undefined in the new one."""
    both = old[[*_ROW, "value"]].merge(
        new[[*_ROW, "value"]], on=_ROW, how="left", suffixes=("_old", "_new"), indicator=True
    )
    difference = (both.value_new - both.value_old).abs()
    same = (difference <= ABSOLUTE + RELATIVE * both.value_old.abs()) | (
        both.value_old.isna() & both.value_new.isna()
    )
    return both[~same | (both._merge == "left_only")].drop(columns="_merge")


def absent_values(study: str) -> dict[str, object]:
    """The study's parameters that older records do not name, with the value that those were made with."""
    fields = dataclasses.fields(studies.get(study).Params)
    return {f.name: f.metadata["absent"] for f in fields if "absent" in f.metadata}


def update(study: str) -> str:
    """Write the smoke record anew if rows were added or numbers moved; the latter raises its generation."""
    new = run(study)
    path = runs.SMOKE / f"{study}.parquet"
    generation, absent = runs.generation(study), absent_values(study)
    if path.exists():
        old = recorded(study)
        changed = moved(old, new)
        if changed.empty and len(old) == len(new) and absent == runs.absent(study):
            return f"{study}: unchanged, generation {generation}"
        generation += 0 if changed.empty else 1
        added = f"{len(new) - len(old)} rows added" if len(new) > len(old) else "a parameter added"
        what = f"{len(changed)} numbers moved" if len(changed) else added
    else:
        generation, what = 1, "first record"
    runs.SMOKE.mkdir(parents=True, exist_ok=True)
    tables.write(new, path)
    params = runs.resolved(studies.get(study).SMOKE)
    note = {"generation": generation, "params": params} | ({"absent": absent} if absent else {})
    path.with_suffix(".json").write_text(json.dumps(note, indent=1) + "\n")
    return f"{study}: {what}, generation {generation}"
