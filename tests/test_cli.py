"""The command line: what was asked, or one clear line, exit status 2 and nothing half-written."""

import gzip
import shutil

import pytest

from nclib import cli, data, notebooks, runs

TERMINAL = str(notebooks.FOLDER / "01_terminal_phase.ipynb")
DOUBLE = str(notebooks.FOLDER / "03_double_descent.ipynb")


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
    before = (notebooks.FOLDER / "01_terminal_phase.ipynb").read_bytes()
    assert "-o OUT.ipynb" in refused(capsys, "execute", TERMINAL, "-p", "epochs", "2")
    assert (notebooks.FOLDER / "01_terminal_phase.ipynb").read_bytes() == before


def test_execute_writes_where_it_was_told(capsys, tmp_path):
    target = tmp_path / "board.ipynb"
    assert (
        cli.main(
            [
                "execute",
                str(notebooks.FOLDER / "scoreboard.ipynb"),
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
        (("record", "mnist1d", "--all"), "name one of"),
        (("record",), "name one of"),
        (("record", "--all", "--workers", "0"), "--workers must be at least 1"),
        (("record", "--grid", "nowhere.yml"), "nowhere.yml"),
        (("publish", "mnist2d"), "unknown study"),
        (("smoke", "mnist2d"), "unknown study"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, argv, complaint):
    assert complaint in refused(capsys, *argv)


def test_record_trains_a_product_once(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path))
    small = ["-p", "num_classes", "3", "-p", "per_class", "2", "-p", "feature_dim", "4", "-p", "epochs", "2"]
    command = [
        "record",
        "unconstrained",
        "-p",
        "seed",
        "0,1",
        "-p",
        "optimizer",
        "adam,lbfgs",
        *small,
        "--workers",
        "1",
    ]
    assert cli.main(command) == 0
    assert "4 runs: 4 recorded now, 0 before" in capsys.readouterr().out
    assert cli.main(command) == 0
    assert "4 runs: 0 recorded now, 4 before" in capsys.readouterr().out


def test_status_counts_runs_by_grid(capsys):
    assert cli.main(["status"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["unconstrained"][1:] == ["unconstrained", "18", "18", "18", "0", "0"]


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
