"""Recording many runs: skip what is recorded, train the rest wherever, show how it goes, stop when asked."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from tqdm import tqdm

from nclib import data as datasets
from nclib import runs, studies
from nclib.runs import RecordError
from nclib.studies import jobs, pool
from nclib.studies.jobs import Cell, Outcome, Report


def record(
    cells: Iterable[Cell],
    *,
    workers: int | None,
    threads: int,
    scheduler: str | None,
    device: str,
    progress: bool,
    stale: bool,
) -> Report:
    """As `nclib.studies.record`."""
    cells = list(dict.fromkeys(cells))
    is_there = runs.is_current if stale else runs.is_recorded
    todo = [cell for cell in cells if not is_there(cell[0], studies.key(*cell))]
    outcomes: list[Outcome] = []
    if not todo:
        return Report(cells, outcomes)
    if scheduler is None:  # fetched and verified once, before workers ask for it all at the same time
        for dataset in {studies.get(study).dataset(params) for study, params in todo} - {None}:
            datasets.load(dataset, "train")
            datasets.load(dataset, "test")
    with (
        _stopping() as stop,
        _engine(todo, workers, threads, scheduler, device, stop) as stream,
        contextlib.closing(stream),
        _Progress(todo, show=progress) as bar,
    ):
        for outcome in stream:
            outcomes.append(outcome)
            bar.advance(outcome)
            if outcome.disk_full:
                raise RecordError(
                    f"no space left on the disk of {runs.results()}: free some, then type the same command again"
                )
    if stop.is_set():
        raise KeyboardInterrupt
    return Report(cells, outcomes)


@contextlib.contextmanager
def _engine(
    todo: Sequence[Cell],
    workers: int | None,
    threads: int,
    scheduler: str | None,
    device: str,
    stop: threading.Event,
) -> Iterator[Iterator[Outcome]]:
    """The stream of outcomes: from a pool of processes here, or from the workers of a Dask cluster."""
    if scheduler is not None:
        from nclib.studies import cluster  # it needs an extra package

        with cluster.connected(scheduler) as client:
            workers = cluster.count(client)
            there = cluster.device_of(client) if device == "auto" else torch.device(device)
            planned = jobs.plan(todo, workers=workers, device=there)
            yield cluster.stream(client, planned, device=device, stop=stop)
        return
    where = studies.choose_device(device)
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if where.type == "cuda" else []
    workers = workers or len(gpus) or max(1, (os.cpu_count() or 1) // threads)
    planned = jobs.plan(todo, workers=workers, device=where)
    yield pool.stream(planned, workers=workers, threads=threads, devices=gpus or ["cpu"], stop=stop)


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second interrupts at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(
            2, b"\nnclib: stopping; each run saves its state after the epoch at hand (again: stop now)\n"
        )

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """One bar: runs done, failures, and the time left by the cost of what is left."""

    def __init__(self, todo: Sequence[Cell], *, show: bool):
        self._left = self._cost = sum(jobs.cost([cell]) for cell in todo)
        self._begun, self._failed = time.monotonic(), 0
        self._bar = tqdm(
            total=len(todo), disable=not show, file=sys.stderr,
            bar_format="{n_fmt}/{total_fmt} runs |{bar:30}| {elapsed}{postfix}",
        )  # fmt: skip

    def advance(self, outcome: Outcome) -> None:
        """Count one run that is done with; one that was stopped is not."""
        if outcome.status == "stopped":
            return
        self._left -= jobs.cost([(outcome.study, outcome.params)])
        self._failed += outcome.status == "failed"
        elapsed = time.monotonic() - self._begun
        left = max(0.0, elapsed * self._left / max(self._cost - self._left, 1e-9))
        failed = f", {self._failed} failed" if self._failed else ""
        self._bar.set_postfix_str(f"about {tqdm.format_interval(left)} left{failed}", refresh=False)
        self._bar.update()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
