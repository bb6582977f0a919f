"""Dask: two hundred runs come out as from processes here, and a bad cluster is named in one line."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import pandas as pd
import pytest

from nclib import cli, runs, studies
from nclib.runs import RecordError
from nclib.studies import cluster, mnist1d, unconstrained

DASK = find_spec("distributed") is not None
needs_dask = pytest.mark.skipif(not DASK, reason="needs Dask: pip install 'nclib[cluster]'")

TINY = replace(unconstrained.SMOKE, epochs=1, measurements=2)
NETWORK = mnist1d.Params(width=2, epochs=1, fresh_size=20, measurements=2)
ADDRESS = "tcp://127.0.0.1:1"
"""Where nobody listens."""


def recorded(cells, **where):
    return studies.record(cells, device="cpu", progress=False, **where)


def table(cells):
    return pd.concat([studies.trajectory(*cell).rows for cell in cells], ignore_index=True)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "ours"))
    return tmp_path / "ours"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a cluster of two workers, whose results are not ours."""
    from distributed import LocalCluster

    theirs = tmp_path_factory.mktemp("theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_RESULTS", str(theirs))
        with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=str(theirs / "dask")
        ) as local:
            yield local.scheduler_address


@needs_dask
def test_two_hundred_runs_are_the_same_from_dask_and_from_processes(scheduler, tmp_path, monkeypatch):
    cells = [("unconstrained", replace(TINY, seed=seed)) for seed in range(188)]
    cells += [("mnist1d", replace(NETWORK, seed=seed, noise_seed=0)) for seed in range(12)]
    tables = []
    for name, where in (("dask", {"scheduler": scheduler}), ("processes", {"workers": 2})):
        monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / name))
        report = recorded(cells, **where)
        assert report.failures == []
        assert report.count("recorded") == 200
        tables.append(table(cells))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert tables[0].run.nunique() == 200
    assert tables[0].value.nunique() > 10 * 200, "the control: runs differ"


@needs_dask
def test_a_run_that_fails_there_is_named_here_and_stops_no_other(scheduler, results):
    cells = [("mnist1d", replace(NETWORK, seed=100 + seed)) for seed in range(3)]
    diverging = ("mnist1d", replace(NETWORK, lr=1e30))
    report = recorded([*cells, diverging], scheduler=scheduler)
    (line,) = report.failures
    assert line.startswith(f"mnist1d {studies.key(*diverging)} (seed 0): Diverged: the loss is ")
    assert line.endswith("in epoch 1 at learning rate 1e+30")
    assert report.count("recorded") == 3
    assert studies.missing("mnist1d", [params for _, params in [*cells, diverging]]) == [diverging[1]]


@needs_dask
def test_a_damaged_record_here_gives_way_to_the_one_from_there(scheduler, results, capsys):
    cell = ("unconstrained", replace(TINY, seed=500))
    recorded([cell], scheduler=scheduler)
    expected = table([cell])
    folder = results / "unconstrained" / studies.key(*cell)
    (folder / "table.parquet").write_bytes(b"")
    report = recorded([cell], scheduler=scheduler)
    assert report.failures == []
    pd.testing.assert_frame_equal(table([cell]), expected, check_exact=True)
    (aside,) = folder.parent.glob("*.damaged")
    assert str(aside) in capsys.readouterr().err


# What can be wrong with a cluster


def refusal(capsys, address):
    """What the command line says when it can do nothing: one line."""
    command = ["record", "unconstrained", "-p", "num_classes", "3", "-p", "seed", "1", "-p", "epochs", "1"]
    assert cli.main([*command, "--scheduler", address]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("nclib: ")
    return line


@needs_dask
@pytest.mark.parametrize("address", [ADDRESS, "nonsense://here"])
def test_an_address_without_a_scheduler_is_named(results, monkeypatch, capsys, address):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    line = refusal(capsys, address)
    assert f"no Dask scheduler answers at {address}" in line
    assert "`dask scheduler`" in line


@needs_dask
@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ({"n_workers": 0}, "has no worker yet: start some"),
        ({"n_workers": 1, "threads_per_worker": 2}, "--nthreads 1"),
    ],
)
def test_a_cluster_that_cannot_do_the_work_is_refused(results, capsys, workers, expected):
    from distributed import LocalCluster

    with LocalCluster(processes=False, dashboard_address=":0", local_directory=results, **workers) as local:
        assert expected in refusal(capsys, local.scheduler_address)


def test_without_dask_its_extra_is_named_and_processes_do_the_work(results, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'nclib[cluster]'" in refusal(capsys, ADDRESS)
    cell = ("unconstrained", TINY)
    with pytest.raises(RecordError, match="needs Dask"):
        recorded([cell], scheduler=ADDRESS)
    assert recorded([cell], workers=1).count("recorded") == 1


def test_nothing_is_asked_of_a_cluster_when_nothing_is_missing(results):
    cell = ("unconstrained", TINY)
    recorded([cell], workers=1)
    report = recorded([cell], scheduler=ADDRESS)
    assert (report.failures, report.outcomes) == ([], [])
    assert runs.is_recorded("unconstrained", studies.key(*cell))
