"""Figures of the controls and synthesis chapters: what is drawn is what the table holds."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from nclib.plots import controls, double_descent, feature_dimension, mnist1d, style, synthesis

SEEDS, WIDTHS = (0, 1, 2), (4, 8, 16)


def rows(about, values):
    """One run: (split, labels, layer, metric) to its last value; at epoch 0 everything is 77."""
    about = {"architecture": "cnn1d", "optimizer": "adam", "epochs": 5} | about
    about["run"] = "-".join(map(str, about.values()))
    names = ("split", "labels", "layer", "metric")
    return [
        about | dict(zip(names, where, strict=True)) | {"epoch": epoch, "value": value}
        for where, last in values.items()
        for epoch, value in ((0, 77.0), (5, last))
    ]


FRESH, TRAIN = ("fresh", "clean", "features"), ("train", "noisy", "features")


@pytest.fixture(scope="module")
def noise():
    """Error 0.1 q w^-1 + seed/1000; training error at most 10 % from width 8 on without noise, never with it."""
    found = []
    for q, w, seed in itertools.product((0.0, 0.4), WIDTHS, SEEDS):
        training = 0.05 if w >= 8 and q == 0 else 0.5
        values = {(*FRESH, "error"): (1 + q) / w + seed / 1000, (*TRAIN, "error"): training}
        found += rows({"label_noise": q, "width": w, "seed": seed}, values)
    return pd.DataFrame(found)


def line(ax, label):
    return next(x for x in ax.lines if str(x.get_label()).startswith(label))


def test_levels_are_drawn_one_curve_each_with_their_threshold(noise, ax):
    controls.levels(noise, ax, column="label_noise", label="{:.0%} redrawn")
    assert list(line(ax, "40% redrawn (n = 3)").get_xdata()) == list(WIDTHS)
    assert list(line(ax, "40%").get_ydata()) == pytest.approx([1.4 / w + 0.001 for w in WIDTHS])
    marks = [x for x in ax.lines if len(x.get_xdata()) == 1]
    assert [list(m.get_xdata()) for m in marks] == [[8]], "only where training error gets there"
    assert marks[0].get_color() == pytest.approx(line(ax, "0%").get_color())


def test_a_metric_that_is_not_there_is_an_error(noise, ax):
    with pytest.raises(KeyError, match="nc1_pinv"):
        controls.levels(noise, ax, column="label_noise", label="{}", metric="nc1_pinv", **mnist1d.TRAIN)


def test_positions_are_geometric_means_and_leave_out_what_some_seed_never_reached(ax):
    widths = pd.DataFrame({1000: [8, 8, 8], 4000: [16, 16, 4], 8000: [32, math.nan, 32]}, index=SEEDS)
    controls.positions({"peak": widths}, ax)
    assert list(line(ax, "peak (n = 3)").get_xdata()) == [1000, 4000]
    assert list(line(ax, "peak").get_ydata()) == pytest.approx([8, 1024 ** (1 / 3)])


@pytest.fixture(scope="module")
def crossed():
    found = []
    for o, s, d, seed in itertools.product(
        ("sgd", "adam", "adamw"), ("constant", "cosine"), (1e-4, 5e-4), SEEDS
    ):
        value = {"sgd": 1.0, "adam": 2.0, "adamw": 3.0}[o] + 0.5 * (s == "cosine") + 100 * d + seed / 10
        where = {(*TRAIN, "nc2_gram_frobenius"): value}
        about = {"optimizer": o, "schedule": s, "weight_decay": d, "seed": seed, "width": 64}
        found += rows(about, where)
    return pd.DataFrame(found)


def test_factors_stand_at_their_means_with_students_interval(crossed, ax):
    controls.factorial(crossed, ax, metric="nc2_gram_frobenius", label="NC2", **mnist1d.TRAIN)
    handles, names = ax.get_legend_handles_labels()
    assert names == ["SGD (n = 3)", "Adam (n = 3)", "AdamW (n = 3)"]
    points, _, (bars,) = handles[1]
    assert list(points.get_ydata()) == pytest.approx([2.11, 2.15, 2.61, 2.65])
    half = 4.302653 * 0.1 / math.sqrt(3)
    low, high = bars.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)


def test_with_two_seeds_there_is_no_interval(crossed, ax):
    controls.factorial(
        crossed[crossed.seed < 2], ax, metric="nc2_gram_frobenius", label="NC2", **mnist1d.TRAIN
    )
    _, half = style.mean_and_half(pd.DataFrame({"a": [1.0, 2.0]}))
    assert half.isna().all()


def test_effects_are_drawn_at_their_means(ax):
    frame = pd.DataFrame({"SGD for Adam": [-0.3, -0.2, -0.1], "cosine": [0.1, 0.1, 0.1]}, index=SEEDS)
    controls.effects({"NC1": frame}, ax)
    ((points, *_),) = ax.get_legend_handles_labels()[0]
    assert list(points.get_ydata()) == pytest.approx([-0.2, 0.1])


# Model-wise: both optimisers, and spikes


def test_spikes_are_runs_whose_training_error_rose_at_the_end():
    found = []
    for seed, last in ((0, 0.0), (1, 0.018), (2, 0.4)):
        about = {"width": 64, "seed": seed, "run": f"r{seed}", "architecture": "cnn1d", "optimizer": "adam"}
        for epoch, value in ((100, 0.3), (250, 0.0), (500, last)):
            where = dict(zip(("split", "labels", "layer", "metric"), (*TRAIN, "error"), strict=True))
            found.append(about | where | {"epochs": 500, "epoch": epoch, "value": value})
    caught = double_descent.spikes(pd.DataFrame(found).sample(frac=1, random_state=0))
    assert list(caught.index) == ["r2"]
    assert (caught.before.item(), caught["last"].item(), caught.epoch.item()) == (0.0, 0.4, 500)


def test_both_optimisers_are_drawn_over_parameters(ax):
    found = []
    for o, w, seed in itertools.product(("sgd", "adam"), WIDTHS, SEEDS):
        values = {("none", "none", "all", "parameter_norm"): w * (2.0 if o == "adam" else 1.0)}
        values |= {("none", "none", "all", "parameters"): float(w**2)}
        found += rows({"optimizer": o, "width": w, "seed": seed}, values)
    table = pd.DataFrame(found)
    double_descent.by_optimizer(table, ax, metric="parameter_norm", label="norm", log=True, layer="all")
    assert list(line(ax, "Adam (n = 3)").get_ydata()) == pytest.approx([8, 16, 32])
    assert ax.get_yscale() == "log"


# Feature dimension: kinds and margins


def test_kinds_are_drawn_less_the_floor_they_were_given(ax):
    found = []
    for d, seed in itertools.product((2, 9), SEEDS):
        about = {"feature_dim": d, "width": 32, "seed": seed}
        found += rows(about, {(*TRAIN, "nc2_gram_frobenius"): 7.0 + seed})
    table = pd.DataFrame(found)
    feature_dimension.kinds({"a": table, "b": table}, ax, floor=lambda K, d: 6.0 if d == 2 else 0.0)
    assert list(line(ax, "b (n = 3)").get_ydata()) == pytest.approx([2.0, 8.0])


def test_the_best_margins_are_those_of_known_codes_and_no_others():
    assert feature_dimension.best_margin(2) == pytest.approx(1 - math.cos(math.pi / 5))
    assert [feature_dimension.best_margin(d) for d in (5, 8)] == [1.0, 1.0]
    assert feature_dimension.best_margin(9) == feature_dimension.best_margin(64) == pytest.approx(10 / 9)
    assert feature_dimension.best_margin(3) is None
    assert feature_dimension.best_margin(4) is None


# Synthesis


def test_ours_stands_beside_the_published_value_of_the_same_thing():
    ours = pd.DataFrame({2: [1.0, 2.0, 3.0], 4: [4.0, 4.0, math.nan], 8: [1.0, 1.0, 1.0]}, index=SEEDS)
    points = synthesis.beside(ours, pd.Series({2: 2.5, 4: 4.0, 16: 9.0}))
    assert list(points.index) == [2], "what a seed or the study lacks is left out"
    assert points.loc[2, "published"] == 2.5
    assert points.loc[2, "mean"] == 2.0
    assert points.loc[2, "high"] - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    logarithmic = synthesis.beside(ours[[2]], pd.Series({2: 2.5}), log=True)
    assert logarithmic.loc[2, "mean"] == pytest.approx(6 ** (1 / 3))


def test_the_share_inside_counts_published_values_within_our_interval(ax):
    points = pd.DataFrame(
        {"mean": [1.0, 1.0, 1.0, 1.0], "low": 0.5, "high": 1.5, "published": [0.4, 0.6, 1.4, 1.6], "n": 3}
    )
    assert synthesis.share_inside(points) == 0.5
    synthesis.agreement({"one": points}, ax, title="error")
    assert ax.get_title(loc="left") + ax.get_title() == "error\n50% of 4 within our interval"
    diagonal = line(ax, "ours equal")
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
