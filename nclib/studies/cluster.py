"""Jobs on a Dask cluster: any machines, any number; every record comes back to the results here."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from threading import Event
from typing import TYPE_CHECKING

import torch

from nclib import recording, studies
from nclib.runs import RecordError
from nclib.studies.jobs import Cell, Outcome, perform

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 2
"""How often a job that a lost worker had is given out again, besides what Dask itself allows."""
POLL_SECONDS = 0.2
ANSWER_SECONDS = 10


@contextlib.contextmanager
def connected(address: str) -> "Iterator[Client]":
    """A client of the scheduler at this address. Raises RecordError when none answers, or Dask is not here."""
    try:
        from distributed import Client
    except ImportError:
        raise RecordError("--scheduler needs Dask: pip install 'nclib[cluster]'") from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it is said here, in one line
    no_answer = f"no Dask scheduler answers at {address}: start one with `dask scheduler`, and give HOST:PORT"
    if "://" not in address and not address.rpartition(":")[2].isdigit():
        raise RecordError(no_answer)
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except Exception as error:  # of the network, of the address, or of Dask's own loop on a stalled machine
        raise RecordError(f"{no_answer} ({type(error).__name__})") from None
    try:
        yield client
    finally:
        client.close(timeout=2)


def count(client: "Client") -> int:
    """The number of workers. Raises RecordError when there is none, or one has more than one thread."""
    threads = client.nthreads()
    if not threads:
        raise RecordError(
            "the Dask cluster has no worker yet: start some with `dask worker ADDRESS --nthreads 1`"
        )
    if any(n != 1 for n in threads.values()):
        # torch's global generator and its number of threads belong to a process
        raise RecordError("every Dask worker must have one thread: start them with --nthreads 1")
    return len(threads)


def device_of(client: "Client") -> torch.device:
    """Where the workers would train by their own choice."""
    return torch.device(next(iter(client.run(_own_device).values())))


def _own_device() -> str:
    return studies.choose_device("auto").type


def stream(
    client: "Client", jobs: Sequence[Sequence[Cell]], *, device: str, stop: Event
) -> Iterator[Outcome]:
    """Do all jobs on the cluster's workers; outcomes as they come, their records written here.

    Dask gives the job of a lost worker to another, which goes on from the checkpoint where it sees the same
    files. Raises RecordError when the scheduler is lost: the same command, with a scheduler there again, goes
    on with what is missing.
    """
    address, futures = client.scheduler.address, {}
    for job in jobs:
        name = "-".join(studies.key(*cell) for cell in job)
        future = client.submit(_perform_there, job, device, key=f"nclib-{name}", pure=False, retries=RETRIES)
        futures[future] = job
    while futures and not stop.is_set():
        done = [future for future in futures if future.done()]
        if client.status != "running" or any(future.cancelled() for future in futures):
            raise RecordError(
                f"the Dask scheduler at {address} was lost, {len(futures)} jobs unfinished: "
                "start it, and type the same command again"
            )
        for future in done:
            try:
                outcomes = future.result()
            except Exception as error:
                if client.status != "running" or future.cancelled():
                    break
                why = f"{type(error).__name__}: {_line(error)}"
                outcomes = [Outcome(*cell, "failed", why) for cell in futures[future]]
            for outcome in outcomes:
                recording.adopt(outcome.study, studies.key(outcome.study, outcome.params), outcome.files)
            del futures[future]
            yield from outcomes
        if not done:
            time.sleep(POLL_SECONDS)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _perform_there(job: Sequence[Cell], device: str) -> list[Outcome]:
    """In a worker: the job, its records carried along; runs that another process is making are waited for."""
    torch.set_num_threads(1)
    done: dict[Cell, Outcome] = {}
    while len(done) < len(job):
        for outcome in perform([cell for cell in job if cell not in done], device):
            if outcome.status != "busy":
                key = studies.key(outcome.study, outcome.params)
                files = recording.carry(outcome.study, key)
                done[outcome.study, outcome.params] = dataclasses.replace(outcome, files=files)
        if len(done) < len(job):
            time.sleep(POLL_SECONDS)
    return [done[cell] for cell in job]
