"""What all figures share: intervals that hold no impossible value, and axes with a few plain numbers."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nclib.plots import style

APART = pd.Series([0.01, 0.02, 0.2])
"""Shares whose plain t-interval reaches below zero."""


def student(values):
    return stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))


def test_the_plain_interval_is_students_and_that_of_positive_values_of_their_logarithms():
    values = pd.Series([1.0, 2.0, 6.0])
    assert style.mean_and_interval(values) == pytest.approx((3.0, *student(values)))
    logs = values.map(math.log)
    expected = np.exp([logs.mean(), *student(logs)])
    assert style.mean_and_interval(values, log=True) == pytest.approx(tuple(expected))


def test_the_interval_of_a_share_is_that_of_the_means_logit():
    """By hand: m = 1/2 has the logit 0 and the slope 4, so that its ends are the logistic of -4 h and 4 h."""
    values = pd.Series([0.4, 0.5, 0.6])
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    logistic = [1 / (1 + math.exp(-z)) for z in (-4 * half, 4 * half)]
    assert style.mean_and_interval(values, share=True) == pytest.approx((0.5, *logistic))


@pytest.mark.parametrize("values", [APART, 1 - APART], ids=["near 0", "near 1"])
def test_the_interval_of_a_share_stays_within_0_and_1_where_the_plain_one_does_not(values):
    centre, low, high = style.mean_and_interval(values, share=True)
    assert centre == pytest.approx(values.mean())
    assert 0 < low < centre < high < 1
    low, high = student(values)
    assert low < 0 or high > 1


def test_of_seeds_that_agree_the_interval_of_a_share_is_the_plain_one():
    values = 0.3 + 1e-4 * pd.Series([-1.0, 0.5, 0.7])
    plain, share = style.mean_and_interval(values), style.mean_and_interval(values, share=True)
    assert np.diff(share) == pytest.approx(np.diff(plain), rel=1e-3)
    apart = np.diff(style.mean_and_interval(APART, share=True))
    assert apart != pytest.approx(np.diff(style.mean_and_interval(APART)), rel=0.1)


def test_the_interval_of_a_share_is_mirrored_with_it():
    centre, low, high = style.mean_and_interval(APART, share=True)
    assert style.mean_and_interval(1 - APART, share=True) == pytest.approx((1 - centre, 1 - high, 1 - low))


@pytest.mark.parametrize("all_are", [0.0, 1.0])
def test_shares_that_are_all_0_or_all_1_have_an_interval_without_width(all_are):
    assert style.mean_and_interval(pd.Series([all_are] * 3), share=True) == (all_are,) * 3


@pytest.mark.parametrize("options", [{}, {"log": True}, {"share": True}])
def test_two_seeds_have_a_mean_and_no_interval(options):
    centre, low, high = style.mean_and_interval(pd.Series([0.2, 0.4]), **options)
    assert 0.2 < centre < 0.4
    assert math.isnan(low) and math.isnan(high)


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match=r"^a share lies in \[0, 1\], got 0.1 to 1.2$"):
        style.mean_and_interval(pd.Series([0.1, 0.2, 1.2]), share=True)


def test_a_band_is_drawn_between_the_ends_of_the_intervals(ax):
    values = pd.DataFrame({1: APART, 2: [0.0, 0.0, 0.0]})
    style.interval(values, ax, label="error", colour="k", share=True)
    corners = ax.collections[0].get_paths()[0].vertices
    at_one = corners[corners[:, 0] == 1][:, 1]
    assert (at_one.min(), at_one.max()) == pytest.approx(style.mean_and_interval(APART, share=True)[1:])
    assert set(corners[corners[:, 0] == 2][:, 1]) == {0.0}


@pytest.mark.parametrize("which", ["x", "y"])
@pytest.mark.parametrize(("low", "high"), [(0.06, 0.13), (0.28, 0.66), (0.02, 0.6), (0.03, 3.0)])
def test_a_log_axis_has_a_few_plain_numbers_however_short_it_is(ax, which, low, high):
    ax.plot([low, high], [low, high])
    style.log_scale(ax, which)
    axis, (first, last) = {"x": (ax.xaxis, ax.get_xlim()), "y": (ax.yaxis, ax.get_ylim())}[which]
    shown = [at for at in axis.get_majorticklocs() if first <= at <= last]
    assert 2 < len(shown) < 8
    assert [axis.get_major_formatter()(at) for at in shown] == [f"{at:g}" for at in shown]
    apart = np.diff(np.log(shown)) / math.log(last / first)
    assert apart.min() > 0.08, "no two of them run into each other"
