"""Figures of the unconstrained-feature chapter show the numbers they are given, and say where they cannot."""

import numpy as np
import pandas as pd
import pytest

from nclib.plots import unconstrained as plots
from nclib.tables import METRICS


def _table(
    values: dict[str, list[float]], metric: str = "objective_gap", layer: str = "all", **params
) -> pd.DataFrame:
    """One run an optimiser, measured at epochs 0, 1, ...; the last is its last."""
    problem = {"num_classes": 4, "per_class": 9, "lambda_W": 0.02, "lambda_H": 0.005, **params}
    where = {"split": "train", "labels": "clean", "layer": layer, "metric": metric, "seed": 0}
    return pd.DataFrame(
        [
            {
                "run": f"run-{name}",
                "optimizer": name,
                "epoch": epoch,
                "epochs": len(series) - 1,
                "value": value,
            }
            | where
            | problem
            for name, series in values.items()
            for epoch, value in enumerate(series)
        ]
    )


def _drawn(ax, label: str) -> np.ndarray:
    return next(line for line in ax.lines if line.get_label().startswith(label)).get_ydata()


def _hollow(ax) -> np.ndarray:
    return np.concatenate([line.get_ydata() for line in ax.lines if line.get_linestyle() == "None"])


def test_every_run_is_drawn_as_recorded_with_the_closed_form_on_top(ax):
    table = _table({"sgd": [3.0, 1.0, 0.5], "lbfgs": [3.0, 0.4, 0.3]})
    plots.descents(table, "objective_gap", ax, closed_form=0.25)
    assert list(_drawn(ax, "SGD (n = 1)")) == [3.0, 1.0, 0.5]
    assert list(_drawn(ax, "L-BFGS (n = 1)")) == [3.0, 0.4, 0.3]
    assert set(_drawn(ax, "closed form")) == {0.25}


def test_what_a_log_axis_cannot_show_stands_hollow_on_the_floor_and_nothing_else_does(ax):
    table = _table({"lbfgs": [1.0, -1e-3, 0.0, -1e-17]})
    plots.descents(table, "objective_gap", ax, floor=1e-16)
    assert list(_drawn(ax, "L-BFGS")) == [1.0, 1e-3, 1e-16, 1e-16]
    assert list(_hollow(ax)) == [1e-16, 1e-16]


def test_a_log_axis_without_a_floor_refuses_what_it_cannot_show(ax):
    with pytest.raises(ValueError, match="give a floor"):
        plots.descents(_table({"adam": [1.0, 0.0]}), "objective_gap", ax)
    plots.descents(_table({"adam": [1.0, 0.0]}), "objective_gap", ax, log=False)  # a linear one can


def test_a_closed_form_of_zero_is_drawn_on_a_linear_axis_only(ax):
    table = _table({"adam": [1.0, 0.1]})
    plots.descents(table, "objective_gap", ax, closed_form=0.0)
    assert "closed form" not in [line.get_label() for line in ax.lines]
    plots.descents(table, "objective_gap", ax, closed_form=0.0, log=False)
    assert set(_drawn(ax, "closed form")) == {0.0}


def test_an_axis_is_labelled_by_the_metric_unless_told_otherwise(ax):
    table = _table({"adam": [1.0, 0.1]})
    assert plots.descents(table, "objective_gap", ax).get_ylabel() == METRICS["objective_gap"]
    assert plots.descents(table, "objective_gap", ax, label="").get_ylabel() == ""


def test_a_metric_or_layer_that_was_not_recorded_is_an_error_not_an_empty_figure(ax):
    table = _table({"adam": [1.0]})
    with pytest.raises(KeyError, match="certificate"):
        plots.descents(table, "certificate", ax)
    with pytest.raises(KeyError, match="features"):
        plots.descents(table, "objective_gap", ax, layer="features")


def test_ends_are_at_the_planned_last_epoch_and_a_run_that_stopped_early_is_an_error():
    table = _table({"adam": [1.0, 0.5], "sgd": [1.0, 0.7]}, metric="objective")
    assert sorted(plots.ends(table, "objective").value) == [0.5, 0.7]
    stopped = table[~((table.optimizer == "sgd") & (table.epoch == 1))]
    with pytest.raises(KeyError, match="1 runs"):
        plots.ends(stopped, "objective")


def test_the_scaled_norm_depends_on_strength_and_classes_alone(ax):
    """Two problems of one strength, whose minimisers have different norms, fall on one point."""
    K, margin, t = 4, 1.5, 0.03
    for n, ratio in ((9, 4.0), (25, 0.25)):
        decay = t / n**0.5
        lambdas = {"lambda_W": decay * ratio**0.5, "lambda_H": decay / ratio**0.5}
        norm = (K - 1) * t * margin / lambdas["lambda_W"]  # global_minimum's formula
        table = _table({"adam": [norm]}, metric="weight_norm_squared", per_class=n, **lambdas)
        curve = pd.DataFrame({"num_classes": [K], "strength": [K * t], "margin": [margin]})
        plots.threshold(table, curve, ax, quantity="margin")
        (point,) = [line for line in ax.lines if line.get_label().startswith("Adam")][-1:]
        assert point.get_xdata() == pytest.approx([K * t])
        assert point.get_ydata() == pytest.approx([margin])


def test_the_parabola_of_the_escape_has_the_given_excess(ax):
    t = np.linspace(0, 2, 5)
    curve = pd.DataFrame({"escape": -0.1 * t**2 + 0.02 * t**4, "control": 0.05 * t**2}, index=t)
    plots.escape(curve, ax, excess=0.1)
    assert _drawn(ax, "$-(") == pytest.approx(-0.1 * t**2)
    assert _drawn(ax, "escape") == pytest.approx(curve["escape"])
    assert _drawn(ax, "random") == pytest.approx(curve["control"])


def test_the_decrease_is_what_the_log_axes_show(ax):
    t = np.array([1e-3, 1e-2, 1e-1])
    curve = pd.DataFrame({"escape": -0.1 * t**2, "control": 0.05 * t**2}, index=t)
    plots.escape(curve, ax, excess=0.1, log=True)
    assert _drawn(ax, "escape") == pytest.approx(0.1 * t**2)
    assert _drawn(ax, "$-(") == pytest.approx(0.1 * t**2)


def test_the_lower_bound_draws_every_line_and_the_runs_on_it(ax):
    curve = pd.DataFrame({"bound": [2.0, 1.0], "c₁ = 1": [1.5, 1.0]}, index=[0.0, 4.0])
    runs = pd.DataFrame({"optimizer": ["sgd", "sgd"], "x": [4.0, 4.1], "y": [1.0, 1.01]})
    plots.lower_bound(curve, ax, ends=runs)
    assert list(_drawn(ax, "best bound")) == [2.0, 1.0]
    assert list(_drawn(ax, "c₁ = 1")) == [1.5, 1.0]
    assert list(_drawn(ax, "SGD, end (n = 2)")) == [1.0, 1.01]


def test_only_the_kth_singular_value_is_singled_out_down_to_an_exact_zero(ax):
    epochs = np.array([0, 1, 5])
    values = np.array([[3.0, 2.0, 1.0], [2.5, 2.0, 0.1], [2.0, 2.0, 0.0]])
    plots.singular_values(epochs, values, ax, num_classes=3, limit=2.0, colour="blue")
    assert list(_drawn(ax, "K-th")) == [1.0, 0.1, 0.0]
    assert list(_drawn(ax, "the first")) == [3.0, 2.5, 2.0]
    assert set(_drawn(ax, "closed form")) == {2.0}


def test_without_a_kth_singular_value_none_is_singled_out(ax):
    """In d = K - 1 dimensions there are only K - 1."""
    values = np.array([[3.0, 2.0], [2.0, 2.0]])
    plots.singular_values(np.array([0, 1]), values, ax, num_classes=3, limit=2.0, colour="blue")
    labels = [line.get_label() for line in ax.lines]
    assert "K-th" not in labels
    assert "the first K − 1" in labels
