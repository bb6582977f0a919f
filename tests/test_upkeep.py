"""Upkeep: the unfinished is told apart, what nothing refers to can go, a run being made loses nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from nclib import cli, commands, publication, recording, runs, studies, upkeep
from nclib.studies import grids

STUDY = "unconstrained"
DATA: dict[str, str] = {}
OLD = time.time() - 7200


@dataclass(frozen=True)
class Params:
    seed: int = 0


def key(seed):
    return runs.key(STUDY, Params(seed), DATA)


def rows():
    plain = {"split": "train", "labels": "clean", "layer": "features", "metric": "error"}
    return [plain | {"epoch": 0, "value": 0.5}], {}


def make(seed, produce=lambda folder: rows()):
    return recording.record(STUDY, Params(seed), DATA, produce, {"device": "cpu"})


def fails(folder):
    (folder / "checkpoint.pt").write_bytes(b"so far")
    raise ZeroDivisionError("at\nstep 3")


def killed(folder):
    (folder / "checkpoint.pt").write_bytes(b"so far")
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """The folder of the study's fresh results, in a store of its own."""
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path / "published")
    folder = tmp_path / "results" / STUDY
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def elsewhere(base):
    """Another process, at work on the run of seed 0."""
    code = """
import sys
sys.path.insert(0, "tests")
import test_upkeep
def wait(folder):
    (folder / "checkpoint.pt").write_bytes(b"so far")
    print("at work", flush=True)
    sys.stdin.read()
    return test_upkeep.rows()
test_upkeep.make(0, wait)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=runs.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"at work\n"
            yield process
        finally:
            process.kill()


def names(found):
    return sorted(leftover.path.name for leftover in found)


def left(base):
    return sorted(p.name for p in base.iterdir())


# Unfinished


def test_nothing_is_unfinished_where_nothing_is_or_all_is_recorded(base):
    assert upkeep.unfinished(STUDY) == {}
    make(0)
    assert upkeep.unfinished(STUDY) == {}
    base.rename(base.with_name("away"))
    assert upkeep.unfinished(STUDY) == {}


def test_failed_begun_and_damaged_notes_are_told_apart():
    with pytest.raises(ZeroDivisionError):
        make(0, fails)
    with pytest.raises(KeyboardInterrupt):
        make(1, killed)
    make(2)
    expected = {key(0): "failed: ZeroDivisionError: at step 3", key(1): "begun"}
    assert upkeep.unfinished(STUDY) == expected


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"provenance": 3}', b"\xff\xfe"])
def test_a_note_of_failure_that_cannot_be_read_is_named_and_stops_nothing(base, content):
    (base / f"{key(0)}.failed.json").write_bytes(content)
    state = upkeep.unfinished(STUDY)[key(0)]
    assert state == f"failed: its note {key(0)}.failed.json cannot be read"


def test_a_run_that_was_recorded_since_is_not_unfinished(base):
    make(0)
    (base / f"{key(0)}.partial").mkdir()
    (base / f"{key(0)}.failed.json").write_text(json.dumps({"provenance": {"error": "x"}}))
    assert upkeep.unfinished(STUDY) == {}
    (base / key(0) / "table.parquet").unlink()
    assert upkeep.unfinished(STUDY) == {key(0): "failed: x"}


def test_a_run_at_work_in_another_process_is_running_and_nothing_of_it_can_go(base, elsewhere):
    with pytest.raises(KeyboardInterrupt):
        make(1, killed)
    (base / f"{key(0)}.failed.json").write_text("{}")  # of an earlier attempt
    (base / f"{key(0)}.12345678.damaged").mkdir()
    assert upkeep.unfinished(STUDY) == {key(0): "running", key(1): "begun"}
    before = left(base)
    assert names(upkeep.leftovers(STUDY, wanted=())) == [f"{key(1)}.partial"]
    assert left(base) == before, "to look changes nothing"
    with pytest.raises(recording.Busy):
        make(0)
    os.kill(elsewhere.pid, signal.SIGKILL)
    elsewhere.wait()
    assert upkeep.unfinished(STUDY)[key(0)].startswith("failed: ")
    assert names(upkeep.leftovers(STUDY, wanted=())) == sorted(
        [
            *(f"{key(0)}.{kind}" for kind in ("partial", "failed.json", "12345678.damaged")),
            *(f".{key(0)}.lock", f"{key(1)}.partial"),
        ]
    )


def test_a_run_that_began_after_the_question_keeps_everything(base):
    with pytest.raises(KeyboardInterrupt):
        make(0, killed)
    (base / f".{key(0)}.lock").touch()
    found = upkeep.leftovers(STUDY, wanted=())
    assert names(found) == [f".{key(0)}.lock", f"{key(0)}.partial"]

    def meanwhile(folder):
        assert [leftover.remove() for leftover in found] == [False, False]
        assert (folder / "checkpoint.pt").read_bytes() == b"so far"
        assert recording.is_running(STUDY, key(0))
        return rows()

    make(0, meanwhile)
    assert left(base) == [key(0)]


def test_removing_a_lock_that_was_left_leaves_that_of_the_process_that_comes_next(base, monkeypatch):
    path = base / f".{key(0)}.lock"
    path.touch()
    (leftover,) = upkeep.leftovers(STUDY, wanted=())
    unlink, began = Path.unlink, []

    def and_the_next_begins(self, **options):
        unlink(self, **options)
        if not began:
            began.append(stack.enter_context(recording.lock(STUDY, key(0))))

    monkeypatch.setattr(Path, "unlink", and_the_next_begins)
    with ExitStack() as stack:
        assert leftover.remove()
        assert began
        assert recording.is_running(STUDY, key(0))
    assert left(base) == []


# What can go


def test_a_fresh_record_goes_when_it_is_published_or_named_by_nothing(base):
    for seed in range(2):
        make(seed)
    publication.publish(STUDY)
    for seed in range(2, 4):
        make(seed)
    found = upkeep.leftovers(STUDY, wanted={key(0), key(2)})
    assert {leftover.path.name: leftover.why for leftover in found} == {
        key(0): "a copy of a published record",
        key(1): "a copy of a published record",
        key(3): "of a run that no grid or notebook names",
    }
    assert names(upkeep.leftovers(STUDY)) == sorted([key(0), key(1)]), (
        "what nothing names may be somebody's own"
    )
    for leftover in found:
        assert leftover.remove()
    assert left(base) == [key(2)]
    assert all(runs.is_recorded(STUDY, key(seed)) for seed in range(3))


@pytest.mark.parametrize("kind", ["partial", "failed.json"])
def test_what_an_unfinished_run_has_left_goes_when_it_is_recorded_or_named_by_nothing(base, kind):
    with pytest.raises(ZeroDivisionError):
        make(0, fails)
    name = f"{key(0)}.{kind}"
    assert name not in names(upkeep.leftovers(STUDY, wanted={key(0)})), "its checkpoint is still of use"
    assert name not in names(upkeep.leftovers(STUDY)), "and so it is where a run is somebody's own"
    found = {leftover.path.name: leftover.why for leftover in upkeep.leftovers(STUDY, wanted=())}
    assert found[name] == "of a run that no grid or notebook names"
    (base / name).rename(base / "kept")
    make(0)
    (base / "kept").rename(base / name)  # as a kill at the last moment leaves it
    (leftover,) = upkeep.leftovers(STUDY, wanted={key(0)})
    assert (leftover.path.name, leftover.why) == (name, "of a run that is recorded since")
    assert leftover.remove()
    assert left(base) == [key(0)]


def test_what_kills_and_damage_have_left_always_goes(base):
    make(0)
    (base / key(0) / "table.parquet").write_bytes(b"")
    make(0)
    (base / f".{key(1)}.lock").touch()
    (base / ".tmp-0123").write_text("half a note")
    os.utime(base / ".tmp-0123", (OLD, OLD))
    found = upkeep.leftovers(STUDY, wanted={key(0), key(1)})
    assert sorted(leftover.why for leftover in found) == [
        "a damaged record, set aside",
        "a write that was killed",
        "the lock of a process that is gone",
    ]
    for leftover in found:
        assert leftover.remove()
    assert left(base) == [key(0)]


@pytest.mark.parametrize("folder", ["", STUDY])
def test_a_temporary_file_goes_only_when_nobody_can_still_be_writing_it(base, folder):
    path = runs.results() / folder / ".tmp-0123"
    path.mkdir()
    (path / "table.parquet").write_bytes(b"half")

    def found():
        return [*upkeep.killed_writes(), *upkeep.leftovers(STUDY, wanted=())]

    assert found() == []
    os.utime(path, (OLD, OLD))
    (leftover,) = found()
    assert leftover.size == 4
    assert leftover.remove()
    assert not path.exists()


def test_what_is_somebodys_own_stays(base):
    for name in ("notes.txt", "plot", "README", ".hidden", f"{key(0)[:-1]}g", f"{key(0)}0.partial"):
        (base / name).mkdir()
    assert upkeep.leftovers(STUDY, wanted=()) == []
    (base / f"{key(0)}.partial").mkdir()
    assert names(upkeep.leftovers(STUDY, wanted=())) == [f"{key(0)}.partial"]


def test_the_size_is_that_of_all_files_within(base):
    folder = base / f"{key(0)}.partial"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(bytes(30))
    (folder / "deep" / "b").write_bytes(bytes(12))
    note = base / f"{key(1)}.failed.json"
    note.write_bytes(bytes(5))
    assert {leftover.path: leftover.size for leftover in upkeep.leftovers(STUDY, ())} == {folder: 42, note: 5}


def test_removing_what_is_gone_already_is_no_error(base):
    with pytest.raises(ZeroDivisionError):
        make(0, fails)
    found = upkeep.leftovers(STUDY, wanted=())
    assert len(found) == 2
    assert all(leftover.remove() for leftover in (*found, *found))
    assert left(base) == []


# nclib gc


everything_named = cache(commands._everything_named)  # most of a second, and the same for all of these


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def gc(capsys, monkeypatch):
    """`nclib gc` with this on its terminal, or on a stdin that is none; what it prints."""

    monkeypatch.setattr(commands, "_everything_named", everything_named)

    def run(*options, typed=None):
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n") if typed is None else Terminal(typed))
        assert cli.main(["gc", *options]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def wanted(base):
    """What must stay of runs that a grid names, beside a record that nothing names."""
    _, cell, other = grids.load(grids.FOLDER / "unconstrained.yml")[1][:3]
    named, recorded = studies.key(STUDY, cell), studies.key(STUDY, other)
    (base / f"{named}.partial").mkdir()
    (base / f"{named}.partial" / "checkpoint.pt").write_bytes(b"hours of work")
    make(0)
    (base / key(0)).rename(base / recorded)  # foreign: whether it can be read is not gc's business
    make(0)
    return sorted([f"{named}.partial", recorded])


def test_gc_says_so_when_there_is_nothing_to_remove(base, gc, monkeypatch, tmp_path):
    assert gc("--unnamed") == "nothing to remove\n"
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "not" / "there"))
    assert gc("--yes") == "nothing to remove\n"


@pytest.mark.parametrize("typed", [None, "n\n", "\n", "", "yess\n"])
def test_gc_removes_nothing_unless_somebody_agrees(base, gc, wanted, typed):
    before = left(base)
    said = gc("--unnamed", typed=typed)
    assert f"{STUDY}/{key(0)}: of a run that no grid or notebook names\n" in said
    assert said.endswith("nothing was removed of 1 (0.0 MB); --yes removes without asking\n")
    assert ("remove these 1 (0.0 MB)? [y/N]" in said) == (typed is not None)
    assert left(base) == before


@pytest.mark.parametrize(("options", "typed"), [(("--yes",), None), ((), "y\n"), ((), " YES \n")])
def test_gc_removes_what_it_listed_and_keeps_what_is_named(base, gc, wanted, options, typed):
    said = gc("--unnamed", *options, typed=typed)
    assert said.endswith("removed 1 of 1 (0.0 MB)\n")
    assert left(base) == wanted
    assert gc("--unnamed") == "nothing to remove\n"


def test_gc_removes_a_run_that_nothing_names_only_when_told(base, gc, wanted):
    assert gc("--yes") == "nothing to remove\n"
    assert runs.is_recorded(STUDY, key(0))
    assert gc("--unnamed", "--yes").endswith("removed 1 of 1 (0.0 MB)\n")
    assert not runs.is_recorded(STUDY, key(0))


def test_gc_leaves_a_run_that_is_being_made(base, gc, elsewhere):
    (base / f"{key(0)}.12345678.damaged").mkdir()
    before = left(base)
    assert gc("--unnamed", "--yes") == "nothing to remove\n"
    assert left(base) == before


def test_gc_says_what_it_left_because_its_run_had_begun_meanwhile(base, gc, wanted, monkeypatch):
    agreed = commands._agreed

    def while_asking(question):
        stack.enter_context(recording.lock(STUDY, key(0)))
        return agreed(question)

    monkeypatch.setattr(commands, "_agreed", while_asking)
    with ExitStack() as stack:
        said = gc("--unnamed", typed="y\n")
    assert f"{STUDY}/{key(0)}: its run is being made by now, and was left\nremoved 0 of 1" in said
    assert runs.is_recorded(STUDY, key(0))
