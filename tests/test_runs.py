"""The run store: found by parameters, written whole or not at all, never made twice, never read when damaged."""

import errno
import fcntl
import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nclib import provenance as made_by
from nclib import publication, recording, runs, tables, upkeep

ENVIRONMENT = {"device": "cpu", "threads": 1, "deterministic": False}
DATA = {"train": "abc"}


@dataclass(frozen=True)
class Params:
    seed: int = 0
    lr: float = 0.1
    name: str = "é"
    late: int = field(default=7, metadata={"absent": 7})


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A store of its own for every test: fresh results, published records and smoke records."""
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(runs, "SMOKE", tmp_path / "smoke")
    return tmp_path


def rows(*values, metric="error"):
    plain = {"split": "train", "labels": "clean", "layer": "features", "metric": metric}
    return [plain | {"epoch": i, "value": v} for i, v in enumerate(values or (0.5, 1 / 3))]


def make(params=None, study="study", produce=None, arrays=None, environment=ENVIRONMENT, **more):
    made = produce or (lambda folder: (rows(), arrays or {}))
    return recording.record(study, params or Params(), DATA, made, environment, **more)


def never(folder):
    raise AssertionError("a recorded run was made again")


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# Keys


def test_the_key_is_sixteen_digits_of_the_hash_of_canonical_json():
    text = (
        '{"data":{"test":"b","train":"a"},"params":{"lr":0.1,"name":"\\u00e9","seed":3},'
        '"schema":1,"study":"terminal_phase"}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    found = runs.key("terminal_phase", Params(seed=3), {"train": "a", "test": "b"})
    assert found == expected == "8c8e03a3c0690aa1"


def test_a_parameter_added_later_leaves_old_keys_as_they_were():
    @dataclass(frozen=True)
    class Before:
        seed: int = 0
        lr: float = 0.1
        name: str = "é"

    assert runs.key("study", Params(), DATA) == runs.key("study", Before(), DATA)
    assert runs.key("study", Params(late=8), DATA) != runs.key("study", Before(), DATA)
    assert "late" not in runs.resolved(Params())
    assert runs.resolved(Params(late=8))["late"] == 8


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 0.2}, {"name": "e"}, {"late": 0}])
def test_every_parameter_the_study_the_data_and_the_schema_name_the_run(change, monkeypatch):
    ours = runs.key("study", Params(), DATA)
    assert runs.key("study", Params(**change), DATA) != ours
    assert runs.key("studie", Params(), DATA) != ours
    assert runs.key("study", Params(), {"train": "abd"}) != ours
    monkeypatch.setattr(tables, "SCHEMA", 2)
    assert runs.key("study", Params(), DATA) != ours


def test_a_key_never_holds_what_is_no_number():
    with pytest.raises(ValueError, match="JSON"):
        runs.key("study", Params(lr=float("nan")), DATA)


# Recording


def test_a_run_is_recorded_with_its_numbers_parameters_and_provenance():
    run = make(arrays={"means": np.arange(6.0).reshape(2, 3)})
    assert list(run.rows.value) == [0.5, float(np.float32(1 / 3))]
    assert run.key == runs.key("study", Params(), DATA)
    assert run.params == {"seed": 0, "lr": 0.1, "name": "é"}
    assert (run.table.lr == 0.1).all()
    assert list(run.table.columns) == [*tables.COLUMNS, "lr", "name"]
    np.testing.assert_array_equal(run.arrays["means"], np.arange(6.0).reshape(2, 3))
    assert run.provenance["status"] == "done"
    assert run.provenance["generation"] == 0
    assert run.provenance.keys() >= {
        "commit",
        "dirty",
        "versions",
        "host",
        "started",
        "seconds",
        *ENVIRONMENT,
    }
    assert make(Params(seed=1)).arrays == {}


def test_a_recorded_run_is_found_and_not_made_again(store):
    first = make()
    again = make(produce=never)
    pd.testing.assert_frame_equal(again.rows, first.rows)
    assert again.provenance == first.provenance
    assert runs.find("study", first.key).key == first.key
    assert runs.find("study", "0" * 16) is None
    assert runs.find("other", first.key) is None
    assert files(store) == [f"results/study/{first.key}/{name}" for name in ("record.json", "table.parquet")]


def test_a_failure_leaves_its_traceback_and_no_record_and_a_success_clears_it(store):
    def fails(folder):
        (folder / "checkpoint.pt").write_bytes(b"so far")
        raise ZeroDivisionError("at step 3")

    with pytest.raises(ZeroDivisionError, match="at step 3"):
        make(produce=fails)
    key = runs.key("study", Params(), DATA)
    assert runs.find("study", key) is None
    note = json.loads((store / "results" / "study" / f"{key}.failed.json").read_text())
    assert note["provenance"]["error"] == "ZeroDivisionError: at step 3"
    assert "fails" in note["provenance"]["traceback"]
    assert upkeep.unfinished("study") == {key: "failed: ZeroDivisionError: at step 3"}
    seen = []
    make(produce=lambda folder: seen.append((folder / "checkpoint.pt").read_bytes()) or (rows(), {}))
    assert seen == [b"so far"], "the checkpoint did not outlive the failure"
    assert upkeep.unfinished("study") == {}
    assert files(store) == [f"results/study/{key}/{name}" for name in ("record.json", "table.parquet")]


@pytest.mark.parametrize(
    "bad",
    [
        rows(metric="nc1"),
        rows(0.5) * 2,
        [{"epoch": 1, "value": 0.5}],
    ],
)
def test_rows_that_are_no_table_are_not_recorded(store, bad):
    with pytest.raises(ValueError, match=r"label|twice|exactly"):
        make(produce=lambda folder: (bad, {}))
    assert runs.find("study", runs.key("study", Params(), DATA)) is None


def test_a_kill_while_writing_leaves_nothing_that_could_be_read(store, monkeypatch):
    def killed(table, path):
        path.write_bytes(b"half a table")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(tables, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            make()
    key = runs.key("study", Params(), DATA)
    assert runs.find("study", key) is None
    assert not list((store / "results").rglob("*.parquet"))
    assert upkeep.unfinished("study") == {key: "begun"}
    assert make().key == key


def test_seconds_of_earlier_sessions_are_added_once():
    def first(folder):
        (folder / "seconds").write_text("100.0")
        raise KeyboardInterrupt

    def second(folder):
        (folder / "seconds").write_text("100.2")  # as a checkpoint does: earlier sessions and this one
        return rows(), {}

    with pytest.raises(KeyboardInterrupt):
        make(produce=first)
    assert 100 <= make(produce=second).provenance["seconds"] < 102


def test_a_resumed_run_says_what_made_its_earlier_parts():
    def saves_and_stops(folder):
        (folder / "seconds").write_text("1")  # as a checkpoint does
        raise KeyboardInterrupt

    def stops(folder):
        raise KeyboardInterrupt

    for threads, produce in ((8, stops), (2, saves_and_stops), (4, stops)):
        with pytest.raises(KeyboardInterrupt):
            make(produce=produce, environment=ENVIRONMENT | {"threads": threads})
    provenance = make(environment=ENVIRONMENT | {"threads": 1}).provenance
    assert [session["threads"] for session in provenance["resumed_from"]] == [2, 4]
    assert all(session.keys() >= {"commit", "started", "host"} for session in provenance["resumed_from"])
    assert provenance["threads"] == 1
    assert "resumed_from" not in make(Params(seed=1)).provenance


def test_a_copy_that_git_knows_nothing_of_has_the_commit_that_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(made_by, "ROOT", tmp_path)
    assert made_by.collect()["commit"] is None
    monkeypatch.setenv("NCLIB_COMMIT", "abc123")
    assert made_by.collect() | {"commit": "abc123", "dirty": None} == made_by.collect()
    monkeypatch.undo()
    monkeypatch.setenv("NCLIB_COMMIT", "abc123")
    assert made_by.collect()["commit"] != "abc123", "git's own word goes first"


def test_a_run_that_is_being_made_is_not_made_twice(store):
    key = runs.key("study", Params(), DATA)
    (store / "results" / "study").mkdir(parents=True)
    assert not recording.is_running("study", key)
    with recording.lock("study", key):  # an open file's lock: as good as another process
        assert recording.is_running("study", key)
        with pytest.raises(recording.Busy, match=f"{key} is being recorded by another process"):
            make(produce=never)
        make(Params(seed=1))  # another run is nobody else's business
    assert not recording.is_running("study", key)
    assert upkeep.unfinished("study") == {}
    assert make().key == key


def test_a_look_at_whether_a_run_is_being_made_never_keeps_it_from_being_made(store):
    (store / "results" / "study").mkdir(parents=True)
    left = recording._lock_file("study", "key")
    left.touch()  # by a kill
    with left.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        looked = threading.Timer(0.03, lambda: fcntl.flock(handle, fcntl.LOCK_UN))
        looked.start()
        with recording.lock("study", "key"):
            assert recording.is_running("study", "key")
        looked.join()
    # Control: one who keeps it.
    left.touch()
    with left.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(recording.Busy), recording.lock("study", "key"):
            pass


def test_a_run_finished_by_another_process_meanwhile_is_taken_and_leaves_nothing_begun(store, monkeypatch):
    lock = recording.lock

    def late(study, key):
        with monkeypatch.context() as unhindered:
            unhindered.setattr(recording, "lock", lock)
            make()
        return lock(study, key)

    monkeypatch.setattr(recording, "lock", late)
    key = make(produce=never).key
    assert upkeep.unfinished("study") == {}
    assert files(store) == [f"results/study/{key}/{name}" for name in ("record.json", "table.parquet")]


@pytest.mark.parametrize("when", ["after it was opened", "before it is compared"])
def test_a_lock_whose_file_its_last_holder_removes_is_taken_again_and_held(store, monkeypatch, when):
    # The removed file's lock would be worth nothing: the next process makes a new file, and locks that.
    path = store / "results" / "study" / ".key.lock"
    path.parent.mkdir(parents=True)
    module, name = (recording.fcntl, "flock") if when == "after it was opened" else (recording.os, "fstat")
    real, calls = getattr(module, name), []

    def slow(*arguments):
        if not calls:
            path.unlink()
        calls.append(arguments)
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, slow)
        with recording.lock("study", "key"):
            assert len(calls) == 2
            patched.undo()
            assert path.exists()
            assert recording.is_running("study", "key")
            with pytest.raises(recording.Busy), recording.lock("study", "key"):
                pass
            assert path.exists(), "who is refused must not remove the lock"
    assert not path.exists()


def damage_record(folder, name, how):
    path = folder / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :])
    elif how == "another's":
        path.write_bytes((folder.parent / make(Params(seed=1)).key / name).read_bytes())
    else:
        path.write_bytes(content[:-40] if how == "cut" else b"")


DAMAGED = [
    *(
        (name, how)
        for name in ("record.json", "table.parquet")
        for how in ("cut", "empty", "gone", "another's")
    ),
    ("table.parquet", "flipped"),
]


@pytest.mark.parametrize(("name", "how"), DAMAGED)
def test_a_damaged_fresh_record_is_never_read_but_set_aside_and_made_again(store, capsys, name, how):
    key = make().key
    folder = store / "results" / "study" / key
    assert runs.is_recorded("study", key)
    damage_record(folder, name, how)
    with pytest.raises(runs.Damaged, match=f"{key} cannot be read .*nclib record"):
        runs.find("study", key)
    assert not runs.is_recorded("study", key)
    left = files(folder)
    capsys.readouterr()
    run = make(produce=lambda folder: (rows(0.25), {}))
    assert list(run.rows.value) == [0.25]
    (aside,) = folder.parent.glob(f"{key}.*.damaged")
    assert files(aside) == left
    assert capsys.readouterr().err == f"nclib: a damaged record was set aside as {aside}\n"
    assert runs.is_recorded("study", key)
    assert make(produce=never).key == key


def test_the_published_record_stands_in_for_a_damaged_copy_of_it(store):
    run = make()
    publication.publish("study")
    damage_record(store / "results" / "study" / run.key, "table.parquet", "cut")
    pd.testing.assert_frame_equal(make(produce=never).rows, run.rows)
    assert len(list((store / "results" / "study").glob("*.damaged"))) == 1


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_the_error_that_is_seen_and_leaves_no_half_of_anything(store, monkeypatch):
    key = runs.key("study", Params(), DATA)
    with monkeypatch.context() as full:
        full.setattr(tables, "write", no_space)
        full.setattr(Path, "write_text", no_space)
        with pytest.raises(OSError, match="No space left") as caught:
            make()
        assert caught.value.errno == errno.ENOSPC
    assert files(store) == [], "neither a record nor a note of failure, and nothing temporary"
    assert upkeep.unfinished("study") == {key: "begun"}
    with monkeypatch.context() as full:
        full.setattr(recording, "write_whole", no_space)
        with pytest.raises(ZeroDivisionError):  # what went wrong is not masked by the note that failed
            make(produce=lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(produce=lambda folder: 1 / 0)
    assert upkeep.unfinished("study") == {key: "failed: ZeroDivisionError: division by zero"}
    assert make().key == key


def test_a_file_written_whole_is_there_with_all_its_content_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    recording.write_whole(path, "first")
    assert files(tmp_path) == ["note.json"]
    write = Path.write_text

    def half(self, text):
        write(self, text[:3])
        no_space()

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space left"):
            recording.write_whole(path, "second")
        assert path.read_text() == "first"
        assert files(tmp_path) == ["note.json"]
    seen = []

    def watched(self, target):
        seen.extend((self.read_text(), path.read_text()))
        return os.rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    recording.write_whole(path, "second")
    assert seen == ["second", "first"]
    assert path.read_text() == "second"


# From one machine to another


@pytest.fixture
def carried(store, monkeypatch):
    """A run recorded on another machine: the run, its key, and the files that it sends."""
    monkeypatch.setenv("NCLIB_RESULTS", str(store / "elsewhere"))
    run = make(arrays={"means": np.arange(3.0)})
    content = recording.carry("study", run.key)
    arrays = run.arrays
    monkeypatch.setenv("NCLIB_RESULTS", str(store / "results"))
    assert not runs.is_recorded("study", run.key)
    return run, arrays, content


def test_a_record_that_is_carried_over_reads_as_where_it_was_made(store, carried):
    run, arrays, content = carried
    assert set(content) == {"record.json", "table.parquet", "arrays.npz"}
    recording.adopt("study", run.key, content)
    found = runs.find("study", run.key)
    pd.testing.assert_frame_equal(found.table, run.table)
    assert found.provenance == run.provenance
    np.testing.assert_array_equal(found.arrays["means"], arrays["means"])
    assert recording.carry("study", run.key) == content
    assert files(store / "results") == sorted(f"study/{run.key}/{name}" for name in content)
    assert make(produce=never).key == run.key


def test_nothing_is_carried_of_a_run_without_a_fresh_record_and_nothing_is_adopted_then(store):
    assert recording.carry("study", "0" * 16) == {}
    recording.adopt("study", "0" * 16, {})
    assert not (store / "results").exists()


def test_adopting_never_overwrites(store, carried, monkeypatch):
    run, _, content = carried
    make(produce=lambda folder: (rows(0.75), {}))
    before = recording.carry("study", run.key)
    recording.adopt("study", run.key, content)
    assert recording.carry("study", run.key) == before != content
    # nor what was recorded between the first look and the lock
    looks = [False]
    is_current = runs.is_current
    monkeypatch.setattr(runs, "is_current", lambda *a: looks.pop() if looks else is_current(*a))
    recording.adopt("study", run.key, content)
    assert looks == []
    assert recording.carry("study", run.key) == before
    assert files(store / "results") == sorted(f"study/{run.key}/{name}" for name in before)


def test_adopting_leaves_a_run_that_is_being_made_here_to_its_maker(store, carried):
    run, _, content = carried
    (store / "results" / "study").mkdir(parents=True)
    with recording.lock("study", run.key):
        recording.adopt("study", run.key, content)
        assert not runs.is_recorded("study", run.key)
    assert files(store / "results") == []
    recording.adopt("study", run.key, content)
    assert runs.is_recorded("study", run.key)


def test_adopting_sets_a_damaged_record_aside(store, carried):
    run, _, content = carried
    make()
    damage_record(store / "results" / "study" / run.key, "table.parquet", "cut")
    recording.adopt("study", run.key, content)
    assert recording.carry("study", run.key) == content
    assert len(list((store / "results" / "study").glob("*.damaged"))) == 1


def test_damaged_arrays_are_named(store):
    run = make(arrays={"means": np.arange(500.0)})
    run.arrays_path.write_bytes(run.arrays_path.read_bytes()[:-60])
    with pytest.raises(runs.RecordError, match=r"arrays\.npz cannot be read"):
        _ = runs.find("study", run.key).arrays


# Publication


def smoke_generation(store, number):
    (store / "smoke").mkdir(exist_ok=True)
    (store / "smoke" / "study.json").write_text(json.dumps({"generation": number}))


def empty_results(store):
    (store / "results").rename(store / "put_away")


def test_publishing_appends_chunks_and_rewrites_nothing(store):
    first = make(arrays={"means": np.ones(3)})
    assert publication.publish("study") == (1, [])
    before = {name: (store / "published" / name).read_bytes() for name in files(store / "published")}
    assert sorted(before) == ["study/0001.json", "study/0001.parquet", f"study/{first.key}.npz"]
    assert publication.publish("study") == (0, [])
    assert files(store / "published") == sorted(before)
    second, third = make(Params(seed=1)), make(Params(seed=2))
    assert publication.publish("study") == (2, [])
    assert all((store / "published" / name).read_bytes() == content for name, content in before.items())
    assert set(runs.published_index("study")) == {first.key, second.key, third.key}
    assert sorted(p.name for p in (store / "published" / "study").glob("*.parquet")) == [
        "0001.parquet",
        "0002.parquet",
    ]


def test_a_published_run_reads_as_the_fresh_one_did(store):
    fresh = {seed: make(Params(seed=seed), arrays={"means": np.full(3, seed)}) for seed in range(3)}
    arrays = {seed: run.arrays for seed, run in fresh.items()}
    publication.publish("study")
    empty_results(store)
    for seed, run in fresh.items():
        found = make(Params(seed=seed), produce=never)
        pd.testing.assert_frame_equal(found.rows, run.rows)
        pd.testing.assert_frame_equal(found.table, run.table)
        assert (found.key, found.params, found.provenance) == (run.key, run.params, run.provenance)
        np.testing.assert_array_equal(found.arrays["means"], arrays[seed]["means"])
    everything = runs.published("study")
    assert len(everything) == 6
    assert set(everything.seed) == {0, 1, 2}
    assert (everything.lr == 0.1).all()
    assert runs.published("nothing").empty


def test_a_chunk_above_the_limit_is_split_and_one_run_above_it_is_refused(store, monkeypatch):
    generator = np.random.default_rng(0)
    for seed in range(4):
        make(Params(seed=seed), produce=lambda folder: (rows(*generator.random(3000)), {}))
    sizes = [p.stat().st_size for p in (store / "results").rglob("table.parquet")]
    monkeypatch.setattr(publication, "CHUNK_LIMIT", 2 * max(sizes))
    assert publication.publish("study") == (4, [])
    chunks = list((store / "published" / "study").glob("*.parquet"))
    assert len(chunks) >= 2
    assert max(p.stat().st_size for p in chunks) <= publication.CHUNK_LIMIT
    assert len(runs.published_index("study")) == 4
    assert len(runs.published("study")) == 12_000
    make(Params(seed=9), produce=lambda folder: (rows(*generator.random(3000)), {}))
    monkeypatch.setattr(publication, "CHUNK_LIMIT", 100)
    with pytest.raises(runs.RecordError, match="alone exceeds 100 bytes"):
        publication.publish("study")
    assert len(runs.published_index("study")) == 4
    assert list((store / "published" / "study").glob("*.tmp")) == []


def test_the_limit_itself_is_below_five_megabytes():
    assert publication.CHUNK_LIMIT < 5_000_000


def test_a_run_of_another_generation_is_not_published_and_a_published_one_becomes_stale(store):
    smoke_generation(store, 1)
    old = make()
    assert old.provenance["generation"] == 1
    publication.publish("study")
    assert runs.stale("study") == []
    waiting = make(Params(seed=1))
    smoke_generation(store, 2)
    assert runs.stale("study") == [old.key]
    count, refused = publication.publish("study")
    assert count == 0
    assert refused == [f"{waiting.key}: made under generation 1, now 2: record it again"]
    new = make(Params(seed=2))
    assert publication.publish("study")[0] == 1
    assert runs.stale("study") == [old.key]
    assert set(runs.published_index("study")) == {old.key, new.key}


def test_a_stale_run_is_made_again_and_its_new_record_takes_the_place_of_the_old(store):
    smoke_generation(store, 1)
    old = make(arrays={"means": np.zeros(3)})
    other = make(Params(seed=1))
    publication.publish("study")
    assert runs.is_current("study", old.key)
    smoke_generation(store, 2)
    assert runs.is_recorded("study", old.key)
    assert not runs.is_current("study", old.key)
    assert runs.find("study", old.key).provenance["generation"] == 1, "reading does not train"
    new = make(produce=lambda folder: (rows(0.25, 0.125), {"means": np.ones(3)}))
    assert new.provenance["generation"] == 2
    assert list(new.rows.value) == [0.25, 0.125]
    make(produce=never)
    assert publication.publish("study")[0] == 1
    assert runs.stale("study") == [other.key]
    empty_results(store)
    again = make(produce=never)
    assert list(again.rows.value) == [0.25, 0.125]
    np.testing.assert_array_equal(again.arrays["means"], np.ones(3))
    everything = runs.published("study")
    assert everything.groupby("run").size().to_dict() == {old.key: 2, other.key: 2}
    assert set(everything[everything.run == old.key].value) == {0.25, 0.125}
    assert len(list((store / "published" / "study").glob("*.parquet"))) == 2, "no chunk is rewritten"


def test_a_checkpoint_of_another_generation_is_not_gone_on_from(store):
    smoke_generation(store, 1)

    def stopped(folder):
        (folder / "checkpoint.pt").write_bytes(b"so far")
        raise KeyboardInterrupt

    def goes_on(folder):
        found.append((folder / "checkpoint.pt").exists())
        return rows(), {}

    found = []
    for seed, later in ((1, 1), (2, 2)):
        smoke_generation(store, 1)
        with pytest.raises(KeyboardInterrupt):
            make(Params(seed=seed), produce=stopped)
        smoke_generation(store, later)
        make(Params(seed=seed), produce=goes_on)
    assert found == [True, False]


def test_what_is_unfinished_is_not_published(store):
    with pytest.raises(ZeroDivisionError):
        make(produce=lambda folder: 1 / 0)
    assert publication.publish("study") == (0, [])


def test_a_damaged_record_is_named_and_does_not_keep_others_from_being_published(store):
    sound, damaged = make(), make(Params(seed=1))
    damage_record(store / "results" / "study" / damaged.key, "table.parquet", "cut")
    count, (refused,) = publication.publish("study")
    assert count == 1
    assert f"{damaged.key} cannot be read" in refused
    assert set(runs.published_index("study")) == {sound.key}


def published_run(store):
    run = make(arrays={"means": np.arange(500.0)})
    publication.publish("study")
    empty_results(store)
    return run.key, store / "published" / "study"


def test_an_altered_published_number_is_refused(store):
    key, folder = published_run(store)
    altered = tables.read(folder / "0001.parquet").assign(value=0.0)
    tables.write(altered, folder / "0001.parquet")
    with pytest.raises(runs.RecordError, match=r"0001\.parquet does not match the checksum .*git checkout"):
        runs.find("study", key)
    with pytest.raises(runs.RecordError, match=r"0001\.parquet does not match"):
        runs.published("study")


def test_a_missing_published_table_is_named(store):
    key, folder = published_run(store)
    (folder / "0001.parquet").unlink()
    with pytest.raises(runs.RecordError, match=r"0001\.parquet is missing"):
        runs.find("study", key)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"runs": 3}'])
def test_a_damaged_published_index_is_named(store, content):
    key, folder = published_run(store)
    (folder / "0001.json").write_text(content)
    with pytest.raises(runs.RecordError, match=r"0001\.json is not"):
        runs.find("study", key)


def test_damaged_published_arrays_are_named(store):
    key, folder = published_run(store)
    path = folder / f"{key}.npz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(runs.RecordError, match=rf"{key}\.npz cannot be read"):
        _ = runs.find("study", key).arrays


def test_a_damaged_smoke_note_is_named(store):
    smoke_generation(store, 1)
    (store / "smoke" / "study.json").write_text("{")
    with pytest.raises(runs.RecordError, match=r"study\.json is not readable JSON"):
        runs.generation("study")


def test_a_chunk_is_there_only_once_its_index_is(store, monkeypatch):
    run = make()

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(publication.json, "dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            publication.publish("study")
    assert runs.published_index("study") == {}
    assert publication.publish("study") == (1, [])
    assert set(runs.published_index("study")) == {run.key}
    assert len(runs.published("study")) == 2


# The line under a figure


def test_the_origin_names_runs_commit_version_device_and_generation(store):
    smoke_generation(store, 4)
    made = [make(Params(seed=seed)) for seed in range(5)]
    one = runs.origin("study", made[0].table)
    commit = str(made[0].provenance["commit"])[:7]
    assert one.startswith(f"Made from 1 run of study ({made[0].key[:8]}); commit {commit}")
    assert f"torch {made[0].provenance['versions']['torch']}; cpu; generation 4." in one
    five = runs.origin("study", pd.concat([run.table for run in made]))
    shown = ", ".join(run.key[:8] for run in made[:3])
    assert five.startswith(f"Made from 5 runs of study ({shown} and 2 more); ")
    assert five == runs.origin("study", pd.concat([run.table for run in made]))


def test_a_table_whose_runs_are_not_in_the_store_has_no_origin():
    run = make()
    with pytest.raises(runs.RecordError, match="1 of 2 runs in this table are not in the run store"):
        runs.origin("study", pd.concat([run.table, run.table.assign(run="f" * 16)]))


# What is committed


STUDIES = sorted(p.name for p in runs.PUBLISHED.glob("*") if p.is_dir())


@pytest.mark.parametrize("study", STUDIES)
def test_committed_records_are_whole_and_named_by_what_they_hold(study, monkeypatch):
    monkeypatch.undo()
    table = runs.published(study)  # verifies every chunk's checksum
    index = runs.published_index(study)
    assert set(table.run) == set(index)
    assert runs.stale(study) == []
    for key, (entry, chunk) in index.items():
        content = {"study": study, "schema": tables.SCHEMA, "params": entry["params"], "data": entry["data"]}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == key
        assert entry["provenance"]["status"] == "done"
        assert chunk.stat().st_size < 5_000_000
    for path in (runs.PUBLISHED / study).glob("*.npz"):
        assert path.stem in index
        assert runs.find(study, path.stem).arrays
