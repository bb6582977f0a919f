"""The failure drill: however a sweep is broken off, the same command typed again ends with the same table.

Each drill sweeps a small grid, breaks something, types the command again, and compares all rows with those of
a sweep that nobody disturbed: row for row, bit for bit. The runs compute in float64, because a run that is
tried again by itself adds up in another order than in a stack; the table's seven digits do not see that.

Every drill has a row in `data/drill.csv`, which the book prints: `NCLIB_WRITE_DRILL=1 python -m pytest
tests/test_drill.py` writes it anew.
"""

import contextlib
import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nclib import runs, studies, tables, training
from nclib.studies import grids, jobs, pool
from nclib.training import Checkpoint

TABLE = runs.ROOT / "data" / "drill.csv"
FAULTS = (
    "a worker process is killed",
    "the command is killed",
    "Ctrl-C",
    "SIGTERM",
    "two commands ask for the same runs",
    "the disk is full",
    "a record is damaged",
    "a checkpoint is damaged",
    "a loss is no number any more",
    "a Dask worker is killed",
    "the Dask scheduler is killed",
)
EPOCHS = 10
GRID = f"""\
study: mnist1d
grid:
  - {{width: [2, 3], seed: [0, 1, 2], epochs: {EPOCHS}, fresh_size: 20, measurements: 3, precision: float64}}
"""
"""Six runs in stacks of two and of one; a few seconds, so that a kill lands in the middle."""
DIVERGING = (
    f"  - {{lr: 1.0e+30, width: 2, epochs: {EPOCHS}, fresh_size: 20, measurements: 3, precision: float64}}\n"
)
PATIENCE = 180
"""Seconds after which something that was waited for counts as hung; other tests may have the cores."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
needs_dask = pytest.mark.skipif(
    not find_spec("distributed"), reason="needs Dask: pip install 'nclib[cluster]'"
)


def wait_until(condition, what):
    """What `condition` returns once it is true."""
    end = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.01)
    return answer


def alive(group):
    """Process ids of a process group, without those that have ended and are not yet collected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, pgrp = path.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


class Process:
    """A command in a process group of its own, as a terminal gives it one."""

    def __init__(self, command, folder, **environment):
        self.out, self.err = (folder / f"{time.monotonic_ns()}.{name}" for name in ("out", "err"))
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=runs.ROOT, env=os.environ | environment, start_new_session=True,
            )  # fmt: skip
        self.group = self.process.pid

    def workers(self):
        """Process ids of a sweep's workers."""
        return [
            pid for pid in alive(self.group) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def send(self, number):
        """A signal to the whole group, as Ctrl-C is sent."""
        os.killpg(self.group, number)

    def ended(self):
        """Its exit status and its lines on stderr, once it and all that it has started are gone."""
        status = self.process.wait(PATIENCE)
        wait_until(lambda: not alive(self.group), "the processes of a command that has ended")
        return status, [line for line in re.split(r"[\r\n]+", self.err.read_text()) if line]

    def counts(self):
        """The numbers of a sweep's table of what became of its runs."""
        names, _, row = [line.split() for line in self.out.read_text().splitlines()]
        return dict(zip(names, map(int, row[1:]), strict=True))


class Drill:
    """A grid and the results of sweeping it."""

    def __init__(self, folder, results, grid=GRID):
        self.folder, self.results, self.grid = folder, results, folder / "grid.yml"
        self.grid.write_text(grid)
        self.processes = []
        self.cells = [("mnist1d", params) for params in grids.load(self.grid)[1]]
        self.keys = [studies.key(*cell) for cell in self.cells]

    def run(self, *command, **environment):
        """Start a command."""
        self.processes.append(Process(command, self.folder, **environment))
        return self.processes[-1]

    def sweep(self, *how, every="0"):
        """Start the command that records the grid: by two workers on this machine, unless said otherwise."""
        return self.run(
            "nclib.cli", "record", "--grid", str(self.grid), "--device", "cpu",
            *(how or ("--workers", "2")), NCLIB_RESULTS=str(self.results), NCLIB_CHECKPOINT_SECONDS=every,
        )  # fmt: skip

    def begun(self, results=None):
        """Checkpoints of runs in the middle."""
        return list((results or self.results).glob("mnist1d/*.partial/checkpoint.pt"))

    def missing(self):
        """Keys without a record."""
        return [key for key in self.keys if not (self.results / "mnist1d" / key).is_dir()]

    def failed(self):
        """Keys with a note that says how their run failed, and the notes."""
        notes = {path.name.split(".")[0]: path for path in self.results.glob("mnist1d/*.failed.json")}
        return {key: json.loads(path.read_text())["provenance"]["error"] for key, path in notes.items()}

    def table(self):
        """All rows of all runs that are recorded, by what they measure, as the bits of their float32."""
        found = [runs.find("mnist1d", key) for key in self.keys if key not in self.missing()]
        rows = pd.concat([run.rows for run in found]).set_index([c for c in tables.COLUMNS if c != "value"])
        values = rows.value.to_numpy().astype("float32")
        assert np.array_equal(values, rows.value, equal_nan=True)
        return pd.Series(values.view("int32"), index=rows.index).sort_index()

    def passed(self, fault, undisturbed):
        """Nothing is lost and no row differs; the figures are those that are published."""
        pair = pd.concat([undisturbed, self.table()], axis=1, join="outer")
        lost = set(self.missing()) - self.failed().keys()
        row = {"runs": len(self.cells), "lost": len(lost), "differing": int((pair[0] != pair[1]).sum())}
        assert row["lost"] == row["differing"] == 0, (row, pair[pair[0] != pair[1]])
        if os.environ.get("NCLIB_WRITE_DRILL"):
            figures = pd.read_csv(TABLE, index_col="fault") if TABLE.exists() else pd.DataFrame()
            figures = pd.concat([figures.drop(fault, errors="ignore"), pd.DataFrame(row, index=[fault])])
            figures.reindex([f for f in FAULTS if f in figures.index]).to_csv(TABLE, index_label="fault")
        assert pd.read_csv(TABLE, index_col="fault").loc[fault].to_dict() == row

    def clear(self):
        """End what is left."""
        for process in self.processes:
            for pid in alive(process.group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The store and the rows of a sweep that was left alone."""
    drill = Drill(tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("results"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_RESULTS", str(drill.results))
        try:
            assert drill.sweep().ended()[0] == 0
        finally:
            drill.clear()
        table = drill.table()
    assert not drill.missing()
    assert len(table) > 500 * len(drill.cells)
    return drill.results, table


@pytest.fixture
def drill(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    drill = Drill(tmp_path, tmp_path / "results")
    yield drill
    drill.clear()


def in_the_middle(drill, results=None):
    """Wait until both workers have saved a run that is not finished."""
    wait_until(lambda: len(drill.begun(results)) >= 3, "checkpoints of two stacks")
    assert drill.missing(), "the control: it was not over yet"


def complaints(lines):
    """What was said besides the bar, at whose end it may stand."""
    assert not any("Traceback" in line for line in lines), lines
    said = [re.sub(r"^\d+/\d+ runs \|.*?(nclib: |$)", r"\1", line) for line in lines]
    return [line for line in said if line]


# Kills


def test_a_killed_worker_costs_no_run_and_the_sweep_goes_on(drill, undisturbed):
    sweep = drill.sweep()
    in_the_middle(drill)
    os.kill(sweep.workers()[0], signal.SIGKILL)
    status, lines = sweep.ended()
    assert status == 0
    assert complaints(lines) == []
    again = drill.sweep()
    assert again.ended()[0] == 0
    assert again.counts()["before"] == len(drill.cells), "the sweep had not finished by itself"
    drill.passed("a worker process is killed", undisturbed[1])


def test_a_killed_command_leaves_no_worker_and_goes_on_where_it_was(drill, undisturbed):
    sweep = drill.sweep()
    in_the_middle(drill)
    os.kill(sweep.process.pid, signal.SIGKILL)
    status, lines = sweep.ended()
    assert status == -signal.SIGKILL
    assert complaints(lines) == []
    saved = {path: Checkpoint(path)["training"]["epoch"] for path in drill.begun()}
    assert any(0 < epoch < EPOCHS for epoch in saved.values()), "the control: saved in the middle"
    again = drill.sweep()
    while again.process.poll() is None:
        for path, before in saved.items():
            with contextlib.suppress(FileNotFoundError, KeyError):  # it is recorded
                assert Checkpoint(path)["training"]["epoch"] >= before, "it did not go on, it started over"
        time.sleep(0.3)
    assert again.ended()[0] == 0
    drill.passed("the command is killed", undisturbed[1])


@pytest.mark.parametrize("fault", ["Ctrl-C", "SIGTERM"])
def test_a_sweep_that_is_asked_to_stop_saves_its_runs_and_says_how_to_go_on(drill, undisturbed, fault):
    def begun():
        return list(drill.results.glob("mnist1d/*.partial"))

    sweep = drill.sweep(every="3600")
    wait_until(lambda: len(begun()) >= 3, "the runs of two stacks")
    assert not drill.begun(), "the control: nothing is saved unless it is asked for"
    if fault == "Ctrl-C":
        sweep.send(signal.SIGINT)
    else:
        os.kill(sweep.process.pid, signal.SIGTERM)
    status, lines = sweep.ended()
    assert status == 130
    assert not any("Traceback" in line for line in lines)
    assert lines[-1] == "nclib: interrupted; the same command goes on where this one stopped"
    assert len(drill.begun()) == len(begun()) >= 3
    assert all(0 < Checkpoint(path)["training"]["epoch"] < EPOCHS for path in drill.begun())
    assert drill.sweep().ended()[0] == 0
    drill.passed(fault, undisturbed[1])


# Company


def test_two_sweeps_of_one_grid_make_each_run_once(drill, undisturbed):
    both = [drill.sweep(), drill.sweep()]
    for sweep in both:
        status, lines = sweep.ended()
        assert status == 0
        assert complaints(lines) == []
    assert sum(sweep.counts()["now"] for sweep in both) == len(drill.cells)
    for counts in (sweep.counts() for sweep in both):
        assert counts["before"] + counts["now"] + counts["elsewhere"] == len(drill.cells)
    again = drill.sweep()
    assert again.ended()[0] == 0
    assert again.counts()["before"] == len(drill.cells)
    drill.passed("two commands ask for the same runs", undisturbed[1])


def test_waiting_for_a_run_that_another_process_makes_takes_no_core(monkeypatch):
    asked = []

    class Worker:
        """Finds its run being made by somebody else, for a second."""

        def __init__(self, device, threads):
            self.pipe, self.theirs = multiprocessing.Pipe()
            self.job, self.begun = None, time.monotonic()

        def give(self, job, attempts):
            self.job = (job, attempts)
            self.theirs.send(None)
            asked.append(job)

        def take(self):
            self.pipe.recv()
            (((study, params),), _), self.job = self.job, None
            over = time.monotonic() - self.begun > 1
            return [jobs.Outcome(study, params, "elsewhere" if over else "busy")]

        def end(self):
            self.pipe.close()
            self.theirs.close()

    monkeypatch.setattr(pool, "_Worker", Worker)
    cell = ("mnist1d", studies.get("mnist1d").SMOKE)
    (outcome,) = pool.stream([(cell,)], workers=1, threads=1, devices=["cpu"], stop=threading.Event())
    assert outcome.status == "elsewhere"
    assert len(asked) <= 2 + 1 / pool.POLL_SECONDS


# The disk


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_line_and_with_space_again_the_sweep_goes_on(
    small_disk, tmp_path, monkeypatch, undisturbed
):
    monkeypatch.setenv("NCLIB_RESULTS", str(small_disk))
    drill = Drill(tmp_path, small_disk)
    try:
        sweep = drill.sweep()
        in_the_middle(drill)
        with pytest.raises(OSError, match=r".") as full, (small_disk / "ballast").open("wb", 0) as ballast:
            while True:
                ballast.write(b"\0" * 4096)
        assert full.value.errno == errno.ENOSPC
        status, lines = sweep.ended()
        assert status == 2
        (line,) = complaints(lines)
        assert line == (
            f"nclib: no space left on the disk of {small_disk}: free some, then type the same command again"
        )
        assert drill.missing()
        (small_disk / "ballast").unlink()
        assert drill.sweep().ended()[0] == 0
        drill.passed("the disk is full", undisturbed[1])
    finally:
        drill.clear()


# Damage


def flip(path, place):
    """Change one bit of a file, at this fraction of it."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def test_what_is_damaged_is_named_set_aside_and_made_again(drill, undisturbed, monkeypatch):
    shutil.copytree(undisturbed[0], drill.results)
    folders = [drill.results / "mnist1d" / key for key in drill.keys]
    record = folders[0] / "record.json"
    record.write_bytes(record.read_bytes()[:-40])
    record = folders[1] / "record.json"
    record.write_text(record.read_text().replace('"width": 2', '"width": 4'))
    flip(folders[2] / "table.parquet", 0.1)
    table = folders[3] / "table.parquet"
    table.write_bytes(table.read_bytes()[:-40])
    checkpoints = [stopped(drill.cells[i], folders[i], monkeypatch) for i in (4, 5)]
    flip(checkpoints[0], 0.5)
    checkpoints[1].write_bytes(checkpoints[1].read_bytes()[:-40])
    sweep = drill.sweep()
    status, lines = sweep.ended()
    assert status == 0
    assert sweep.counts()["now"] == 6
    aside = [path for folder in folders[:4] for path in folder.parent.glob(f"{folder.name}.*.damaged")]
    assert set(complaints(lines)) == {
        *(f"nclib: a damaged record was set aside as {path}" for path in aside),
        *(
            f"nclib: a damaged checkpoint was set aside as {path.with_suffix('.damaged')}"
            for path in checkpoints
        ),
    }
    assert len(aside) == 4
    drill.passed("a record is damaged", undisturbed[1])
    drill.passed("a checkpoint is damaged", undisturbed[1])


def stopped(cell, folder, monkeypatch):
    """In place of a record, a run that was stopped after its first epoch: its checkpoint."""
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(training.engine, "_stop", threading.Event())
        training.request_stop()
        with pytest.raises(training.Stopped):
            studies.trajectory(*cell, device="cpu")
    path = folder.with_name(f"{folder.name}.partial") / "checkpoint.pt"
    assert Checkpoint(path)["training"]["epoch"] == 1
    return path


def test_no_flipped_bit_is_read_as_data(undisturbed, tmp_path, monkeypatch):
    shutil.copytree(undisturbed[0], tmp_path / "results")
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    path = next((tmp_path / "results" / "mnist1d").glob("*/table.parquet"))
    whole, key = path.read_bytes(), path.parent.name
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    checkpoint["weights"] = [float(i) for i in range(1000)]
    checkpoint.save()
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    for place in np.linspace(0, 1, 100, endpoint=False):
        path.write_bytes(whole)
        assert runs.is_recorded("mnist1d", key), "the control: whole, it is read"
        flip(path, place)
        assert not runs.is_recorded("mnist1d", key)
        (tmp_path / "checkpoint.pt").write_bytes(saved)
        assert Checkpoint(tmp_path / "checkpoint.pt")["weights"] == checkpoint["weights"]
        flip(tmp_path / "checkpoint.pt", place)
        assert dict(Checkpoint(tmp_path / "checkpoint.pt")) == {}


# Numbers that are none


def test_a_run_that_diverges_is_recorded_as_failed_and_disturbs_no_other(tmp_path, monkeypatch, undisturbed):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    drill = Drill(tmp_path, tmp_path / "results", GRID + DIVERGING)
    diverging = drill.keys[-1]
    try:
        for before in (0, len(drill.cells) - 1):
            sweep = drill.sweep()
            status, lines = sweep.ended()
            assert status == 1
            assert sweep.counts()["before"] == before
            assert sweep.counts()["failed"] == 1
            (line,) = complaints(lines)
            assert re.fullmatch(
                rf"nclib: mnist1d {diverging} \(seed 0\): Diverged: the loss is (nan|inf) in epoch 1 "
                r"at learning rate 1e\+30",
                line,
            )
        assert drill.failed().keys() == {diverging} == set(drill.missing())
        assert re.search(r"epoch 1 at learning rate 1e\+30", drill.failed()[diverging])
        drill.passed("a loss is no number any more", undisturbed[1])
    finally:
        drill.clear()


# Dask


class Cluster:
    """A Dask scheduler and its workers, each a command; the workers' results are not ours."""

    def __init__(self, drill, workers, port=0):
        self.drill, self.results = drill, drill.folder / "theirs"
        where = drill.folder / f"scheduler-{time.monotonic_ns()}.json"
        self.scheduler = drill.run(
            "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard",
            "--scheduler-file", str(where),
        )  # fmt: skip
        wait_until(where.exists, "a Dask scheduler")
        self.address = wait_until(lambda: _address(where), "its address")
        self.port = int(self.address.rpartition(":")[2])
        self.workers = [
            drill.run(
                "dask", "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--local-directory", str(drill.folder), "--name", str(i),
                NCLIB_RESULTS=str(self.results), NCLIB_CHECKPOINT_SECONDS="0",
            )
            for i in range(workers)
        ]  # fmt: skip
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=PATIENCE)

    def sweep(self):
        return self.drill.sweep("--scheduler", self.address)

    def in_the_middle(self):
        in_the_middle(self.drill, self.results)


def _address(path):
    with contextlib.suppress(ValueError):
        return json.loads(path.read_text())["address"]


@needs_dask
def test_a_killed_dask_worker_costs_no_run_and_the_sweep_goes_on(drill, undisturbed):
    cluster = Cluster(drill, workers=2)
    sweep = cluster.sweep()
    cluster.in_the_middle()
    cluster.workers[0].send(signal.SIGKILL)
    status, lines = sweep.ended()
    assert status == 0, lines
    assert complaints(lines) == []
    again = cluster.sweep()
    assert again.ended()[0] == 0
    assert again.counts()["before"] == len(drill.cells), "the sweep had not finished by itself"
    drill.passed("a Dask worker is killed", undisturbed[1])


@needs_dask
def test_a_killed_dask_scheduler_is_one_line_and_with_a_new_one_the_sweep_goes_on(drill, undisturbed):
    cluster = Cluster(drill, workers=1)
    sweep = cluster.sweep()
    cluster.in_the_middle()
    cluster.scheduler.send(signal.SIGKILL)
    begun = time.monotonic()
    status, lines = sweep.ended()
    assert status == 2, lines
    assert time.monotonic() - begun < 60
    (line,) = complaints(lines)
    assert re.fullmatch(
        rf"nclib: the Dask scheduler at {cluster.address} was lost, \d jobs unfinished: "
        "start it, and type the same command again",
        line,
    )
    assert drill.missing()
    cluster.workers[0].send(signal.SIGKILL)
    cluster = Cluster(drill, workers=1, port=cluster.port)
    assert cluster.sweep().ended()[0] == 0
    drill.passed("the Dask scheduler is killed", undisturbed[1])


# The figures


def test_every_fault_has_its_figures_and_no_other():
    figures = pd.read_csv(TABLE)
    assert list(figures.columns) == ["fault", "runs", "lost", "differing"]
    assert tuple(figures.fault) == FAULTS
    source = Path(__file__).read_text()
    assert all(source.count(f'"{fault}"') >= 2 for fault in FAULTS), "listed above, and drilled below"
