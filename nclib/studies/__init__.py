"""Studies: parameters in, recorded runs out. `trajectory` finds a run or makes it; `sweep` makes many."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd
import torch

from nclib import data as datasets
from nclib import runs
from nclib.studies.params import ParameterError, StudyParams, check_names

if TYPE_CHECKING:
    from nclib.studies import jobs

STUDIES = ("terminal_phase", "unconstrained", "landscape", "statements", "mnist1d", "representations")


def get(study: str) -> ModuleType:
    """The module of a study. Raises ParameterError for a name that is none, with the nearest that is."""
    if study not in STUDIES:
        try:
            check_names([study], STUDIES)
        except ParameterError as error:
            raise ParameterError(str(error).replace("parameter", "study")) from None
    return import_module(f"nclib.studies.{study}")


def generator(purpose: str, seed: int) -> torch.Generator:
    """The stream that owns one purpose (init, order, noise, ...) of one seed: streams never share draws."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; "auto" takes CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def require_cuda() -> None:
    """Raise ParameterError where torch sees no GPU."""
    if not torch.cuda.is_available():
        raise ParameterError(f"--device cuda: torch {torch.__version__} sees no GPU here; use cpu or auto")


@cache
def checksums(dataset: str | None) -> dict[str, str]:
    """Checksums of both splits of a dataset, by split; none for a study without data."""
    return {} if dataset is None else {split: datasets.checksum(dataset, split) for split in datasets.SPLITS}


def key(study: str, params: StudyParams) -> str:
    """The key of the run that these parameters name."""
    return runs.key(study, params, checksums(get(study).dataset(params)))


def trajectory(study: str, params: StudyParams, *, device: str = "auto") -> runs.Run:
    """The recorded run of these parameters; trained and recorded first, in this process, if it never was."""
    found = runs.find(study, key(study, params)) if runs.is_recorded(study, key(study, params)) else None
    if found is not None:
        return found
    from nclib.studies import jobs  # it stands on this module

    return jobs.run(study, params, device=choose_device(device))


def missing(study: str, cells: Iterable[StudyParams]) -> list[StudyParams]:
    """The cells that no record, fresh or published, answers."""
    return [params for params in cells if not runs.is_recorded(study, key(study, params))]


def announce(study: str, cells: Iterable[StudyParams]) -> str:
    """One line: how many runs are recorded, how many are not, and how long the CPU would take for those."""
    cells = list(cells)
    todo = missing(study, cells)
    if not todo:
        return f"{len(cells)} of {len(cells)} runs recorded: nothing to train."
    cores = min(len(todo), os.cpu_count() or 1)
    seconds = sum(get(study).cost(params) for params in todo) / cores
    known = f"{len(cells) - len(todo)} of {len(cells)} runs recorded"
    return (
        f"{known}, {len(todo)} to train: about {seconds / 60:.1f} min on {cores} CPU core{'s' * (cores > 1)}."
    )


def sweep(
    study: str,
    cells: Iterable[StudyParams],
    *,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """The joined table of all cells; those never recorded are trained first, one process per core.

    A cell that fails does not stop the others; afterwards RecordError names the first failure and counts
    them.
    """
    cells = list(cells)
    asked = [(study, params) for params in cells]
    record(asked, workers=workers, device=device, progress=progress, stale=False).raise_failures()
    return pd.concat([trajectory(study, params).table for params in cells], ignore_index=True)


def record(
    cells: Iterable[tuple[str, StudyParams]],
    *,
    workers: int | None = None,
    threads: int = 1,
    scheduler: str | None = None,
    device: str = "auto",
    progress: bool = True,
    stale: bool = True,
) -> "jobs.Report":
    """Train and record those of these (study, params) that are missing; what became of each.

    A record of another generation counts as missing, unless `stale` is False: reading does not train again.

    On this machine with a process per core, or per GPU where the device is one, and one thread each; or, with the
    address of a Dask `scheduler`, on its workers. `threads` of a process suit fewer runs than cores: sums then come
    out in another order, and a run's numbers differ by rounding that its training makes larger. A run that fails
    does not stop the others. Raises RecordError when going on is hopeless: no scheduler, or no space left on the disk.
    """
    from nclib.studies import recording  # it stands on this module

    return recording.record(
        cells,
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        device=device,
        progress=progress,
        stale=stale,
    )
