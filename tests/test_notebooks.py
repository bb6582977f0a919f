"""Notebooks: strict parameters inside and around them, and a gate that lets nothing stale or broken through."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from nclib import notebooks, runs, studies
from nclib.notebooks import asking, execution, freshness, variables
from nclib.studies.params import ParameterError
from tools import finding

ALL = sorted(asking.FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in ALL]


@pytest.fixture
def sound(tmp_path):
    """A notebook that passes the gate, as content and as a way to write a changed copy of it."""
    cells = [
        {
            "cell_type": "code",
            "source": "q = 2",
            "metadata": {"tags": ["parameters"]},
            "execution_count": 1,
            "outputs": [],
        },
        {
            "cell_type": "code",
            "source": "# NBVAL_CHECK_OUTPUT\nprint(q)",
            "metadata": {"mystnb": {"image": {"alt": "two bars of equal height"}}},
            "execution_count": 2,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": "2\n"},
                {"output_type": "display_data", "data": {"image/png": "aGk="}, "metadata": {}},
            ],
        },
    ]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    content["metadata"]["nclib"] = freshness.stamp(content)

    def judge(change=lambda nb: None, refresh=False):
        changed = copy.deepcopy(content)
        change(changed)
        if refresh:
            changed["metadata"]["nclib"] = freshness.stamp(changed)
        path = tmp_path / "n.ipynb"
        path.write_text(json.dumps(changed))
        return freshness.gate(path)

    return judge


def test_the_gate_passes_a_sound_notebook(sound):
    assert sound() == []


@pytest.mark.parametrize(
    ("change", "refresh", "complaint"),
    [
        (lambda nb: nb["cells"][1].update(execution_count=None), False, "top to bottom"),
        (lambda nb: nb["cells"][1].update(execution_count=3), False, "top to bottom"),
        (lambda nb: nb["cells"][1]["outputs"].append({"output_type": "error"}), False, "holds an error"),
        (lambda nb: nb["cells"][1]["outputs"][0].update(name="stderr"), False, "stderr"),
        (lambda nb: nb["cells"][1]["metadata"].clear(), False, "alternative text"),
        (lambda nb: nb["cells"][0]["metadata"].clear(), False, "exactly one cell tagged"),
        (lambda nb: nb["cells"][1].update(source="print(q)"), True, "NBVAL_CHECK_OUTPUT"),
        (lambda nb: nb["cells"][1].update(source="# NBVAL_CHECK_OUTPUT\nprint(q + 1)"), False, "is stale"),
        (
            lambda nb: nb["cells"][0]["metadata"]["tags"].append("injected-parameters"),
            False,
            "other parameters",
        ),
        (lambda nb: nb["cells"][1]["outputs"][0].update(text="3\n"), False, "execution did not write"),
        (
            lambda nb: nb["cells"][1]["outputs"][1]["data"].update({"image/png": "aG8="}),
            False,
            "did not write",
        ),
        (
            lambda nb: nb["cells"][1].update(
                source="# NBVAL_CHECK_OUTPUT\nnotebooks.sweep(globals(), 'unconstrained')"
            ),
            True,
            None,
        ),
    ],
)
def test_the_gate_names_what_is_wrong(sound, change, refresh, complaint):
    if complaint is None:  # the parameters cell's q is no parameter of that study
        with pytest.raises(ParameterError, match="unknown parameter 'q'"):
            sound(change, refresh)
    else:
        assert any(complaint in problem for problem in sound(change, refresh))


def test_the_gate_refuses_runs_that_are_not_published(sound):
    def ask_for_a_new_run(nb):
        nb["cells"][0]["source"] = "seeds = '999'"
        nb["cells"][1]["source"] += "\nnotebooks.sweep(globals(), 'unconstrained', seeds='seed')"

    assert any("not published" in problem for problem in sound(ask_for_a_new_run, refresh=True))


def test_the_gate_refuses_runs_of_an_older_generation(sound, monkeypatch):
    def ask_for_a_recorded_run(nb):
        nb["cells"][0]["source"] = "seeds = '0'"
        nb["cells"][1]["source"] += "\nnotebooks.sweep(globals(), 'unconstrained', seeds='seed')"

    assert sound(ask_for_a_recorded_run, refresh=True) == []
    monkeypatch.setattr(runs, "generation", lambda study: 99)
    assert any("before numbers moved" in problem for problem in sound(ask_for_a_recorded_run, refresh=True))


def test_the_fingerprint_follows_records_and_claims(sound, monkeypatch, tmp_path):
    content = json.loads(ALL[0].read_text())
    before = freshness.fingerprint(content)
    assert freshness.fingerprint(content) == before
    monkeypatch.setattr(runs, "PUBLISHED", runs.SMOKE)
    assert freshness.fingerprint(content) != before


@pytest.mark.parametrize(
    ("file", "followed"),
    [
        ("nclib/plots/slider.js", True),
        ("nclib/plots/slider.css", True),
        ("nclib/plots/slider.html", True),
        ("nclib/plots/slider.pyc", False),
        ("data/PUBLISHED/mnist1d/0001.parquet", True),
        ("data/PUBLISHED/unconstrained/0123456789abcdef.npz", True),
        ("data/PUBLISHED/README.md", False),
    ],
)
def test_the_fingerprint_follows_every_part_of_what_is_drawn_and_what_draws(
    monkeypatch, tmp_path, file, followed
):
    shutil.copytree(runs.ROOT / "nclib", tmp_path / "nclib")
    for name in ("PUBLISHED", "SMOKE"):
        monkeypatch.setattr(runs, name, tmp_path / "data" / name)
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    content = json.loads(ALL[0].read_text())
    before = freshness.fingerprint(content)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("changed")
    assert (freshness.fingerprint(content) != before) == followed


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_every_published_notebook_passes_the_gate(path):
    assert freshness.gate(path) == []


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_glued_values_are_plain_numbers_and_words(path):
    # numpy's own are written np.float64(0.1), which no page can format
    values = finding.glued(json.loads(path.read_text())["cells"])
    assert [name for name, text in values.items() if text.startswith("np.")] == []


@pytest.mark.parametrize("profile", notebooks.PROFILES)
def test_profiles_have_a_section_for_every_notebook_and_no_other(profile):
    content = yaml.safe_load((asking.FOLDER / "params" / f"{profile}.yml").read_text())
    assert sorted(content) == NAMES


@pytest.mark.parametrize("profile", notebooks.PROFILES)
@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_profiles_hold_parameters_that_the_notebook_accepts(path, profile):
    chosen = notebooks.parameters(path, {}, profile)
    assert set(chosen) <= set(asking.declared(path))


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_every_notebook_executes_under_the_smoke_profile(path, tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    output = tmp_path / path.name
    if (
        path.stem == "scoreboard"
    ):  # its smoke profile is a filter: nothing to train, and nothing may be written
        board = (runs.ROOT / "data" / "scoreboard.csv").read_bytes()
    notebooks.execute(path, notebooks.parameters(path, {}, "smoke"), output)
    executed = json.loads(output.read_text())
    code = [c for c in executed["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"])
    if path.stem == "scoreboard":
        assert (runs.ROOT / "data" / "scoreboard.csv").read_bytes() == board


@pytest.fixture
def one_cell(tmp_path):
    """Write a notebook of one code cell."""

    def write(source, name="one cell.ipynb"):
        cell = {"cell_type": "code", "source": source, "metadata": {}, "id": "a", "outputs": []}
        content = {
            "cells": [cell | {"execution_count": None}],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return write


def test_a_failing_notebook_leaves_no_output_and_says_why_in_one_line(one_cell, tmp_path):
    path = one_cell("raise ValueError('the width is odd')", "{braces} in a name.ipynb")
    with pytest.raises(notebooks.ExecutionError, match=r"^the width is odd$"):
        notebooks.execute(path, {}, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("named", [None, "2"])
def test_a_notebook_is_executed_on_one_thread_unless_the_environment_says_otherwise(
    named, one_cell, tmp_path, monkeypatch
):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    path = one_cell("import os, torch\nprint(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])")
    before = dict(os.environ)
    notebooks.execute(path, {}, tmp_path / "out.ipynb")
    (cell,) = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert cell["outputs"][0]["text"] == [f"{named or 1} {named or 1}\n"]
    assert dict(os.environ) == before


def test_where_a_stream_was_cut_leaves_no_trace():
    def stream(name, *text):
        return {"output_type": "stream", "name": name, "text": list(text)}

    picture = {"output_type": "display_data", "data": {}, "metadata": {}}
    pieces = [
        stream("stdout", "a\n"),
        stream("stdout", "b\n", "c\n"),
        picture,
        stream("stdout", "d"),
        stream("stderr", "e"),
    ]
    whole = [stream("stdout", "a\n", "b\n", "c\n"), picture, stream("stdout", "d"), stream("stderr", "e")]
    assert execution._merged(pieces) == execution._merged(whole) == whole


def test_plain_papermill_stops_at_a_mistyped_name_and_names_it(tmp_path):
    notebook = asking.FOLDER / "10_terminal_phase.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), "-p", "epohcs", "2"],
        capture_output=True, text=True, cwd=runs.ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "unknown parameter 'epohcs': did you mean 'epochs'?" in done.stderr


def test_sweep_checks_every_variable_of_the_notebook():
    good = {"seeds": "0-2", "width": 16, "_": 3, "In": [], "math": sys}
    assert [p.seed for p in notebooks.sweep(good, "terminal_phase", seeds="seed")] == [0, 1, 2]
    with pytest.raises(ParameterError, match="unknown parameter 'widht': did you mean 'width'"):
        notebooks.sweep(good | {"widht": 3}, "terminal_phase", seeds="seed")
    with pytest.raises(ParameterError, match="width: expected int, got str"):
        notebooks.sweep(good | {"width": "16"}, "terminal_phase", seeds="seed")
    with pytest.raises(ParameterError, match="seeds: cannot read 'a'"):
        notebooks.sweep(good | {"seeds": "a"}, "terminal_phase", seeds="seed")
    with pytest.raises(ParameterError, match="width must be at least 1"):
        notebooks.sweep(good | {"width": -4}, "terminal_phase", seeds="seed")


def test_a_variable_may_belong_to_another_sweep_and_a_mistyped_one_to_none():
    given = {"seeds": "0,1", "widths": "2,4", "sizes": "1000,2000", "epochs": 2}
    of_widths = notebooks.sweep(given, "mnist1d", seeds="seed", widths="width", sizes="")
    of_sizes = notebooks.sweep(given, "mnist1d", seeds="seed", sizes="train_size", widths="")
    assert {(c.seed, c.width, c.train_size) for c in of_widths} == {
        (s, w, 4000) for s in (0, 1) for w in (2, 4)
    }
    assert {c.train_size for c in of_sizes} == {1000, 2000}
    assert {c.width for c in of_sizes} == {64}
    with pytest.raises(ParameterError, match="unknown parameter 'widths'"):
        notebooks.sweep(given, "mnist1d", seeds="seed", sizes="train_size")
    with pytest.raises(ParameterError, match="sizes: expected str"):
        notebooks.sweep(given | {"sizes": 1000}, "mnist1d", seeds="seed", widths="width", sizes="")


def test_a_parameter_given_twice_is_refused_and_not_one_of_the_two_ignored():
    given = {"seeds": "0,1", "noises": "0.0", "label_noise": 0.2, "epochs": 2}
    with pytest.raises(ParameterError, match="label_noise is a variable of its own"):
        notebooks.sweep(given, "mnist1d", seeds="seed", noises="label_noise")


def test_an_axis_may_bind_several_parameters():
    good = {"pairs": "32:32, 8:64", "seeds": "0-1"}
    cells = notebooks.sweep(good, "representations", pairs="width:width_b", seeds="seed")
    assert [(p.width, p.width_b, p.seed) for p in cells] == [(32, 32, 0), (32, 32, 1), (8, 64, 0), (8, 64, 1)]
    for bad in ("32", "32:32:3", "32:x", "32:-1"):
        with pytest.raises(ParameterError):
            notebooks.sweep(good | {"pairs": bad}, "representations", pairs="width:width_b", seeds="seed")


def test_check_refuses_unknown_names_and_wrong_types():
    notebooks.check({"K": 3, "noise": 0.1}, K=int, noise=float)
    with pytest.raises(ParameterError, match="unknown parameter 'nois'"):
        notebooks.check({"K": 3, "noise": 0.1, "nois": 1.0}, K=int, noise=float)
    with pytest.raises(ParameterError, match="K: expected int, got bool"):
        notebooks.check({"K": True, "noise": 0.1}, K=int, noise=float)


@pytest.mark.parametrize("path", [p for p in ALL if asking.sweeps(p)], ids=lambda p: p.stem)
def test_the_defaults_of_every_notebook_name_published_runs(path):
    for study, axes in asking.sweeps(path):
        cells = variables.resolve(asking.declared(path), study, axes)
        assert cells
        assert {studies.key(study, p) for p in cells} <= set(runs.published_index(study))


# What the notebooks ask for


@pytest.fixture
def two_notebooks(tmp_path, monkeypatch):
    """Two notebooks that sweep one study, of which the second binds two parameters in another's sweep."""

    def write(name, parameters, sweep):
        cells = [
            {"cell_type": "code", "source": parameters, "metadata": {"tags": ["parameters"]}},
            {"cell_type": "code", "source": f"cells = notebooks.sweep(globals(), {sweep})", "metadata": {}},
        ]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))

    write("a", "widths = '2,4'\nepochs = 5\nseeds = '0-1'", "'mnist1d', widths='width', seeds='seed'")
    write("b", "width = 4\nepochs = 5\nseeds = '1-2'\noptimizer = 'sgd'", "'mnist1d', seeds='seed'")
    write("c", "pairs = '2:2,4:8'\nseeds = '0'", "'representations', pairs='width:width_b', seeds='seed'")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "smoke.yml").write_text("a: {epochs: 1, seeds: '7'}\nb: {}\nc: {}\n")
    monkeypatch.setattr(asking, "FOLDER", tmp_path)


def asked(study="mnist1d", profile=None, names=("width", "seed", "epochs"), **replaced):
    return [tuple(getattr(p, n) for n in names) for p in notebooks.asked(study, profile, replaced)]


def test_what_the_notebooks_ask_for_is_the_union_of_their_sweeps(two_notebooks):
    assert asked() == [(2, 0, 5), (2, 1, 5), (4, 0, 5), (4, 1, 5), (4, 2, 5)]
    assert asked("representations", names=("width", "width_b")) == [(2, 2), (4, 8)]


def test_a_profile_changes_what_its_section_names_and_nothing_else(two_notebooks):
    assert asked(profile="smoke") == [(2, 7, 1), (4, 7, 1), (4, 1, 5), (4, 2, 5)]
    assert asked("representations", "smoke") == asked("representations")


def test_a_replaced_parameter_stands_in_every_notebook_whatever_its_variable_is_called(two_notebooks):
    assert asked(seed="9") == [(2, 9, 5), (4, 9, 5)]
    assert asked(width="8,16", seed="0") == [(8, 0, 5), (16, 0, 5)]
    assert asked(profile="smoke", epochs="3") == [(2, 7, 3), (4, 7, 3), (4, 1, 3), (4, 2, 3)]
    # one that no notebook speaks of
    assert len(asked(label_noise="0,0.1")) == 2 * len(asked())


def test_what_is_left_open_follows_what_is_replaced(two_notebooks):
    names = ("optimizer", "lr", "schedule", "seed", "noise_seed")
    assert set(asked(names=names, width="4", seed="3")) == {("sgd", 0.01, "cosine", 3, 3)}
    assert set(asked(names=names, width="4", seed="3", optimizer="adam")) == {
        ("adam", 1e-3, "constant", 3, 3)
    }


def test_parameters_that_a_notebook_gives_together_are_replaced_together(two_notebooks):
    with pytest.raises(ParameterError, match=r"^c gives width and width_b together, as pairs: replace both$"):
        asked("representations", width="4")
    names = ("width", "width_b", "seed")
    assert asked("representations", names=names, width="4", width_b="4,6") == [(4, 4, 0), (4, 6, 0)]
    assert asked("representations", names=names, seed="1") == [(2, 2, 1), (4, 8, 1)]


@pytest.mark.parametrize(
    ("study", "profile", "replaced", "complaint"),
    [
        ("mnist2d", None, {}, "unknown study 'mnist2d': did you mean 'mnist1d'"),
        ("mnist1d", None, {"widths": "2"}, "unknown parameter 'widths': did you mean 'width'"),
        ("mnist1d", "smok", {}, "profile must be one of smoke, quick, paper, got 'smok'"),
        ("mnist1d", None, {"seed": "0-"}, "seed: cannot read '0-'"),
        ("mnist1d", None, {"width": "0"}, "width must be at least 1, got 0"),
        ("mnist1d", None, {"epochs": "two"}, "epochs: cannot read 'two'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(two_notebooks, study, profile, replaced, complaint):
    with pytest.raises(ParameterError, match=complaint):
        notebooks.asked(study, profile, replaced)


def test_a_study_in_no_notebook_is_asked_for_by_none(two_notebooks):
    assert notebooks.asked("terminal_phase", None, {}) == []
    assert notebooks.asked("terminal_phase", "smoke", {"seed": "0-9"}) == []


@pytest.mark.parametrize("profile", [None, *notebooks.PROFILES])
@pytest.mark.parametrize("study", studies.STUDIES)
def test_asking_by_study_misses_nothing_that_a_notebook_asks_for(study, profile):
    every = [
        cell
        for path in ALL
        for cell in notebooks.cells(path, asking.profile_of(path, profile) if profile else {})
    ]
    assert set(notebooks.asked(study, profile, {})) == {params for name, params in every if name == study}
