"""The command line: what was asked, or one clear line, exit status 2 and nothing half-written."""

import gzip
import shutil
from dataclasses import replace

import pytest
import torch

from nclib import cli, data, notebooks, publication, recording, runs, studies
from nclib.notebooks import asking
from nclib.own import command as own_command
from nclib.studies import grids, jobs, unconstrained
from nclib.studies.jobs import Outcome, Report

TERMINAL = str(asking.FOLDER / "10_terminal_phase.ipynb")
UNCONSTRAINED = str(grids.FOLDER / "unconstrained.yml")
DOUBLE = str(asking.FOLDER / "30_double_descent.ipynb")
TINY = [
    text
    for name, value in {
        "num_classes": 3,
        "per_class": 2,
        "feature_dim": 4,
        "epochs": 2,
        "measurements": 2,
    }.items()
    for text in ("-p", name, str(value))
]


def refused(capsys, *argv: str) -> str:
    """The one line on stderr of a command that must fail with exit status 2."""
    try:
        status = cli.main(list(argv))
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Where fresh runs would go: nothing is there."""
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def recording_refused(monkeypatch):
    monkeypatch.setattr(studies, "record", lambda *a, **k: pytest.fail("recording was begun"))


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out.ipynb"
    yield path
    assert not path.exists(), "something was written by a command that failed"
    assert sorted(p.name for p in tmp_path.glob("*.ipynb")) == []


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("epohcs", "2"), "unknown parameter 'epohcs': did you mean 'epochs'?"),
        (("epochs", "two"), "epochs: expected int, got 'two'"),
        (("epochs", "2.5"), "epochs: expected int, got '2.5'"),
        (("width", "-16"), "width must be at least 1, got -16"),
        (("lr", "fast"), "lr: expected float, got 'fast'"),
        (("lr", "nan"), "lr must be above 0"),
        (("seeds", "0-"), "seeds: cannot read '0-'"),
        (("dataset", "fashion"), "dataset must be one of"),
    ],
)
def test_execute_refuses_a_bad_parameter_before_a_kernel_starts(capsys, monkeypatch, out, given, complaint):
    monkeypatch.setattr(notebooks, "execute", lambda *a, **k: pytest.fail("a kernel was started"))
    assert complaint in refused(capsys, "execute", TERMINAL, "-p", *given, "-o", str(out))


def test_execute_refuses_a_data_folder_that_is_not_there(capsys, monkeypatch, out, tmp_path):
    monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "nowhere"))
    line = refused(capsys, "execute", TERMINAL, "-p", "epochs", "2", "-o", str(out))
    assert "NCLIB_DATA" in line
    assert "nowhere" in line
    assert "NCLIB_DATA" in refused(capsys, "execute", DOUBLE, "-p", "epochs", "2", "-o", str(out))


def test_execute_refuses_a_truncated_data_file(capsys, monkeypatch, out, tmp_path):
    folder = tmp_path / "data" / "fashion-mnist"
    shutil.copytree(runs.ROOT / "data" / "fashion_mnist_subset", folder)
    images = folder / "train-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-100]))
    monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "data"))
    line = refused(capsys, "execute", TERMINAL, "-p", "epochs", "2", "-o", str(out))
    assert "train-images-idx3-ubyte.gz" in line


def test_execute_never_overwrites_a_published_notebook_with_other_parameters(capsys):
    before = (asking.FOLDER / "10_terminal_phase.ipynb").read_bytes()
    assert "-o OUT.ipynb" in refused(capsys, "execute", TERMINAL, "-p", "epochs", "2")
    assert (asking.FOLDER / "10_terminal_phase.ipynb").read_bytes() == before


def test_execute_writes_where_it_was_told(capsys, tmp_path):
    target = tmp_path / "board.ipynb"
    assert (
        cli.main(
            [
                "execute",
                str(asking.FOLDER / "scoreboard.ipynb"),
                "-p",
                "source",
                "zhu2021",
                "-o",
                str(target),
            ]
        )
        == 0
    )
    assert "zhu2021-value" in target.read_text()
    assert "papyan2020-nc1:" not in target.read_text()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("execute", "nowhere.ipynb"), "there is no notebook"),
        (("execute",), "required"),
        (("exekute", "x"), "invalid choice"),
        (("execute", TERMINAL, "-p", "epochs", "2", "-o", "no/such/folder/out.ipynb"), "there is no folder"),
        (("record", "mnist2d"), "unknown study 'mnist2d': did you mean 'mnist1d'?"),
        (("record", "mnist1d", "-p", "widht", "4"), "did you mean 'width'?"),
        (("record", "mnist1d", "-p", "width", "-4"), "width must be at least 1"),
        (("record",), "name one of"),
        (("record", "--all", "--workers", "0"), "--workers must be at least 1"),
        (("record", "--all", "--workers", "two"), "invalid int value: 'two'"),
        (
            ("record", "--all", "--workers", "2", "--scheduler", "tcp://x:1"),
            "--workers goes without --scheduler",
        ),
        (("record", "--all", "--threads", "0"), "--threads must be at least 1"),
        (
            ("record", "--all", "--threads", "2", "--scheduler", "tcp://x:1"),
            "--threads goes without --scheduler",
        ),
        (("record", "--all", "--device", "tpu"), "invalid choice: 'tpu'"),
        (("record", "--grid", "nowhere.yml"), "nowhere.yml cannot be read: there is no such file"),
        (("record", "--grid", "."), "cannot be read"),
        (("record", "my-grid.yml"), "my-grid.yml is no study: a grid file is named by --grid my-grid.yml"),
        (("record", "mnist2d", "--all"), "unknown study 'mnist2d': did you mean 'mnist1d'?"),
        (("record", "mnist2d", "--grid", UNCONSTRAINED), "unknown study 'mnist2d'"),
        (("record", "mnist1d", "--grid", UNCONSTRAINED), "is a grid of unconstrained, not of mnist1d"),
        (("record", "--grid", UNCONSTRAINED, "--all"), "name only one of"),
        (("record", "--grid", UNCONSTRAINED, "--profile", "smoke"), "name only one of"),
        (("record", "--all", "--profile", "smoke"), "name only one of"),
        (("record", "--profile", "smoke"), "name one of: a study"),
        (("record", "--seeds", "0-2"), "name one of: a study"),
        (("record", "mnist1d", "--profile", "smok"), "invalid choice: 'smok'"),
        (("record", "mnist1d", "--seeds", "0-2", "-p", "seed", "1"), "name the seeds once"),
        (("record", "--grid", UNCONSTRAINED, "--seeds", "0", "-p", "seed", "1"), "name the seeds once"),
        (("record", "mnist1d", "-p", "width", "2", "-p", "width", "4"), "-p width is there twice"),
        (("record", "mnist1d", "--seeds", ""), "seed: cannot read ''"),
        (("record", "mnist1d", "--seeds", "4-0"), "seed: cannot read '4-0'"),
        (("record", "mnist1d", "--seeds", "1,1"), "distinct values"),
        (("record", "mnist1d", "--seeds", "-1"), "seed must be at least 0, got -1"),
        (("record", "mnist1d", "-p", "seeds", "0-2"), "unknown parameter 'seeds': did you mean 'seed'?"),
        (("record", "mnist1d", "--profile", "smoke", "-p", "widht", "4"), "did you mean 'width'?"),
        (("record", "mnist1d", "-p", "optimizer", "adma"), "did you mean 'adam'?"),
        (("record", "mnist1d", "-p", "width", "wide"), "width: cannot read 'wide'"),
        (
            ("record", "--grid", UNCONSTRAINED, "-p", "epohcs", "4"),
            "unconstrained.yml: unknown parameter 'epohcs'",
        ),
        (
            ("record", "--grid", UNCONSTRAINED, "-p", "lr", "fast"),
            "unconstrained.yml: lr: cannot read 'fast'",
        ),
        (("record", "--all", "-p", "widht", "4"), "did you mean 'width'?"),
        (
            ("record", "representations", "--profile", "smoke", "-p", "width", "4"),
            "width and width_b together",
        ),
        (("execute", DOUBLE, "-p", "seeds", "0", "-p", "seeds", "1"), "-p seeds is there twice"),
        (("gc", "--force"), "unrecognized arguments: --force"),
        (("publish", "mnist2d"), "unknown study"),
        (("smoke", "mnist2d"), "unknown study"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, results, recording_refused, argv, complaint):
    assert complaint in refused(capsys, *argv)
    assert not results.exists()


@pytest.mark.parametrize("named", [("unconstrained",), ("--all",), ("--grid", UNCONSTRAINED)])
def test_cuda_where_there_is_none_is_refused_before_anything_is_done(
    capsys, monkeypatch, results, recording_refused, named
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(capsys, "record", *named, "--seeds", "90-91", "--device", "cuda")
    assert "sees no GPU here; use cpu or auto" in line
    assert not results.exists()


@pytest.mark.parametrize("address", ["nonsense", ""])
def test_a_scheduler_that_is_none_is_named(capsys, results, address):
    pytest.importorskip("distributed")
    line = refused(capsys, "record", "unconstrained", *TINY, "--scheduler", address)
    assert f"no Dask scheduler answers at {address}".strip() in line
    assert not results.exists()


def test_an_error_of_the_system_is_one_line(capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device", "0004.parquet")

    monkeypatch.setattr(publication, "publish", full)
    assert "OSError: [Errno 28] No space left on device: '0004.parquet'" in refused(capsys, "publish")


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        (("publish",), "the same command goes on where this one stopped"),
        (("measure", "nowhere:f"), "nothing was written"),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(capsys, monkeypatch, argv, rest):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(publication, "publish", interrupted)
    monkeypatch.setattr(own_command, "measure", interrupted)
    assert cli.main(list(argv)) == 130
    assert capsys.readouterr().err == f"nclib: interrupted; {rest}\n"


# Which runs are recorded


@pytest.fixture
def asked_for(capsys, monkeypatch, results):
    """The (study, params) that `record` with these arguments would record, and how."""

    def ask(*argv):
        seen = {}

        def record(cells, **how):
            seen.update(cells=list(cells), **how)
            return Report(seen["cells"], [])

        with monkeypatch.context() as stubbed:
            stubbed.setattr(studies, "record", record)
            assert cli.main(["record", *argv]) == 0, capsys.readouterr().err
        capsys.readouterr()
        return seen

    return ask


def of(asked, *names):
    return [tuple(getattr(params, name) for name in names) for _, params in asked["cells"]]


def test_parameters_name_their_product_with_the_other_defaults(asked_for):
    asked = asked_for("mnist1d", "-p", "width", "4,8", "-p", "optimizer", "adam", "--seeds", "0-1")
    assert of(asked, "width", "seed", "lr", "noise_seed", "epochs") == [
        (4, 0, 1e-3, 0, 300), (4, 1, 1e-3, 1, 300), (8, 0, 1e-3, 0, 300), (8, 1, 1e-3, 1, 300),
    ]  # fmt: skip
    assert {study for study, _ in asked["cells"]} == {"mnist1d"}
    assert (asked["workers"], asked["scheduler"], asked["device"]) == (None, None, "auto")
    assert asked["threads"] == 1


def test_how_it_is_done_is_handed_on(asked_for):
    asked = asked_for("mnist1d", "-p", "width", "4", "--workers", "3", "--threads", "2", "--device", "cpu")
    assert (asked["workers"], asked["threads"], asked["device"]) == (3, 2, "cpu")
    asked = asked_for("mnist1d", "-p", "width", "4", "--scheduler", "tcp://x:1", "--device", "cuda")
    assert (asked["workers"], asked["scheduler"], asked["device"]) == (None, "tcp://x:1", "cuda")


@pytest.mark.parametrize("profile", [None, *notebooks.PROFILES])
def test_a_study_alone_is_what_its_notebooks_ask_for_under_the_profile(asked_for, profile):
    asked = asked_for("mnist1d", *(("--profile", profile) if profile else ()))
    assert asked["cells"] == [("mnist1d", params) for params in notebooks.asked("mnist1d", profile, {})]
    assert len(asked["cells"]) >= 12


def test_seeds_replace_those_of_profiles_grids_and_defaults(asked_for):
    for argv in (("mnist1d", "--profile", "smoke"), ("mnist1d",), ("mnist1d", "--all"), ("--all",)):
        before = together(asked_for(*argv)["cells"])
        after = together(asked_for(*argv, "--seeds", "70-71,80")["cells"])
        assert {params.seed for _, params in after} == {70, 71, 80}
        assert set(map(but_for_the_seed, after)) == set(map(but_for_the_seed, before))
        assert len(after) == 3 * len(set(map(but_for_the_seed, before)))


def together(cells):
    """Those whose seed varies everything; a grid that varies label noise apart names its seeds itself."""
    distinct = dict.fromkeys(cells)  # grids may share runs
    return [cell for cell in distinct if getattr(cell[1], "noise_seed", cell[1].seed) == cell[1].seed]


def but_for_the_seed(cell):
    study, params = cell
    return study, replace(params, seed=0, **({"noise_seed": 0} if hasattr(params, "noise_seed") else {}))


def test_a_grids_parameters_can_be_replaced_and_what_is_left_open_follows_them(asked_for):
    grid = str(grids.FOLDER / "model_wise.yml")
    plain = asked_for("--grid", grid)
    assert set(of(plain, "optimizer", "lr", "schedule")) == {
        ("sgd", 0.01, "cosine"),
        ("adam", 1e-3, "constant"),
    }
    adam = asked_for("mnist1d", "--grid", grid, "-p", "optimizer", "adam", "-p", "width", "4")
    assert set(of(adam, "optimizer", "lr", "schedule", "weight_decay")) == {("adam", 1e-3, "constant", 1e-4)}
    assert sorted(of(adam, "architecture", "seed")) == [
        (a, s) for a in ("cnn1d", "resnet1d") for s in range(3)
    ]
    spelt_out = asked_for("--grid", grid, "-p", "optimizer", "adam", "-p", "lr", "0.5", "-p", "width", "4")
    assert {lr for (lr,) in of(spelt_out, "lr")} == {0.5}


def test_all_names_every_grid_and_a_study_beside_it_only_its_own(asked_for):
    everything = [(s, p) for s, cells in grids.published().values() for p in cells]
    assert asked_for("--all")["cells"] == everything
    own = [(s, p) for s, p in everything if s == "representations"]
    assert asked_for("representations", "--all")["cells"] == own
    assert 0 < len(own) < len(everything)


def test_a_study_that_no_notebook_asks_for_is_named_by_its_parameters(capsys, monkeypatch, asked_for):
    monkeypatch.setattr(asking, "sweeps", lambda path: [])
    assert "no grid or notebook names runs of mnist1d: name them with -p" in refused(
        capsys, "record", "mnist1d"
    )
    assert of(asked_for("mnist1d", "-p", "width", "2"), "width") == [(2,)]


# What recording says and leaves


def test_what_was_recorded_is_not_recorded_again(capsys, results):
    command = [
        "record",
        "unconstrained",
        "--seeds",
        "0,1",
        "-p",
        "optimizer",
        "adam,lbfgs",
        *TINY,
        "--workers",
        "1",
    ]
    assert cli.main(command) == 0
    assert table(capsys) == {"unconstrained": ["4", "0", "4", "0", "0"]}
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    assert len(list(results.glob("unconstrained/*/record.json"))) == 4
    assert cli.main(command) == 0
    assert table(capsys) == {"unconstrained": ["4", "4", "0", "0", "0"]}
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


def table(capsys):
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["runs", "before", "now", "elsewhere", "failed", "seconds"]
    return {row.split()[0]: row.split()[1:6] for row in rows}


def test_a_run_that_fails_has_its_line_and_status_1_and_the_others_are_recorded(capsys, results):
    command = ["record", "unconstrained", "-p", "optimizer", "adam", "-p", "lr", "0.01,1e300", *TINY]
    command += ["--workers", "1"]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].split()[:6] == ["unconstrained", "2", "0", "1", "0", "1"]
    (line,) = [line for line in captured.err.splitlines() if line.startswith("nclib: ")]
    (note,) = results.glob("unconstrained/*.failed.json")
    assert line.startswith(f"nclib: unconstrained {note.name.removesuffix('.failed.json')} (seed 0): ")
    assert "Traceback" not in captured.err
    assert len(list(results.glob("unconstrained/*/record.json"))) == 1


def test_of_many_failures_five_are_shown_and_the_rest_counted(capsys, monkeypatch, results):
    cells = [("unconstrained", unconstrained.Params(seed=seed)) for seed in range(8)]
    failed = [Outcome(*cell, "failed", "Diverged: here") for cell in cells[1:]]
    monkeypatch.setattr(studies, "record", lambda *a, **k: Report(cells, failed))
    assert cli.main(["record", "unconstrained"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("Diverged: here") for line in lines[:5])
    assert lines[5] == "nclib: and 2 more failed; see `nclib status`"


# Status


def status(capsys):
    """(named by, study) to the counts of its line; and the lines below the table."""
    assert cli.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = lines[0].split()
    rows, by = {}, ""
    for line in lines[2:]:
        if ":" in line:
            break
        *names, study = line.split()[:-7]
        by = " ".join(names) or by
        rows[by, study] = dict(zip(header, map(int, line.split()[-7:]), strict=True))
    return rows, lines[2 + len(rows) :]


def test_status_counts_runs_by_grid_and_by_study_and_profile(capsys, results):
    rows, below = status(capsys)
    assert below == []
    assert rows["grid unconstrained", "unconstrained"] == {
        "runs": 18, "recorded": 18, "published": 18, "stale": 0, "running": 0, "failed": 0, "missing": 0,
    }  # fmt: skip
    names = {f"grid {name}" for name in grids.published()}
    names |= {"notebooks", *(f"profile {profile}" for profile in notebooks.PROFILES)}
    assert {by for by, _ in rows} == names
    for profile in ("notebooks", *(f"profile {p}" for p in notebooks.PROFILES)):
        assert {study for by, study in rows if by == profile} == set(studies.STUDIES)
    smoke = rows["profile smoke", "unconstrained"]
    assert smoke["missing"] == smoke["runs"] - smoke["recorded"] > 0


def test_status_tells_recorded_running_failed_and_begun_apart(capsys, results):
    smoke = notebooks.asked("unconstrained", "smoke", {})
    recorded, failed, running = (studies.key("unconstrained", params) for params in smoke[:3])
    jobs.perform([("unconstrained", smoke[0])], "cpu")
    base = results / "unconstrained"
    for key in (recorded, failed, running, "0" * 16):
        (base / f"{key}.partial").mkdir()
    (base / f"{failed}.failed.json").write_text('{"provenance": {"error": "Diverged: in\\nepoch 3"}}')
    with recording.lock("unconstrained", running):
        rows, below = status(capsys)
    assert rows["profile smoke", "unconstrained"] == {
        "runs": 3, "recorded": 1, "published": 0, "stale": 0, "running": 1, "failed": 1, "missing": 2,
    }  # fmt: skip
    assert sorted(below) == sorted(
        [
            f"unconstrained {'0' * 16}: begun",
            f"unconstrained {failed}: failed: Diverged: in epoch 3",
            f"unconstrained {running}: running",
        ]
    )


def test_a_study_that_is_new_and_in_no_notebook_stops_neither_status_nor_gc(capsys, monkeypatch, results):
    monkeypatch.setattr(asking, "sweeps", lambda path: [])
    rows, _ = status(capsys)
    assert rows["notebooks", "mnist1d"]["runs"] == 0
    assert cli.main(["gc"]) == 0


def test_data_lists_and_verifies(capsys):
    assert cli.main(["data"]) == 0
    assert "mnist1d" in capsys.readouterr().out
    assert cli.main(["data", "verify"]) == 0
    assert "BAD" not in capsys.readouterr().out


def test_data_verify_fails_on_an_altered_file(capsys, monkeypatch, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(runs.ROOT / "data", copy, ignore=shutil.ignore_patterns("runs"))
    altered = copy / "mnist1d" / "mnist1d.npz"
    altered.write_bytes(altered.read_bytes()[:-7] + b"altered")
    monkeypatch.setattr(data.folders, "EMBEDDED", copy)
    assert cli.main(["data", "verify"]) == 2
    assert "BAD mnist1d/mnist1d.npz" in capsys.readouterr().out
