"""Jobs: runs are put together without losing one or leaving a worker idle, and each has an outcome."""

import errno
from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclib import recording, runs, studies
from nclib.runs import RecordError
from nclib.studies import grids, jobs, mnist1d, terminal_phase, unconstrained
from nclib.studies import recording as recording_of_studies
from nclib.studies.jobs import Outcome, Report
from nclib.training import Diverged, Stopped

CPU = torch.device("cpu")
TINY = unconstrained.SMOKE
DIVERGING = replace(TINY, optimizer="adam", lr=1e300, epochs=5, seed=7)


def cell(seed=0, **changes):
    return ("unconstrained", replace(TINY, seed=seed, **changes))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path / "published")
    return tmp_path


# The plan


networks = st.builds(
    mnist1d.Params,
    width=st.sampled_from([2, 4, 16, 64]),
    architecture=st.sampled_from(["resnet1d", "cnn1d"]),
    optimizer=st.sampled_from(["sgd", "adam"]),
    epochs=st.sampled_from([2, 300]),
    seed=st.integers(0, 40),
).map(lambda params: ("mnist1d", params))
others = st.builds(unconstrained.Params, seed=st.integers(0, 9)).map(lambda p: ("unconstrained", p))
several = st.lists(st.one_of(networks, networks, others), max_size=40, unique=True)


@settings(max_examples=150, deadline=None)
@given(several, st.integers(1, 9), st.sampled_from(["cpu", "cuda"]))
def test_a_plan_holds_every_run_once_in_stacks_of_one_shape_that_leave_no_worker_idle(cells, workers, device):
    device = torch.device(device)
    planned = jobs.plan(iter(cells), workers=workers, device=device)
    assert sorted(map(repr, (c for job in planned for c in job))) == sorted(map(repr, cells))
    for job in planned:
        assert len({study for study, _ in job}) == 1
        if job[0][0] == "mnist1d":
            (_, size), *more = {mnist1d.stack(params, device) for _, params in job}
            assert more == []
            assert 1 <= len(job) <= size
        else:
            assert len(job) == 1
    assert len(planned) >= min(workers, len(cells)), "a worker goes without"
    costs = [jobs.cost(job) for job in planned]
    if workers > 1:
        assert costs == sorted(costs, reverse=True)


def test_one_worker_records_a_grid_in_the_order_of_its_blocks():
    cells = grids.cells("terminal_phase_protocol")
    (*planned,) = (cell for job in jobs.plan(cells, workers=1, device=CPU) for cell in job)
    assert planned == cells
    first = [(params.architecture, params.lr) for _, params in planned[::3]]
    assert first == [("resnet18", 0.25), ("vgg11", 0.25), ("densenet40", 0.25), ("resnet18", 0.0679)]
    # Control: two workers would begin with the longest.
    assert [cell for job in jobs.plan(cells, workers=2, device=CPU) for cell in job] != cells


@pytest.mark.parametrize(
    ("n", "workers", "sizes"),
    [
        (16, 1, [8, 8]), (17, 1, [8, 8, 1]), (17, 2, [8, 8, 1]),
        (4, 3, [1, 1, 2]), (9, 2, [4, 5]), (3, 8, [1, 1, 1]),
    ],
)  # fmt: skip
def test_a_stack_is_as_large_as_is_fastest_unless_a_worker_would_go_without(n, workers, sizes):
    cells = [("mnist1d", mnist1d.Params(width=4, seed=seed)) for seed in range(n)]
    assert mnist1d.stack_size(4, CPU) == 8
    planned = jobs.plan(cells, workers=workers, device=CPU)
    assert sorted(map(len, planned)) == sorted(sizes)


def test_runs_of_one_shape_share_a_job_whatever_lies_between_them_and_other_shapes_do_not():
    def network(seed, **changes):
        return ("mnist1d", mnist1d.Params(width=4, seed=seed, **changes))

    alike = [network(0), network(1, optimizer="adam"), network(2, label_noise=0.0, lr=0.5)]
    between = [network(3, epochs=2), network(3, feature_dim=3), network(3, batch_size=64)]
    mixed = [c for pair in zip(alike, between, strict=True) for c in pair]
    planned = jobs.plan(mixed, workers=1, device=CPU)
    assert sorted(map(len, planned)) == [1, 1, 1, 3]
    assert tuple(alike) in planned


def test_a_study_that_does_not_say_what_may_be_stacked_is_not_stacked():
    assert not hasattr(terminal_phase, "stack")
    cells = [("terminal_phase", terminal_phase.Params(seed=seed)) for seed in range(3)]
    assert [len(job) for job in jobs.plan(cells, workers=1, device=CPU)] == [1, 1, 1]


def test_nothing_to_do_is_no_job():
    assert jobs.plan([], workers=3, device=CPU) == []


def test_a_jobs_cost_is_that_of_its_runs():
    one, two = ("mnist1d", mnist1d.Params(width=64)), cell()
    assert jobs.cost([one, two]) == pytest.approx(jobs.cost([one]) + jobs.cost([two]))
    assert jobs.cost([one]) > jobs.cost([two]) > 0


# The report


@pytest.fixture
def report():
    cells = [*(cell(seed) for seed in range(7)), ("mnist1d", mnist1d.SMOKE)]
    outcomes = [
        Outcome(*cells[1], "recorded", seconds=2.25),
        Outcome(*cells[2], "elsewhere"),
        Outcome(*cells[3], "failed", "Diverged: at epoch 3"),
        Outcome(*cells[4], "recorded", seconds=1.5),
        Outcome(*cells[5], "stopped", "Stopped: stopped after epoch 2"),
    ]
    return Report(cells, outcomes)


def test_a_report_counts_what_became_of_every_run_by_study(report):
    expected = pd.DataFrame(
        {
            "runs": [7, 1], "before": [2, 1], "now": [2, 0], "elsewhere": [1, 0], "failed": [2, 0],
            "seconds": [4, 0],
        },
        index=pd.Index(["unconstrained", "mnist1d"], name="study"),
    )  # fmt: skip
    pd.testing.assert_frame_equal(report.table(), expected)
    assert (report.table()[["before", "now", "elsewhere", "failed"]].sum(axis=1) == report.table().runs).all()
    assert {s: report.count(s) for s in ("recorded", "elsewhere", "failed", "busy")} == {
        "recorded": 2, "elsewhere": 1, "failed": 1, "busy": 0,
    }  # fmt: skip


def test_a_run_that_failed_or_was_stopped_is_named_by_key_and_seed(report):
    keys = [studies.key(*report.cells[i]) for i in (3, 5)]
    assert report.failures == [
        f"unconstrained {keys[0]} (seed 3): Diverged: at epoch 3",
        f"unconstrained {keys[1]} (seed 5): Stopped: stopped after epoch 2",
    ]
    with pytest.raises(
        RecordError, match=rf"^2 of 5 runs failed: unconstrained {keys[0]} \(seed 3\): Diverged"
    ):
        report.raise_failures()


def test_a_report_without_failures_raises_nothing(report):
    sound = Report(report.cells, [o for o in report.outcomes if o.status in ("recorded", "elsewhere")])
    assert sound.failures == []
    sound.raise_failures()
    assert sound.table().failed.sum() == 0


# Performing


def test_every_run_of_a_job_has_its_outcome_whatever_becomes_of_the_others(store):
    before = jobs.run(*cell(2), device=CPU)
    busy = cell(3)
    with recording.lock("unconstrained", studies.key(*busy)):
        done = jobs.perform([cell(0), ("unconstrained", DIVERGING), cell(2), busy, cell(4)], "cpu")
    assert [o.status for o in done] == ["recorded", "failed", "elsewhere", "busy", "recorded"]
    assert [o.params.seed for o in done] == [0, 7, 2, 3, 4]
    assert "Error: " in done[1].message or "Diverged: " in done[1].message
    assert "is being recorded by another process" in done[3].message
    assert not any(o.disk_full for o in done)
    assert [o.seconds > 0 or o.status != "recorded" for o in done] == [True] * 5
    assert done[2].seconds == 0
    for i, outcome in enumerate(done):
        assert runs.is_recorded("unconstrained", studies.key("unconstrained", outcome.params)) == (
            i not in (1, 3)
        )
    found = runs.find("unconstrained", before.key)
    pd.testing.assert_frame_equal(found.rows, before.rows)


@pytest.mark.parametrize(
    ("error", "status", "message", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "OSError: [Errno 28] No space", True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "failed", "OSError: ", True),
        (OSError(errno.EIO, "Input/output error"), "failed", "OSError: ", False),
        (Diverged("the loss\nis nan"), "failed", "Diverged: the loss is nan", False),
        (Stopped("stopped after epoch 3"), "stopped", "Stopped: stopped after epoch 3", False),
        (MemoryError(), "failed", "MemoryError: ", False),
        (SystemExit(3), "failed", "SystemExit: 3", False),
    ],
)
def test_what_ended_a_run_is_told_in_one_line(store, monkeypatch, error, status, message, full):
    def fails(params, *, folder, device):
        raise error

    monkeypatch.setattr(unconstrained, "run", fails)
    (outcome,) = jobs.perform([cell()], "cpu")
    assert (outcome.status, outcome.disk_full) == (status, full)
    assert outcome.message.startswith(message)
    assert "\n" not in outcome.message
    assert not runs.is_recorded(*(cell()[0], studies.key(*cell())))
    with pytest.raises(type(error)):
        jobs.run(*cell(), device=CPU)


def test_a_record_says_how_many_runs_were_made_beside_it(store):
    jobs.perform([cell(0), cell(1)], "cpu")
    alone = jobs.run(*cell(2), device=CPU)
    assert alone.provenance["side_by_side"] == 1
    for seed in range(2):
        run = runs.find("unconstrained", studies.key(*cell(seed)))
        assert run.provenance["side_by_side"] == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_each_process_has_the_threads_that_were_asked_for_and_a_record_says_so(store, threads):
    studies.record([cell()], workers=1, threads=threads, device="cpu", progress=False).raise_failures()
    run = runs.find("unconstrained", studies.key(*cell()))
    assert run.provenance["threads"] == threads


@pytest.mark.parametrize(("threads", "processes"), [(1, 6), (2, 3), (4, 1), (7, 1)])
def test_cores_are_shared_out_between_processes_and_their_threads(store, monkeypatch, threads, processes):
    seen = {}

    def stream(planned, **how):
        seen.update(how)
        return (Outcome(*c, "recorded") for job in planned for c in job)

    monkeypatch.setattr(recording_of_studies.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(recording_of_studies.pool, "stream", stream)
    studies.record([cell(seed) for seed in range(8)], threads=threads, device="cpu", progress=False)
    assert (seen["workers"], seen["threads"]) == (processes, threads)
