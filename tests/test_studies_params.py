"""Parameters: strict types, clear refusals, and sweeps written flat."""

import dataclasses
from dataclasses import dataclass

import pytest

from nclib import studies
from nclib.studies import grids
from nclib.studies.params import (
    ParameterError,
    StudyParams,
    axes,
    axis,
    check_names,
    coerce,
    expand,
    param,
    product,
)


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    width: int = param(16, min=1)
    lr: float = param(0.1, above=0)
    momentum: float = param(0.9, min=0, max=1)
    schedule: str = param("step", choices=("step", "cosine", "constant"))
    free: float = param(1.0)
    flag: bool = param(False)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"width": 16.0}, "width: expected int, got float 16.0"),
        ({"width": "16"}, "width: expected int, got str '16'"),
        ({"width": True}, "width: expected int, got bool True"),
        ({"width": None}, "width: expected int, got NoneType None"),
        ({"seed": False}, "seed: expected int, got bool False"),
        ({"lr": True}, "lr: expected float, got bool True"),
        ({"lr": "fast"}, "lr: expected float, got str 'fast'"),
        ({"lr": [0.1]}, r"lr: expected float, got list \[0.1\]"),
        ({"flag": 1}, "flag: expected bool, got int 1"),
        ({"flag": "true"}, "flag: expected bool, got str 'true'"),
        ({"schedule": 3}, "schedule: expected str, got int 3"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": -4}, "width must be at least 1, got -4"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"lr": 0}, "lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0, got nan"),
        ({"lr": "nan"}, "lr must be above 0, got nan"),
        ({"lr": float("inf")}, "lr must be a finite number, got inf"),
        ({"lr": "1e999"}, "lr must be a finite number, got inf"),
        ({"free": float("nan")}, "free must be a finite number, got nan"),
        ({"momentum": 1.5}, "momentum must be at most 1, got 1.5"),
        ({"momentum": float("nan")}, "momentum must be at least 0, got nan"),
        ({"schedule": "cosin"}, "schedule must be one of step, cosine, constant, got 'cosin': did you mean 'cosine'"),
        ({"schedule": "zzz"}, "schedule must be one of step, cosine, constant, got 'zzz'$"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_in_one_line_that_names_it(given, complaint):
    with pytest.raises(ParameterError, match=f"^{complaint}") as caught:
        Params(**given)
    assert "\n" not in str(caught.value)


def test_values_at_the_ends_of_their_ranges_are_taken():
    params = Params(width=1, momentum=1, seed=0, lr=1e-300)
    assert (params.width, params.momentum) == (1, 1.0)
    assert Params(momentum=0).momentum == 0.0


@pytest.mark.parametrize("written", [1e-3, "1e-3", "0.001", 0.001])
def test_yamls_string_for_a_small_number_is_that_number(written):
    assert Params(lr=written) == Params(lr=0.001)
    assert type(Params(lr=written).lr) is float


def test_a_whole_number_stands_for_a_float_so_that_both_name_one_run():
    assert Params(lr=1) == Params(lr=1.0)
    assert type(Params(lr=1).lr) is float
    assert studies.runs.key("s", Params(lr=1), {}) == studies.runs.key("s", Params(lr="1"), {})


def test_coerce_never_rounds():
    for bad in ("2.0", 2.0, "2"):
        with pytest.raises(ParameterError, match="epochs: expected int"):
            coerce("epochs", int, bad)
    assert coerce("epochs", int, 2) == 2


def test_parameters_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Params().width = 3
    with pytest.raises(TypeError):
        Params(3)


def test_an_unknown_name_is_refused_with_the_nearest_or_all_known():
    with pytest.raises(ParameterError, match=r"unknown parameter 'widht': did you mean 'width'\?"):
        product(Params, widht=[1, 2])
    with pytest.raises(ParameterError, match="unknown parameter 'qqq'; known: seed, width, lr"):
        check_names(["qqq"], Params.names())
    check_names(["seed", "width"], Params.names())
    with pytest.raises(ParameterError, match=r"unknown study 'mnist2d': did you mean 'mnist1d'\?"):
        studies.get("mnist2d")


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("0", int, [0]),
        ("2,4,8", int, [2, 4, 8]),
        (" 2 , 4 ", int, [2, 4]),
        ("0-4", int, [0, 1, 2, 3, 4]),
        ("0-2,7,9-9", int, [0, 1, 2, 7, 9]),
        ("-1", int, [-1]),
        ("0.1,1e-3", float, [0.1, 0.001]),
        ("sgd,adam", str, ["sgd", "adam"]),
        (3, int, [3]),
    ],
)
def test_an_axis_is_read(text, kind, values):
    read = axis(text, kind)
    assert read == values
    assert all(type(value) is kind for value in read)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", int), ("2,", int), ("4-0", int), ("0-", int), ("a", int), ("1.5", int), ("2,2", int), ("0-3,2", int),
        ("x", float), ("sgd,", str), ("sgd,sgd", str), (True, int),
    ],
)  # fmt: skip
def test_an_axis_that_is_none_is_refused(text, kind):
    with pytest.raises(ParameterError, match=r"cannot read|distinct values"):
        axis(text, kind)


def test_axes_are_read_by_parameter_and_refused_by_name():
    assert axes({"width": "2,4", "lr": "1e-3", "schedule": "step"}, Params) == {
        "width": [2, 4], "lr": [0.001], "schedule": ["step"],
    }  # fmt: skip
    assert axes({}, Params) == {}
    with pytest.raises(ParameterError, match=r"^unknown parameter 'widht': did you mean 'width'\?"):
        axes({"widht": "2"}, Params)
    with pytest.raises(ParameterError, match=r"^width: cannot read '2\.5'"):
        axes({"lr": "1", "width": "2.5"}, Params)
    with pytest.raises(ParameterError, match=r"^lr: an axis needs distinct values"):
        axes({"lr": "1,1.0"}, Params)


def test_a_product_is_all_combinations_in_order():
    cells = product(Params, width=[2, 4], seed=[0, 1], lr=0.5)
    assert [(c.width, c.seed, c.lr) for c in cells] == [(2, 0, 0.5), (2, 1, 0.5), (4, 0, 0.5), (4, 1, 0.5)]
    assert product(Params) == [Params()]
    with pytest.raises(ParameterError, match="width must be at least 1"):
        product(Params, width=[2, 0])


def test_a_grid_names_a_run_once():
    cells = expand(Params, [{"seed": [0, 1]}, {"seed": [1, 2], "width": 16}])
    assert [c.seed for c in cells] == [0, 1, 2]


# The studies' own


@pytest.mark.parametrize("study", studies.STUDIES)
def test_every_parameter_has_a_plain_type_and_a_default_in_its_range(study):
    cls = studies.get(study).Params
    defaults = cls()
    for field in dataclasses.fields(cls):
        assert field.type in (int, float, str, bool)
        assert type(getattr(defaults, field.name)) is field.type
        assert field.name == "seed" or field.metadata, f"{field.name} has no allowed range"
    assert cls(**dataclasses.asdict(defaults)) == defaults, "resolving twice changes the parameters"


def test_the_studys_own_settings_are_resolved_before_they_name_the_run():
    Mnist = studies.get("mnist1d").Params
    sgd = Mnist(optimizer="sgd", seed=3)
    assert (sgd.lr, sgd.schedule, sgd.weight_decay, sgd.noise_seed) == (0.01, "cosine", 5e-4, 3)
    adam = Mnist(optimizer="adam")
    assert (adam.lr, adam.schedule, adam.weight_decay) == (1e-3, "constant", 1e-4)
    spelt_out = Mnist(optimizer="adam", lr=1e-3, schedule="constant", weight_decay=1e-4, noise_seed=0)
    assert studies.key("mnist1d", adam) == studies.key("mnist1d", spelt_out)
    assert Mnist(weight_decay=0).weight_decay == 0.0
    assert Mnist(seed=3, noise_seed=0).noise_seed == 0
    with pytest.raises(ParameterError, match=r"weight_decay must be at least 0 .*got -0.5"):
        Mnist(weight_decay=-0.5)
    with pytest.raises(ParameterError, match="feature_dim is the projector of resnet1d"):
        Mnist(architecture="cnn1d", feature_dim=3)


def test_the_unconstrained_models_own_settings_are_resolved():
    Free = studies.get("unconstrained").Params
    resolved = {name: Free(optimizer=name) for name in ("sgd", "adam", "lbfgs")}
    assert {n: (p.lr, p.batch_size, p.epochs) for n, p in resolved.items()} == {
        "sgd": (0.5, 50, 4000), "adam": (0.01, 0, 6000), "lbfgs": (1.0, 0, 100),
    }  # fmt: skip
    assert Free(optimizer="sgd", batch_size=0).batch_size == 0
    with pytest.raises(ParameterError, match="lbfgs needs all samples at once"):
        Free(optimizer="lbfgs", batch_size=10)


def test_a_pairs_second_network_has_a_seed_no_first_network_may_have():
    Pair = studies.get("representations").Params
    assert Pair(seed=4).noise_seed == 4
    with pytest.raises(ParameterError, match="seed must be below 1000000"):
        Pair(seed=1_000_000)


# Grid files


def test_published_grids_are_readable_and_name_distinct_runs():
    loaded = grids.published()
    assert {study for study, _ in loaded.values()} == set(studies.STUDIES)
    for study, cells in loaded.values():
        keys = {studies.key(study, cell) for cell in cells}
        assert len(keys) == len(cells)
        assert len({cell.seed for cell in cells}) >= 3
    assert len(loaded["model_wise"][1]) == 2 * 2 * 11 * 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("study: [", "cannot be read as YAML"),
        ("- 1", "a grid file has"),
        ("study: mnist1d", "a grid file has"),
        ("study: mnist1d\ngrid: {width: 2}", "a grid file has"),
        ("study: mnist2d\ngrid: []", "did you mean 'mnist1d'"),
        ("study: mnist1d\ngrid:\n  - widht: 2", "did you mean 'width'"),
        ("study: mnist1d\ngrid:\n  - width: [2, wide]", "width: expected int, got str 'wide'"),
        ("study: [mnist1d]\ngrid: []", "a grid file has"),
        ("study: 3\ngrid: []", "a grid file has"),
        ("study: mnist1d\ngrid: [3]", "a grid file has"),
        ("study: mnist1d\ngrid: [null]", "a grid file has"),
        ("study: mnist1d\ngrid: [{3: 4}]", "a grid file has"),
        ("study: mnist1d\ngrid: []", "names no run"),
        ("study: mnist1d\ngrid: [{seed: []}]", "names no run"),
        ("study: mnist1d\ngrid: [{seed: [[1]]}]", "seed: expected int, got list"),
        ("study: mnist1d\ngrid: [{seed: 0-2}]", "seed: expected int, got str '0-2'"),
        ("study: mnist1d\n\x07", "cannot be read as YAML"),
    ],
)
def test_a_grid_file_that_is_none_is_refused_by_name(tmp_path, text, complaint):
    path = tmp_path / "grid.yml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=complaint) as caught:
        grids.load(path)
    assert str(path) in str(caught.value)
    path.write_bytes(b"\xff\xfe")
    for missing in (path, tmp_path / "nowhere.yml", tmp_path):
        with pytest.raises(ParameterError, match=f"{missing}:? cannot be read"):
            grids.load(missing)


def test_a_replaced_parameter_stands_in_every_block_before_what_follows_from_it(tmp_path):
    path = tmp_path / "grid.yml"
    path.write_text(
        "study: mnist1d\ngrid:\n  - {optimizer: sgd, width: [2, 4]}\n  - {width: 8, seed: 1, noise_seed: 5}\n"
    )

    def found(**replaced):
        cells = grids.load(path, replaced)[1]
        return [(c.width, c.optimizer, c.lr, c.seed, c.noise_seed) for c in cells]

    plain = [(2, "sgd", 0.01, 0, 0), (4, "sgd", 0.01, 0, 0), (8, "sgd", 0.01, 1, 5)]
    assert found() == plain
    assert found(optimizer="adam") == [(w, "adam", 1e-3, s, n) for w, _, _, s, n in plain]
    assert found(seed="3-4", width="2") == [
        (2, "sgd", 0.01, 3, 3), (2, "sgd", 0.01, 4, 4), (2, "sgd", 0.01, 3, 5), (2, "sgd", 0.01, 4, 5),
    ]  # fmt: skip
    with pytest.raises(ParameterError, match=r"grid\.yml: unknown parameter 'widht': did you mean 'width'"):
        found(widht="2")
    with pytest.raises(ParameterError, match=r"grid\.yml: width: cannot read 'two'"):
        found(width="two")


def test_an_axis_of_truth_values_is_not_read_by_python():
    assert axis("true,false", bool) == [True, False]
    assert axis("False", bool) == [False], "bool('False') is True"
    with pytest.raises(ParameterError, match='write values as "true,false"'):
        axis("no", bool)
