"""Jobs on this machine: a process for each worker; a worker that dies costs only its own job."""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import connection, get_context, parent_process

import torch

from nclib import runs, studies
from nclib.studies.jobs import Cell, Outcome, perform
from nclib.training import request_stop

ATTEMPTS = 3
"""How often a run may take its process down with it before it counts as failed."""
POLL_SECONDS = 0.2
"""How often to look whether to stop, and whether a run that another process was making is there."""
ENVIRONMENT = {
    # Activations of some 100 kB to 10 MB come and go thousands of times: keep their memory, in large pages. A
    # tenth to a quarter of the time of a small network's training step (glibc; elsewhere without effect).
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def stream(
    jobs: Sequence[Sequence[Cell]],
    *,
    workers: int,
    threads: int,
    devices: Sequence[str],
    stop: threading.Event,
) -> Iterator[Outcome]:
    """Do all jobs in this order, `workers` at a time, `threads` each, on these devices in turn; outcomes as they come.

    A run whose process is killed is tried again, by itself and from its checkpoint. A run that another
    process is making is waited for. Once `stop` is set no job is begun; those at work save the state of their
    runs after the epoch at hand, and the stream ends.
    """
    queue = deque((tuple(job), 0) for job in jobs)
    later: list[tuple[Sequence[Cell], int]] = []
    crew = [_Worker(devices[i % len(devices)], threads) for i in range(min(workers, len(queue)))]
    told, look_again = False, 0.0
    try:
        while any(worker.job for worker in crew) or ((queue or later) and not stop.is_set()):
            if stop.is_set() and not told:
                told = True
                for worker in crew:
                    worker.ask_to_stop()
            for worker in crew:
                if queue and not worker.job and not stop.is_set():
                    worker.give(*queue.popleft())
            for worker in _ready(crew):
                (job, attempts), outcomes = worker.job, worker.take()
                if outcomes is None:
                    outcomes = _after_a_death(job, attempts + 1, queue, worker.exit_code)
                    crew[crew.index(worker)] = _Worker(worker.device, threads)
                later += [(((o.study, o.params),), attempts) for o in outcomes if o.status == "busy"]
                yield from (o for o in outcomes if o.status != "busy")
            if not queue and time.monotonic() >= look_again:
                queue.extend(later)
                later.clear()
                look_again = time.monotonic() + POLL_SECONDS
    finally:
        for worker in crew:
            worker.end()


def _ready(crew: "list[_Worker]") -> "list[_Worker]":
    busy = {worker.pipe: worker for worker in crew if worker.job}
    if not busy:  # what is left is being made elsewhere
        time.sleep(POLL_SECONDS)
    return [busy[pipe] for pipe in connection.wait(list(busy), POLL_SECONDS)]


def _after_a_death(job: Sequence[Cell], attempts: int, queue: deque, exit_code: int | None) -> list[Outcome]:
    """Put what a dead worker has not recorded back, each run by itself; outcomes of the others."""
    outcomes = []
    for study, params in job:
        if runs.is_current(study, studies.key(study, params)):
            outcomes.append(Outcome(study, params, "recorded"))
        elif attempts < ATTEMPTS:
            queue.appendleft((((study, params),), attempts))
        else:
            how = f"signal {-exit_code}" if exit_code and exit_code < 0 else f"exit status {exit_code}"
            why = f"its process died {attempts} times ({how}); is there enough memory?"
            outcomes.append(Outcome(study, params, "failed", why))
    return outcomes


class _Worker:
    """A process that does one job after the other until its pipe is closed."""

    def __init__(self, device: str, threads: int):
        # Fresh interpreters: a fork of a process that has already used OpenMP or CUDA can hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.device, self.job = device, None
        self._process = context.Process(target=_serve, args=(theirs, device, threads))
        with _inheriting(ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}):
            self._process.start()
        theirs.close()

    def give(self, job: Sequence[Cell], attempts: int) -> None:
        """Start a job."""
        self.job = (job, attempts)
        with contextlib.suppress(BrokenPipeError):  # a death shows when outcomes are taken
            self.pipe.send(job)

    def take(self) -> list[Outcome] | None:
        """The job's outcomes, waited for; None if the process has died."""
        self.job = None
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return None

    @property
    def exit_code(self) -> int | None:
        """Of a process that has died."""
        return self._process.exitcode

    def ask_to_stop(self) -> None:
        """Have its runs stop after the epoch at hand."""
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGTERM)

    def end(self) -> None:
        """Let it go; kill it if it is still at a job."""
        if self.job:
            self._process.kill()
        self.pipe.close()
        self._process.join()


@contextlib.contextmanager
def _inheriting(environment: dict[str, str]) -> Iterator[None]:
    """These variables, and deafness to Ctrl-C, for processes started within.

    Ctrl-C reaches every process of a terminal at once; only this one acts on it.
    """
    before = {name: os.environ.get(name) for name in environment}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if in_main:
            signal.signal(signal.SIGINT, handler)


def _serve(pipe: connection.Connection, device: str, threads: int) -> None:
    """In the worker's process."""
    signal.signal(signal.SIGTERM, lambda *_: request_stop())
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        while True:
            pipe.send(perform(pipe.recv(), device))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody is there any more: what was made is recorded


def _stop_with_the_parent() -> None:
    """A killed parent leaves no orphan at work: its workers save their state and end."""
    parent_process().join()
    request_stop()
