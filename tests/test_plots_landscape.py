"""Figures of the landscape chapter show every start and every point, and mark what is claimed not to be there."""

import numpy as np
import pandas as pd
import pytest

from nclib.plots import landscape as plots


def labels(ax):
    return [text.get_text() for text in ax.legend().get_texts()]


def counted(ax):
    """Heights of the outline of every histogram, summed over its bins."""
    outlines = [p for p in ax.patches if p.get_label() and not p.get_label().startswith("_")]
    heights = {}
    for patch in outlines:
        x, y = patch.get_xy().T
        heights[patch.get_label()] = sum(y[i] for i in range(1, len(y) - 1) if x[i] != x[i + 1] and y[i] > 0)
    return heights


def test_every_start_is_counted_those_below_rounding_and_those_astray_too(ax):
    excess = {"gd": np.array([1e-9, -1e-9, 0.0, 3.0]), "lbfgs": np.array([0.0, -1e-18])}
    plots.gaps(excess, ax, tolerance=1e-6)
    assert counted(ax) == {"GD (n = 4)": 4, "L-BFGS (n = 2)": 2}
    assert set(labels(ax)) == {"GD (n = 4)", "L-BFGS (n = 2)", "bound 1e-6"}
    (line,) = ax.lines
    assert set(line.get_xdata()) == {1e-6}
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "|f − f*| / f* (3 below 2⁻⁵² ≈ 2.2e-16 counted there)"
    ax.clear()
    plots.gaps({"gd": np.array([1e-9])}, ax, tolerance=1e-6)
    assert ax.get_xlabel() == "|f − f*| / f*", "none is moved"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gap_that_is_no_number_is_an_error_and_not_left_out(ax, bad):
    with pytest.raises(ValueError, match="not a finite number"):
        plots.gaps({"gd": np.array([1e-9, bad])}, ax, tolerance=1e-6)
    with pytest.raises(KeyError, match="newton"):
        plots.gaps({"newton": np.array([1e-9])}, ax, tolerance=1e-6)


@pytest.mark.parametrize("against", ["eigenvalue", "rank"])
def test_points_stand_where_they_are_by_kind_and_absent_kinds_are_named(ax, against):
    points = pd.DataFrame(
        {
            "excess": [0.0, 1.5, 8.0], "kind": ["global minimum", "saddle", "saddle"],
            "eigenvalue": [2e-3, -0.1, -0.3], "rank": [3, 2, 0],
        }
    )  # fmt: skip
    plots.critical_points(points, ax, against=against)
    assert labels(ax) == [
        "global minimum (n = 1)", "saddle (n = 2)", "other local minimum (n = 0)", "not critical (n = 0)",
    ]  # fmt: skip
    minimum, saddles, other, _ = ax.collections
    np.testing.assert_allclose(minimum.get_offsets(), [[points[against][0], 1.0]])
    np.testing.assert_allclose(saddles.get_offsets(), [[points[against][1], 2.5], [points[against][2], 9.0]])
    assert len(other.get_offsets()) == 0
    assert ax.get_xscale() == ("symlog" if against == "eigenvalue" else "linear")


def test_the_boundary_is_the_predicted_one_and_zero_margins_are_hollow(ax):
    phases = pd.DataFrame(
        {
            "lambda_W": [1e-4, 1e-3, 1e-1],
            "lambda_H": [1e-2, 1e-4, 1.0],
            "per_class": 9,
            "margin": [2.0, 1.0, 1e-6],
        }
    )
    marks = plots.phase_diagram(phases, ax, num_classes=4, top=3.0)
    np.testing.assert_allclose(marks.get_offsets(), [[1e-4, 1e-2], [1e-3, 1e-4]])
    np.testing.assert_allclose(marks.get_array(), [2.0, 1.0])
    assert marks.get_clim() == (0.0, 3.0)
    (hollow,) = [c for c in ax.collections if c is not marks]
    np.testing.assert_allclose(hollow.get_offsets(), [[1e-1, 1.0]])
    (line,) = ax.lines
    x, y = line.get_data()
    np.testing.assert_allclose(9 * x * y, 1 / 16)
    with pytest.raises(ValueError, match="too many values"):
        plots.phase_diagram(phases.assign(per_class=[1, 9, 9]), ax, num_classes=4, top=3.0)
