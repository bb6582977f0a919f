"""Studies: parameters in, recorded runs out. `trajectory` finds a run or makes it; `sweep` makes many."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from types import ModuleType

import pandas as pd
import torch
from tqdm import tqdm

from nclib import data as datasets
from nclib import runs
from nclib.studies.params import ParameterError, StudyParams, check_names

STUDIES = ("terminal_phase", "unconstrained", "mnist1d", "representations")


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


@cache
def checksums(dataset: str | None) -> dict[str, str]:
    """Checksums of both splits of a dataset, by split; none for a study without data."""
    return {} if dataset is None else {split: datasets.checksum(dataset, split) for split in datasets.SPLITS}


def key(study: str, params: StudyParams) -> str:
    """The key of the run that these parameters name."""
    return runs.key(study, params, checksums(get(study).dataset(params)))


def trajectory(study: str, params: StudyParams, *, device: str = "auto") -> runs.Run:
    """The recorded run of these parameters; trained and recorded first if it never was."""
    module, where = get(study), choose_device(device)
    environment = {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    return runs.record(
        study, params, checksums(module.dataset(params)),
        lambda folder: module.run(params, folder=folder, device=where), environment,
    )  # fmt: skip


def missing(study: str, cells: Iterable[StudyParams]) -> list[StudyParams]:
    """The cells that no record, fresh or published, answers."""
    return [params for params in cells if runs.find(study, key(study, params)) is None]


def announce(study: str, cells: Iterable[StudyParams]) -> str:
    """One line: how many runs are recorded, how many are not, and how long those would take here."""
    cells = list(cells)
    todo = missing(study, cells)
    if not todo:
        return f"{len(cells)} of {len(cells)} runs recorded: nothing to train."
    seconds = sum(get(study).cost(params) for params in todo) / min(len(todo), os.cpu_count() or 1)
    known = f"{len(cells) - len(todo)} of {len(cells)} runs recorded"
    return f"{known}, {len(todo)} to train: about {seconds / 60:.1f} min here."


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
    record([(study, params) for params in cells], workers=workers, device=device, progress=progress)
    return pd.concat([trajectory(study, params).table for params in cells], ignore_index=True)


def record(
    cells: Iterable[tuple[str, StudyParams]],
    *,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> int:
    """Train and record the missing (study, params), longest first; how many. Raises as `sweep`."""
    todo = [(study, params) for study, params in cells if runs.find(study, key(study, params)) is None]
    if not todo:
        return 0
    todo.sort(key=lambda cell: get(cell[0]).cost(cell[1]), reverse=True)
    failures: list[str] = []
    workers = min(workers or os.cpu_count() or 1, len(todo))
    # Fresh interpreters: a fork of a process that has already used OpenMP or CUDA can hang.
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    with pool, tqdm(total=len(todo), unit="run", disable=not progress) as bar:
        futures = {pool.submit(_record_one, study, params, device): params for study, params in todo}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None:
                failures.append(f"{type(error).__name__}: {error} (seed {futures[future].seed})")
                bar.set_postfix(failed=len(failures))
            bar.update()
    if failures:
        raise runs.RecordError(f"{len(failures)} of {len(todo)} runs failed: {failures[0]}")
    return len(todo)


def _record_one(study: str, params: StudyParams, device: str) -> str:
    return trajectory(study, params, device=device).key
