"""Figures of the proofs draw the curves and the points they are given."""

import pandas as pd

from nclib.plots import proofs as plots


def _lines(ax) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}


def test_the_bound_its_tangents_and_the_samples_are_drawn_as_given(ax):
    curve = pd.DataFrame({"bound": [2.0, 0.5], "c₁ = 1": [1.5, -1.0]}, index=[-1.0, 3.0])
    samples = pd.DataFrame({"margin": [0.0, 1.0], "loss": [1.7, 1.2]})
    drawn = _lines(plots.tangents(curve, samples, ax))
    assert drawn["bound φ"] == ([-1.0, 3.0], [2.0, 0.5])
    assert drawn["c₁ = 1"] == ([-1.0, 3.0], [1.5, -1.0])
    assert drawn["samples (n = 2)"] == ([0.0, 1.0], [1.7, 1.2])
    beyond = pd.concat([samples, pd.DataFrame({"margin": [5.0, 0.0], "loss": [1.0, 9.0]})])
    ax.clear()
    assert "samples (n = 2 of 4)" in _lines(plots.tangents(curve, beyond, ax))
    assert ax.get_ylim()[0] == 0  # a tangent may leave below: a cross-entropy cannot


def test_every_curve_has_its_own_lowest_points_in_its_own_colour(ax):
    curves = pd.DataFrame({"one": [1.0, 0.0], "two": [0.0, 1.0]}, index=[0.0, 2.0])
    lowest = pd.DataFrame({"name": ["two", "one", "one"], "x": [0.0, 2.0, 1.0], "y": [0.0, 0.0, 0.5]})
    plots.family(curves, lowest, ax, x="x", y="ψ(x)")
    one, *its_points, two, other = ax.lines
    assert list(one.get_ydata()) == [1.0, 0.0] and list(two.get_ydata()) == [0.0, 1.0]
    assert [point.get_xdata()[0] for point in its_points] == [2.0, 1.0]
    assert list(other.get_xdata()) == [0.0]
    assert {point.get_color() for point in its_points} == {one.get_color()}
    assert one.get_color() != two.get_color() == other.get_color()
    assert len({point.get_markersize() for point in (*its_points, other)}) == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "ψ(x)")


def test_lowest_points_in_one_place_are_nested_the_first_outermost(ax):
    curves = pd.DataFrame({"one": [1.0, 0.0], "two": [1.0, 1.0], "three": [1.0, 2.0]}, index=[0.0, 2.0])
    lowest = pd.DataFrame(
        {"name": ["three", "one", "two"], "x": [0.0, 0.0, 2.0], "y": [1.0, 1.0 + 1e-9, 1.0]}
    )
    plots.family(curves, lowest, ax, x="x", y="y")
    size = {line.get_color(): line.get_markersize() for line in ax.lines if line.get_marker() == "o"}
    one, two, three = (size[ax.lines[i].get_color()] for i in (0, 2, 4))
    assert one > three == two
    drawn = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_markersize() for line in drawn] == [one, two, three], "the smaller on top"


def test_curves_over_time_are_drawn_as_given_with_the_level_of_theory(ax):
    curves = pd.DataFrame({"step 1": [0.1, 0.4], "step 2": [0.2, 0.3]}, index=[1.0, 100.0])
    drawn = _lines(plots.over_time(curves, ax, y="margin", level=0.5))
    assert drawn["step 1"] == ([1.0, 100.0], [0.1, 0.4]) and drawn["step 2"][1] == [0.2, 0.3]
    assert drawn["bound"][1] == [0.5, 0.5]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "linear", "margin")


def test_without_a_level_there_is_no_line_of_theory_and_a_log_axis_is_asked_for(ax):
    curves = pd.DataFrame({"step 1": [0.1, 0.4]}, index=[1.0, 100.0])
    assert "bound" not in _lines(plots.over_time(curves, ax, y="change", log=True))
    assert ax.get_yscale() == "log"
