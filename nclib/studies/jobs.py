"""Jobs: runs that one process trains side by side; how runs are put together, and what becomes of each."""

import dataclasses
import errno
import os
from collections.abc import Iterable, Sequence
from functools import partial

import pandas as pd
import torch

from nclib import recording, runs, studies
from nclib.runs import RecordError, Run
from nclib.stacking import side_by_side
from nclib.studies.params import StudyParams
from nclib.training import Stopped

Cell = tuple[str, StudyParams]
"""A study and the parameters of one run."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    study: str
    params: StudyParams
    status: str
    """recorded; elsewhere: recorded meanwhile by someone else; busy: someone else is at it; stopped; failed"""
    message: str = ""
    seconds: float = 0.0
    disk_full: bool = False
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """The record itself, where it was made on a machine whose files are not ours."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of all runs that were asked for: outcomes of those that were not recorded before."""

    cells: Sequence[Cell]
    outcomes: Sequence[Outcome]

    def count(self, status: str) -> int:
        """How many runs ended so."""
        return sum(o.status == status for o in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """One line for each run that failed, or was stopped by somebody else than us."""
        return [f"{o.study} {_short(o)}: {o.message}" for o in self.outcomes if o.status in _UNDONE]

    def raise_failures(self) -> None:
        """Raise RecordError, naming the first, if any run failed."""
        if self.failures:
            raise RecordError(f"{len(self.failures)} of {len(self.outcomes)} runs failed: {self.failures[0]}")

    def table(self) -> pd.DataFrame:
        """Per study: runs asked for, recorded before, now, elsewhere meanwhile, failed; seconds of training."""
        rows = {}
        for study in dict.fromkeys(study for study, _ in self.cells):
            own = [o for o in self.outcomes if o.study == study]
            asked = sum(name == study for name, _ in self.cells)
            rows[study] = {
                "runs": asked,
                "before": asked - len(own),
                "now": sum(o.status == "recorded" for o in own),
                "elsewhere": sum(o.status == "elsewhere" for o in own),
                "failed": sum(o.status in _UNDONE for o in own),
                "seconds": round(sum(o.seconds for o in own)),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("study")


_UNDONE = ("failed", "stopped")


def _short(outcome: Outcome) -> str:
    return f"{studies.key(outcome.study, outcome.params)} (seed {outcome.params.seed})"


def plan(cells: Iterable[Cell], *, workers: int, device: torch.device) -> list[tuple[Cell, ...]]:
    """The jobs that these runs make: longest first where several workers share them, else in the order given.

    Runs of a study that says which of them may be stacked (its function `stack`) share a job, as many as are
    fastest together, but never so many that a worker goes without; all others are a job each.
    """
    groups: dict[object, list[Cell]] = {}
    sizes: dict[object, int] = {}
    for i, (study, params) in enumerate(cells):
        stack = getattr(studies.get(study), "stack", None)
        shape, size = stack(params, device) if stack else (i, 1)
        groups.setdefault((study, shape), []).append((study, params))
        sizes[study, shape] = size
    jobs = [job for key, group in groups.items() for job in _divided(group, sizes[key], workers)]
    return sorted(jobs, key=cost, reverse=True) if workers > 1 else jobs


def _divided(group: list[Cell], size: int, workers: int) -> list[tuple[Cell, ...]]:
    """Jobs of this size, or, where that makes fewer of them than workers, of equal ones."""
    n, count = len(group), min(len(group), workers)
    if n >= count * size:
        return [tuple(group[i : i + size]) for i in range(0, n, size)]
    return [tuple(group[n * i // count : n * (i + 1) // count]) for i in range(count)]


def cost(job: Iterable[Cell]) -> float:
    """Rough seconds of a job on one core."""
    return sum(studies.get(study).cost(params) for study, params in job)


def perform(job: Sequence[Cell], device: str) -> list[Outcome]:
    """Train and record these runs in this process, side by side; an outcome each, whatever happens."""
    where = studies.choose_device(device)
    works = [partial(_record, study, params, where, len(job)) for study, params in job]
    done = side_by_side(works)
    return [_outcome(cell, one.result, one.error) for cell, one in zip(job, done, strict=True)]


def run(study: str, params: StudyParams, *, device: torch.device) -> Run:
    """The recorded run of these parameters, made in this process if it never was. Raises as the run does."""
    (one,) = side_by_side([partial(_record, study, params, device, 1)])
    if one.error is not None:
        raise one.error
    return one.result[0]


def _record(study: str, params: StudyParams, device: torch.device, beside: int) -> tuple[Run, bool]:
    """The run, and whether it was made here and now."""
    module, made = studies.get(study), []
    environment = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **_rounding(device),
        "side_by_side": beside,
    }

    def produce(folder):
        made.append(folder)
        return module.run(params, folder=folder, device=device)

    data = studies.checksums(module.dataset(params))
    return recording.record(study, params, data, produce, environment), bool(made)


def _rounding(device: torch.device) -> dict[str, object]:
    """What else makes two GPUs' runs of one key differ in their last digits, and later in more."""
    if device.type != "cuda":
        return {}
    return {"cudnn": torch.backends.cudnn.version(), "compiled": os.environ.get("NCLIB_COMPILE") == "1"}


def _outcome(cell: Cell, result: tuple[Run, bool] | None, error: BaseException | None) -> Outcome:
    if error is None:
        found, made = result
        seconds = runs.own_seconds(found.provenance) if made else 0.0
        return Outcome(*cell, "recorded" if made else "elsewhere", seconds=seconds)
    status = {recording.Busy: "busy", Stopped: "stopped"}.get(type(error), "failed")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Outcome(*cell, status, f"{type(error).__name__}: {' '.join(str(error).split())}", disk_full=full)
