"""Many starts and random instances as studies: rows over all restarts are those of their arrays, and seeds decide."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nclib import studies, tables
from nclib.studies import landscape, statements
from nclib.studies.params import ParameterError
from nclib.theory.checks import violations

SMALL = landscape.Params(
    num_classes=3, per_class=2, feature_dim=5, lambda_W=0.02, lambda_H=0.01, restarts=12, init_scale=1.0
)
LENGTH = {"lbfgs": 500, "gd": 800, "sgd": 200, "adam": 1500, "gradient_norm": 5000}


def rows_of(module, params, folder):
    rows, arrays = module.run(params, folder=folder, device=torch.device("cpu"))
    return tables.from_rows(rows, run="here", seed=params.seed), arrays


def of(method):
    step = {"gd": 1.0, "sgd": 0.5, "adam": 0.2}.get(method, 0.0)
    return replace(SMALL, method=method, epochs=LENGTH[method], lr=step, batch_size=0)


@pytest.mark.parametrize("method", ["lbfgs", "gd", "adam"])
def test_descent_from_every_start_reaches_the_closed_form(method, tmp_path):
    table, arrays = rows_of(landscape, of(method), tmp_path)
    value = table.set_index("metric").value
    assert set(table.epoch) == {LENGTH[method]}
    assert value.objective_gap_median <= value.objective_gap_max < 1e-6
    assert value.reached_share == 1.0
    assert value.other_minima == value.saddles == 0
    assert "saddle_eigenvalue_max" not in value, "a missing value is missing"
    assert value.global_minima == 12
    assert value.gradient_norm_max < 1e-6
    assert value.certificate_error_max < 1e-4
    assert (arrays["rank"] == 2).all()
    # Control: five epochs reach nothing.
    short, _ = rows_of(landscape, replace(of(method), epochs=5), tmp_path)
    value = short.set_index("metric").value
    assert value.reached_share == 0.0 and value.not_critical == 12 and value.objective_gap_max > 1e-3


def test_what_sampling_leaves_of_the_gap_falls_with_the_length_of_the_schedule(tmp_path):
    params = replace(of("sgd"), lr=0.2, restarts=4)
    (short, _), (long, _) = (rows_of(landscape, replace(params, epochs=e), tmp_path) for e in (200, 2000))
    short, long = (table.set_index("metric").value for table in (short, long))
    assert long.objective_gap_max < 0.1 * short.objective_gap_max
    assert long.not_critical == 4, "a critical point is not where it ends"
    assert long.gradient_norm_max < 1e-2


def test_a_search_for_critical_points_finds_saddles_and_rows_are_those_of_the_arrays(tmp_path):
    table, arrays = rows_of(landscape, replace(of("gradient_norm"), restarts=40), tmp_path)
    value = table.set_index("metric").value
    kinds = dict(zip(landscape.KINDS.values(), np.bincount(arrays["kind"], minlength=4), strict=True))
    assert {name: value[name] for name in kinds} == kinds
    assert kinds["saddles"] > 0 and kinds["global_minima"] > 0 and kinds["other_minima"] == 0
    gaps = np.abs(arrays["excess"])
    assert value.objective_gap_max == gaps.max()
    assert value.objective_gap_median == pytest.approx(np.median(gaps), rel=1e-12)
    assert value.reached_share == (gaps < 1e-6).mean()
    saddle, minimum = arrays["kind"] == 1, arrays["kind"] == 0
    assert value.saddle_eigenvalue_max == arrays["eigenvalue"][saddle].max() < 0
    assert (arrays["eigenvalue"][minimum] > 0).all()
    assert (arrays["excess"][saddle] > 1e-3).all() and (gaps[minimum] < 1e-6).all()


@pytest.mark.parametrize("method", ["gd", "sgd", "gradient_norm"])
def test_a_seed_names_its_starts_whatever_came_before(method, tmp_path):
    params = replace(of(method), epochs=4)
    (first, arrays), (_, other) = (rows_of(landscape, replace(params, seed=s), tmp_path) for s in (0, 1))
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again, same = rows_of(landscape, params, tmp_path)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert all(np.array_equal(arrays[name], same[name]) for name in arrays)
    assert (arrays["excess"] != other["excess"]).all()


def test_more_restarts_begin_with_the_same_ones(tmp_path):
    (_, few), (_, many) = (
        rows_of(landscape, replace(of("gd"), epochs=9, restarts=n), tmp_path) for n in (3, 7)
    )
    np.testing.assert_allclose(few["excess"], many["excess"][:3], rtol=1e-12)
    assert len({*many["excess"]}) == 7


def test_every_method_has_settings_of_its_own():
    for method, own in landscape.OWN.items():
        params = landscape.Params(method=method)
        assert {name: getattr(params, name) for name in own} == own
        assert replace(params, seed=3).epochs == own["epochs"]
    assert landscape.Params(method="adam", lr=0.3).lr == 0.3
    assert landscape.Params(method="sgd", per_class=5).batch_size == 25
    with pytest.raises(ParameterError, match="did you mean 'sgd'"):
        landscape.Params(method="sgdm")
    with pytest.raises(ParameterError, match="batch_size must be at most 50"):
        landscape.Params(method="sgd", per_class=5, batch_size=51)
    assert landscape.cost(landscape.Params(method="sgd")) > landscape.cost(landscape.Params()) > 0


def test_statements_are_recorded_by_name_as_the_checks_give_them(tmp_path):
    params = statements.Params(paper="ji2021", instances=15, seed=2)
    table, arrays = rows_of(statements, params, tmp_path)
    expected = violations("ji2021", studies.generator("instances", 2), instances=15)
    assert table.set_index("layer").value.to_dict() == expected
    assert set(table.metric) == {"violation_max"} and arrays == {}
    assert table.value.max() < 1e-8
    other, _ = rows_of(statements, replace(params, seed=3), tmp_path)
    assert (other.value != table.value).any()
    assert statements.cost(replace(params, paper="zhu2021_descent")) > statements.cost(params) > 0
