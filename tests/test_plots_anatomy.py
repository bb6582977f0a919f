"""Figures of where collapse happens, and of spectra: what is drawn is what the table and the arrays hold."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nclib import tables
from nclib.geometry import simplex_etf
from nclib.plots import anatomy, spectra, trajectories
from nclib.plots.style import half_width, mean_with_interval

EPOCHS, SEEDS, LAYERS = (1, 2, 4, 8, 16), (0, 1, 2), ("stem", "stage1", "stage2")
PARAMS = {"train_size": 1000, "schedule": "step", "epochs": 16}
METRICS = {
    "nc1_trace_ratio": 3.0, "nc1_pinv": 2.0, "nc2_cos_dev_means": 0.5, "nc2_norm_cv_means": 0.4, "nc3_frobenius": 1.0,
    "nc4_mismatch": 0.3, "cdnv": 0.7, "error": 0.2, "ncc_accuracy_train_means": 0.4, "test_collapse_strong": 4.0,
    "test_collapse_weak": 3.5, "participation_ratio_means": 6.0,
}  # fmt: skip
"""Metrics at the classifier's input, and what seed 0 has of them on training images at epoch 1."""


def value(metric, seed, epoch, split):
    """A fall as 1/e of training features, and as 1/sqrt(e) of test features, which begin twice as high."""
    return METRICS[metric] * 1.1**seed * (epoch**-1 if split == "train" else 2 * epoch**-0.5)


def in_layer(seed, epoch, split, depth):
    """NC1 of a hidden layer: each multiplies that of the layer before by 1/4 (train) or 1/2, at every epoch."""
    return value("nc1_pinv", seed, epoch, split) * (0.25 if split == "train" else 0.5) ** depth


def accuracy(seed, epoch, split, depth):
    """A share that differs wherever `in_layer` does."""
    return in_layer(seed, epoch, split, depth) / 5


@pytest.fixture
def table():
    rows = []
    for seed, epoch, split in itertools.product(SEEDS, EPOCHS, ("train", "test")):
        rows += [(seed, epoch, split, "features", m, value(m, seed, epoch, split)) for m in METRICS]
        for depth, layer in enumerate(LAYERS):
            if epoch in (1, 16):
                rows.append((seed, epoch, split, layer, "nc1_pinv", in_layer(seed, epoch, split, depth)))
                rows.append((seed, epoch, split, layer, "ncc_accuracy", accuracy(seed, epoch, split, depth)))
        rows.append((seed, epoch, split, "features", "ncc_accuracy", accuracy(seed, epoch, split, 2)))
    frame = pd.DataFrame(rows, columns=["seed", "epoch", "split", "layer", "metric", "value"])
    frame.loc[(frame.metric == "error") & (frame.split == "train") & (frame.epoch >= 8), "value"] = 0.0
    return frame.assign(run=frame.seed.map("run{}".format), labels="clean", **PARAMS)


@pytest.fixture
def axes():
    figure, axes = plt.subplots(1, 4)
    yield list(axes)
    figure.canvas.draw()  # what cannot be drawn fails here
    plt.close(figure)


@pytest.fixture
def ax(axes):
    return axes[0]


def without(table, **where):
    return table.drop(tables.select(table, **where).index)


def replaced(table, values, **where):
    """The table with other values of these rows, in the order of its epochs, in every seed."""
    changed = table.copy()
    rows = tables.select(table, **where)
    changed.loc[rows.index, "value"] = rows.epoch.map(dict(zip(EPOCHS, values, strict=True)))
    return changed


def line(ax, label):
    return next(entry for entry in ax.lines if str(entry.get_label()).startswith(label))


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(list(values)))))


# Layer by layer


def test_layers_are_drawn_in_order_at_the_first_and_last_epoch(table, axes):
    anatomy.layers(table, "ncc_accuracy", axes[0])
    anatomy.layers(table, "nc1_pinv", axes[1])
    for ax in axes[:2]:
        assert [label.get_text() for label in ax.get_xticklabels()] == [*LAYERS, "features"]
    for epoch, split in itertools.product((1, 16), ("train", "test")):
        expected = [np.mean([accuracy(seed, epoch, split, i) for seed in SEEDS]) for i in (0, 1, 2, 2)]
        assert list(line(axes[0], f"epoch {epoch}, {split} (n = 3)").get_ydata()) == pytest.approx(expected)
        expected = [geometric_mean(in_layer(seed, epoch, split, i) for seed in SEEDS) for i in range(3)]
        drawn = line(axes[1], f"epoch {epoch}, {split}").get_ydata()
        assert list(drawn[:3]) == pytest.approx(expected)
    assert [ax.get_yscale() for ax in axes[:2]] == ["linear", "log"], "shares are averaged as they are"


def test_a_geometric_law_has_one_factor_at_every_step_and_another_law_has_not(table):
    for split, factor in (("train", 0.25), ("test", 0.5)):
        steps = anatomy.over_depth(table, "nc1_pinv", split=split)
        assert list(steps.columns) == ["stem to\nstage1", "stage1 to\nstage2"]
        assert steps.to_numpy() == pytest.approx(np.full((3, 2), factor))
    last = (table.layer == "stage2") & (table.epoch == 16) & (table.split == "train")
    broken = table.assign(value=table.value.where(~last, table.value / 10))
    assert anatomy.over_depth(broken, "nc1_pinv").loc[0].tolist() == pytest.approx([0.25, 0.025])


def test_a_layer_is_compared_with_itself_at_the_first_epoch(table):
    for split, factor in (("train", 1 / 16), ("test", 1 / 4)):
        change = anatomy.over_time(table, "nc1_pinv", split=split)
        assert list(change.columns) == list(LAYERS)
        assert change.to_numpy() == pytest.approx(np.full((3, 3), factor))


def test_marks_are_geometric_means_with_t_intervals_and_every_seed(ax):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [5.0, 5.0, 5.0]}, index=SEEDS)
    anatomy.marks({"train": frame, "test": 2 * frame}, ax)
    drawn, bars = ax.containers[0][0], ax.containers[0][2][0]
    assert list(drawn.get_ydata()) == pytest.approx([2.0, 5.0])
    half = half_width(np.log(frame["a"]))
    ends = sorted(bars.get_segments()[0][:, 1])
    assert ends == pytest.approx([2 * math.exp(-half), 2 * math.exp(half)])
    assert list(ax.containers[1][0].get_ydata()) == pytest.approx([4.0, 10.0])
    seeds = [tuple(entry.get_ydata()) for entry in ax.lines if entry.get_marker() == "."]
    assert seeds[:3] == [(1.0, 5.0), (2.0, 5.0), (4.0, 5.0)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train (n = 3)", "test (n = 3)"]


def test_a_column_that_a_seed_lacks_has_no_mean(ax):
    frame = pd.DataFrame({"a": [1.0, math.nan, 4.0], "b": [5.0, 5.0, 5.0]}, index=SEEDS)
    anatomy.marks({"half": frame}, ax)
    assert list(ax.containers[0][0].get_ydata()) == pytest.approx([math.nan, 5.0], nan_ok=True)


# Test images


def test_the_variability_ratio_is_formed_within_each_seed(table, ax):
    skewed = table.copy()
    skewed.loc[(table.metric == "cdnv") & (table.seed == 0), "value"] *= 100  # cancels within a seed only
    anatomy.variability_ratio(skewed, ax)
    assert list(line(ax, "test / train").get_ydata()) == pytest.approx([2 * math.sqrt(e) for e in EPOCHS])


def test_each_of_the_four_measures_is_drawn_about_the_splits_own_means(table, axes):
    anatomy.about_own_means(table, axes)
    wanted = ("nc1_trace_ratio", "nc2_cos_dev_means", "nc3_frobenius", "nc4_mismatch")
    for ax, metric, mean in zip(axes, wanted, [geometric_mean] * 3 + [np.mean], strict=True):
        for split in ("train", "test"):
            expected = [mean([value(metric, seed, e, split) for seed in SEEDS]) for e in EPOCHS]
            assert list(line(ax, split).get_ydata()) == pytest.approx(expected)
    assert axes[3].get_ylim()[0] == 0


def test_test_features_are_held_against_the_training_means(table, ax):
    anatomy.onto_training_means(table, ax)
    for label, metric, split in (
        ("train", "nc1_trace_ratio", "train"),
        ("test, own", "test_collapse_strong", "test"),
        ("test, nearest", "test_collapse_weak", "test"),
    ):
        expected = [geometric_mean(value(metric, seed, e, split) for seed in SEEDS) for e in EPOCHS]
        assert list(line(ax, label).get_ydata()) == pytest.approx(expected)


def test_the_share_nearest_a_wrong_mean_is_what_is_not_nearest_the_right_one(table, ax):
    right = replaced(table, (0.5, 0.6, 0.7, 0.8, 1.0), metric="ncc_accuracy_train_means", split="test")
    assert anatomy.nearest_wrong(right).loc[1].tolist() == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.0])
    anatomy.wrong_means(right, ax)
    assert list(line(ax, "nearest mean").get_ydata()) == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.0])
    expected = [np.mean([value("error", seed, e, "test") for seed in SEEDS]) for e in EPOCHS]
    assert list(line(ax, "classifier").get_ydata()) == pytest.approx(expected)


# Which falls first


def test_a_power_law_falls_evenly_in_the_logarithm_of_the_epoch(table):
    done = anatomy.progress(table, "nc3_frobenius")
    assert done.to_numpy() == pytest.approx(np.tile([0, 0.25, 0.5, 0.75, 1], (3, 1)))
    assert anatomy.half_fall(table, "nc3_frobenius").to_dict() == {0: 4, 1: 4, 2: 4}


def test_half_of_the_fall_is_done_only_from_where_on_it_stays_done(table):
    where = {"metric": "nc1_pinv", "layer": "features", "split": "train"}
    early = replaced(table, (1.0, 0.05, 0.04, 0.02, 0.01), **where)
    assert anatomy.half_fall(early, "nc1_pinv").tolist() == [2, 2, 2]
    dipped = replaced(table, (1.0, 0.05, 0.5, 0.02, 0.01), **where)
    assert anatomy.half_fall(dipped, "nc1_pinv").tolist() == [8, 8, 8]


def test_what_does_not_fall_has_no_half(table, ax):
    where = {"metric": "nc3_frobenius", "layer": "features", "split": "train"}
    risen = replaced(table, (1.0, 0.5, 0.2, 0.5, 1.5), seed=1, **where)
    assert anatomy.half_fall(risen, "nc3_frobenius").isna().tolist() == [False, True, False]
    anatomy.progresses(risen, {"nc3_frobenius": "NC3", "nc1_pinv": "NC1"}, ax)
    assert line(ax, "NC3").get_label() == "NC3 (n = 2)"
    assert line(ax, "NC1").get_label() == "NC1 (n = 3)"
    assert list(line(ax, "NC3").get_ydata()) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_an_exact_zero_has_no_progress(table):
    where = {"metric": "nc4_mismatch", "layer": "features", "split": "train"}
    with pytest.raises(ValueError, match="nc4_mismatch is not positive"):
        anatomy.progress(replaced(table, (0.3, 0.2, 0.1, 0.0, 0.0), **where), "nc4_mismatch")


def test_a_path_passes_every_epoch_and_marks_first_drops_start_and_last(table, ax):
    anatomy.plane(table, "nc1_trace_ratio", "nc2_cos_dev_means", ax)
    for seed in SEEDS:
        path = line(ax, f"seed {seed}")
        x, y = (
            [value(m, seed, e, "train") for e in EPOCHS] for m in ("nc1_trace_ratio", "nc2_cos_dev_means")
        )
        assert list(path.get_xdata()) == pytest.approx(x)
        assert list(path.get_ydata()) == pytest.approx(y)
        own = [entry for entry in ax.lines if entry.get_color() == path.get_color()]
        places = {entry.get_marker(): list(entry.get_xdata()) for entry in own if entry is not path}
        assert trajectories.drops(table) == [5, 10]
        expected = {"o": x[:1], "x": [x[2], x[3]], "*": [x[3]], "s": x[-1:]}
        assert places == {marker: pytest.approx(at) for marker, at in expected.items()}


def test_no_star_without_a_terminal_phase_and_no_cross_without_a_drop(table, ax):
    never = table.assign(value=table.value.where(table.metric != "error", 0.3), schedule="constant")
    anatomy.plane(never, "nc1_trace_ratio", "nc2_cos_dev_means", ax)
    drawn = {entry.get_marker() for entry in ax.lines if len(entry.get_xdata())}
    assert {"o", "s"} <= drawn
    assert not {"x", "*"} & drawn


@pytest.mark.parametrize(
    ("metric", "draw"),
    [
        ("ncc_accuracy", lambda table, axes: anatomy.layers(table, "ncc_accuracy", axes[0])),
        ("nc1_pinv", lambda table, axes: anatomy.over_depth(table, "nc1_pinv")),
        ("nc1_pinv", lambda table, axes: anatomy.over_time(table, "nc1_pinv")),
        ("cdnv", lambda table, axes: anatomy.variability_ratio(table, axes[0])),
        ("nc3_frobenius", lambda table, axes: anatomy.about_own_means(table, axes)),
        ("test_collapse_weak", lambda table, axes: anatomy.onto_training_means(table, axes[0])),
        ("ncc_accuracy_train_means", lambda table, axes: anatomy.wrong_means(table, axes[0])),
        ("nc1_pinv", lambda table, axes: anatomy.progresses(table, {"nc1_pinv": "NC1"}, axes[0])),
        ("nc2_norm_cv_means", lambda table, axes: anatomy.plane(table, "nc1_pinv", "nc2_norm_cv_means", axes[0])),
        ("participation_ratio_means", lambda table, axes: spectra.participation(table, 10, axes[0])),
    ],
)  # fmt: skip
def test_a_missing_metric_is_an_error_and_not_a_curve(table, axes, metric, draw):
    draw(table, axes)  # the control: with the metric there is a figure
    for ax in axes:
        ax.clear()
    with pytest.raises(KeyError, match=metric):
        draw(without(table, metric=metric), axes)


# Spectra


def test_the_simplex_has_equal_eigenvalues_and_unequal_means_have_not():
    K = 5
    means = 3 * simplex_etf(K, 8).numpy() + 7.0  # neither scale nor shift matters
    stretched = means * np.array([1.0, 1.0, 1.0, 1.0, 2.0])[:, None]
    at_simplex, not_there = (spectra.between(np.stack([means, m])) for m in (means, stretched))
    assert list(at_simplex.columns) == [1, 2, 3, 4]
    assert at_simplex.to_numpy() == pytest.approx(np.ones((2, 4)))
    assert not_there.loc[0].to_numpy() == pytest.approx(np.ones(4))
    assert not_there.loc[1, 1] > 1.5 > 0.9 > not_there.loc[1, 4]
    gram = spectra.of_gram(np.stack([means, np.random.default_rng(0).standard_normal((K, 8))]))
    assert gram.loc[0].to_numpy() == pytest.approx(np.full(4, K / (K - 1)))
    assert gram.loc[1, 1] > 1.2 * K / (K - 1)


def test_eigenvalues_are_those_of_the_covariance_and_of_the_cosines():
    means = np.random.default_rng(1).standard_normal((2, 4, 6))
    M = means[1] - means[1].mean(axis=0)
    expected = np.linalg.eigvalsh(M.T @ M / 4)[::-1][:3]
    assert spectra.between(means).loc[1].to_numpy() == pytest.approx(expected / expected.mean())
    U = M / np.linalg.norm(M, axis=1, keepdims=True)
    assert spectra.of_gram(means).loc[1].to_numpy() == pytest.approx(np.linalg.eigvalsh(U @ U.T)[::-1][:3])
    assert spectra.of_gram(means).sum(axis=1).tolist() == pytest.approx([4, 4]), "they add up to K"


def test_a_mean_without_direction_has_no_cosine():
    means = np.stack([np.eye(3), np.array([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]])])
    assert spectra.of_gram(means[:1]).shape == (1, 2)
    with pytest.raises(ValueError, match="no cosine"):
        spectra.of_gram(means)


def test_a_spectrum_is_a_geometric_mean_over_runs_beside_the_simplex(ax):
    early = pd.DataFrame({1: [2.0, 8.0, 4.0], 2: [0.5, 0.5, 0.5]})
    spectra.spectrum({1: early, 9: early / 2}, ax, simplex=1.25)
    assert list(line(ax, "epoch 1 (n = 3)").get_ydata()) == pytest.approx([4.0, 0.5])
    assert list(line(ax, "epoch 9 (n = 3)").get_ydata()) == pytest.approx([2.0, 0.25])
    assert set(line(ax, "simplex").get_ydata()) == {1.25}


def test_eigenvalues_at_rounding_are_left_out_and_small_ones_are_not(ax):
    within = np.array([[1.0, 1e-9, 1e-13], [2.0, 1e-9, -1e-16], [4.0, 1e-9, 0.0]])
    spectra.within_and_between(within, np.array([[5.0, 3.0]] * 3), ax)
    assert list(line(ax, "Σ_W").get_xdata()) == [1, 2]
    assert list(line(ax, "Σ_W").get_ydata()) == pytest.approx([2.0, 1e-9])
    assert list(line(ax, "Σ_B").get_ydata()) == pytest.approx([5.0, 3.0])


def test_participation_stands_below_the_simplex(table, ax):
    spectra.participation(table, 10, ax)
    expected = [np.mean([value("participation_ratio_means", s, e, "test") for s in SEEDS]) for e in EPOCHS]
    assert list(line(ax, "test").get_ydata()) == pytest.approx(expected)
    assert set(line(ax, "simplex").get_ydata()) == {9}


# Numbers in prose


def test_a_mean_is_put_with_its_interval_of_the_values_or_of_their_logarithms():
    values = pd.Series([1.0, 2.0, 4.0])
    half = half_width(values)
    assert mean_with_interval(values) == f"2.33 [{7 / 3 - half:.3g}, {7 / 3 + half:.3g}], n = 3"
    assert mean_with_interval(values, log=True).startswith("2 [0.")
    assert mean_with_interval(values[:2], log=True) == "1.41 (n = 2, no interval)"
