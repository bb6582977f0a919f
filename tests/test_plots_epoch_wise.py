"""Figures of the epoch-wise chapter: what is drawn is what the table holds, from epoch 1 on, seed by seed."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nclib import geometry
from nclib.plots import epoch_wise, mnist1d
from nclib.plots.style import half_width

EPOCHS, SEEDS = (0, 1, 10, 100), (0, 1, 2)
TRAINING = {0: 0.9, 1: 0.6, 10: 0.09, 100: 0.005}
NC = {
    "nc1_trace_ratio_weighted": 2.0,
    "nc2_gram_frobenius": 3.0,
    "nc3_rows_uncentred": 4.0,
    "nc3_cosine": 0.2,
    "global_mean_ratio": 1 / 3,
    "nc4_mismatch": 0.1,
}
FIGURES = (
    epoch_wise.errors,
    epoch_wise.spikes,
    epoch_wise.memorisation,
    epoch_wise.nc1,
    epoch_wise.nc3,
    epoch_wise.nc2,
    epoch_wise.nc4,
)
OPTIONS = {epoch_wise.nc2: {"floor": geometry.nc2_gram_floor}}


def measured(epoch, seed, layer):
    """(split, labels, metric) to its value at one epoch; the average's errors are 0.002 less than the weights'."""
    error = TRAINING[epoch] + (0.0 if layer == "features" else -0.002 * (epoch > 1))
    values = {
        ("train", "noisy", "error"): error,
        ("fresh", "clean", "error"): error / 2 + 0.1 + seed / 100,
        ("train_mislabelled", "noisy", "error"): error,
        ("train_mislabelled", "clean", "error"): 1 - error,
    }
    for metric, value in NC.items():
        apart = 0.5 if metric == "nc4_mismatch" else 1.0  # a share stays below one
        values |= {("train", "noisy", metric): value / (1 + epoch) + apart * (layer == "averaged")}
    return values | {("train", "clean", "nc1_trace_ratio_weighted"): 5.0}


def run(*, seed=0, width=12, epochs=100, schedule="constant", architecture="resnet1d", upto=100):
    about = {
        "run": f"{width}-{schedule}-{seed}", "seed": seed, "width": width, "epochs": epochs, "schedule": schedule,
        "architecture": architecture, "fresh_size": 500, "label_noise": 0.2, "noise_model": "symmetric_including_true",
    }  # fmt: skip
    return [
        about | {"epoch": epoch, "layer": layer, "split": s, "labels": y, "metric": m, "value": v}
        for epoch in EPOCHS
        for layer in ("features", "averaged")
        if epoch <= upto and (epoch or layer == "features")  # untrained weights have no average
        for (s, y, m), v in measured(epoch, seed, layer).items()
    ]


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame(
        [
            row
            for width in (12, 64)
            for schedule in ("constant", "cosine")
            for seed in SEEDS
            for row in run(seed=seed, width=width, schedule=schedule)
        ]
    )


@pytest.fixture(scope="module")
def one(table):
    return mnist1d.of(table, width=12, schedule="constant")


def drawn(ax, label):
    return next(line for line in ax.lines if str(line.get_label()).startswith(label))


def labels(ax):
    return [str(line.get_label()) for line in ax.lines]


def test_curves_stand_at_the_measured_epochs_from_1_on_and_are_means_over_seeds(one, ax):
    epoch_wise.errors(one, ax)
    training = drawn(ax, "training error, noisy labels (n = 3)")
    assert list(training.get_xdata()) == [1, 10, 100]
    assert list(training.get_ydata()) == pytest.approx([0.6, 0.09, 0.005])
    weights = drawn(ax, "error on 500 fresh samples, weights (n = 3)")
    assert list(weights.get_ydata()) == pytest.approx([0.41, 0.155, 0.1125])
    average = drawn(ax, "error on 500 fresh samples, averaged weights (n = 3)")
    assert list(average.get_ydata()) == pytest.approx([0.41, 0.154, 0.1115])
    assert ax.get_xscale() == "log"


def test_thresholds_are_marked_only_where_mean_training_error_gets_there(one, ax):
    epoch_wise.errors(one, ax)
    marks = {label: drawn(ax, label).get_xdata()[0] for label in labels(ax) if "mean training" in label}
    assert marks == {"mean training error first ≤ 10%": 10, "mean training error first ≤ 1%": 100}
    for upto, count in ((10, 1), (1, 0)):
        _, other = plt.subplots()
        epoch_wise.errors(one[one.epoch <= upto], other)
        assert sum("mean training" in label for label in labels(other)) == count
        plt.close(other.figure)


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_every_mean_has_a_band_with_three_seeds_and_none_with_fewer(one, ax, draw):
    draw(one, ax, **OPTIONS.get(draw, {}))
    means = [label for label in labels(ax) if "(n = 3)" in label]
    assert len(ax.collections) == len(means) > 0
    for seeds in ([0], [0, 1]):
        _, other = plt.subplots()
        draw(one[one.seed.isin(seeds)], other, **OPTIONS.get(draw, {}))
        assert not other.collections
        assert sum(f"(n = {len(seeds)})" in label for label in labels(other)) == len(means)
        plt.close(other.figure)


def band_at(ax, epoch, centre):
    """Lower and upper end, at this epoch, of the band around this value."""
    for collection in ax.collections:
        for path in collection.get_paths():
            ends = path.vertices[np.isclose(path.vertices[:, 0], epoch), 1]
            if len(ends) and ends.min() < centre < ends.max():
                return ends.min(), ends.max()
    raise AssertionError("no such band")


def test_a_band_is_the_t_interval_of_the_seeds_and_that_of_an_error_of_its_logit(one, ax):
    epoch_wise.errors(one, ax)
    fresh = epoch_wise.by_epoch(one, "error", **mnist1d.FRESH)
    half, mean = 4.302653 * 0.01 / 3**0.5, fresh[100].mean()
    assert half_width(fresh[100]) == pytest.approx(half, rel=1e-5)
    reach = half / (mean * (1 - mean))
    ends = [1 / (1 + (1 - mean) / mean * np.exp(side * reach)) for side in (1, -1)]
    assert band_at(ax, 100, mean) == pytest.approx(ends, rel=1e-4)
    # Control: the plain interval is another one.
    assert band_at(ax, 100, mean) != pytest.approx([mean - half, mean + half], rel=1e-4)


@pytest.mark.parametrize(
    ("draw", "metric"),
    [
        (epoch_wise.errors, "error"),
        (epoch_wise.spikes, "error"),
        (epoch_wise.memorisation, "error"),
        (epoch_wise.nc1, "nc1_trace_ratio_weighted"),
        (epoch_wise.nc2, "nc2_gram_frobenius"),
        (epoch_wise.nc3, "nc3_rows_uncentred"),
        (epoch_wise.nc3, "nc3_cosine"),
        (epoch_wise.nc3, "global_mean_ratio"),
        (epoch_wise.nc4, "nc4_mismatch"),
    ],
)
def test_a_missing_metric_is_an_error(one, ax, draw, metric):
    with pytest.raises(KeyError, match=metric):
        draw(one[one.metric != metric], ax, **OPTIONS.get(draw, {}))


@pytest.mark.parametrize("draw", [f for f in FIGURES if f is not epoch_wise.nc3], ids=lambda f: f.__name__)
def test_runs_that_kept_no_average_are_an_error_where_it_is_drawn(one, ax, draw):
    with pytest.raises(KeyError, match="averaged"):
        draw(one[one.layer != "averaged"], ax, **OPTIONS.get(draw, {}))


def test_an_epoch_that_one_seed_lacks_is_left_out(one):
    some = one[(one.seed != 1) | (one.epoch != 10)]
    assert epoch_wise.by_epoch(some, "error", **mnist1d.TRAIN)[10].isna().sum() == 1
    _, ax = plt.subplots()
    epoch_wise.errors(some, ax)
    assert list(drawn(ax, "training error").get_xdata()) == [1, 100]
    plt.close(ax.figure)


def test_two_networks_in_one_panel_are_an_error_and_not_an_average(table, ax):
    with pytest.raises(ValueError, match="duplicate"):
        epoch_wise.errors(table[table.schedule == "constant"], ax)


def test_the_difference_is_weights_minus_average_of_each_seed(one, ax):
    epoch_wise.spikes(one, ax)
    assert list(drawn(ax, "mean over seeds").get_ydata()) == pytest.approx([0.0, 0.001, 0.001])
    seeds = [line for line in ax.lines if line.get_label() == "one seed"]
    assert len(seeds) == 3
    for line in seeds:
        assert list(line.get_ydata()) == pytest.approx([0.0, 0.001, 0.001])


def test_memorised_and_resisted_shares_are_one_less_the_errors(one, ax):
    epoch_wise.memorisation(one, ax)
    wrong, true = drawn(ax, "predicted as the wrong label, w"), drawn(ax, "predicted as the true label, av")
    assert list(wrong.get_ydata()) == pytest.approx([0.4, 0.91, 0.995])
    assert list(true.get_ydata()) == pytest.approx([0.6, 0.088, 0.003])


def test_nc1_is_drawn_for_both_label_sets_with_the_offset(one, ax):
    epoch_wise.nc1(one, ax)
    assert list(drawn(ax, "on noisy labels (").get_ydata()) == pytest.approx([1, 2 / 11, 2 / 101])
    assert list(drawn(ax, "on noisy labels, av").get_ydata()) == pytest.approx([2, 13 / 11, 103 / 101])
    assert list(drawn(ax, "on clean labels").get_ydata()) == pytest.approx([5] * 3)
    assert drawn(ax, "collapsed on the other").get_ydata()[0] == pytest.approx(0.5625)
    _, other = plt.subplots()
    epoch_wise.nc1(one.assign(label_noise=0.0), other)
    assert not any("collapsed on the other" in label for label in labels(other))
    plt.close(other.figure)


def test_nc3_is_on_the_scale_of_unit_rows(one, ax):
    epoch_wise.nc3(one, ax)
    assert drawn(ax, "uncentred means (").get_ydata()[0] == pytest.approx(2)
    assert drawn(ax, "centred means").get_ydata()[0] == pytest.approx((20 * 0.1) ** 0.5)
    aligned = drawn(ax, "uncentred means, if").get_ydata()[0]
    assert aligned == pytest.approx((20 * (1 - 1 / (1 + 1 / 36) ** 0.5)) ** 0.5)


@pytest.mark.parametrize(("architecture", "d"), [("resnet1d", 4), ("cnn1d", 8)])
def test_nc2_stands_beside_the_floor_and_random_means_of_its_own_dimension(architecture, d, ax):
    rows = pd.DataFrame(
        [
            row
            for schedule in ("constant", "cosine")
            for row in run(width=4, schedule=schedule, architecture=architecture)
        ]
    )
    epoch_wise.nc2(rows, ax, floor=geometry.nc2_gram_floor)
    for rate in ("constant rate", "cosine rate"):
        assert list(drawn(ax, f"{rate}, weights").get_ydata()) == pytest.approx([1.5, 3 / 11, 3 / 101])
        assert drawn(ax, f"{rate}, averaged weights").get_ydata()[0] == pytest.approx(2.5)
    floor = drawn(ax, "attainable floor").get_ydata()[0]
    assert floor == pytest.approx(geometry.nc2_gram_floor(10, d))
    assert drawn(ax, "random class means").get_ydata()[0] == mnist1d.random_means_nc2(d) > floor > 0


def test_nc4_draws_weights_and_average_under_every_schedule(table, ax):
    epoch_wise.nc4(mnist1d.of(table, width=64), ax)
    assert list(drawn(ax, "cosine rate, weights").get_ydata()) == pytest.approx([0.05, 0.1 / 11, 0.1 / 101])
    assert len(labels(ax)) == 4


def test_the_final_value_is_the_last_planned_epochs_and_no_earlier_one(one):
    final = epoch_wise.final(one, "error", **mnist1d.TRAIN)
    assert final.to_dict() == dict.fromkeys(SEEDS, 0.005)
    stopped = pd.DataFrame([row for seed in SEEDS for row in run(seed=seed, upto=10)])
    with pytest.raises(KeyError, match="error"):
        epoch_wise.final(stopped, "error", **mnist1d.TRAIN)


def test_a_mean_is_stated_with_its_interval_where_there_is_one():
    values = pd.Series([0.1, 0.2, 0.3])
    assert epoch_wise.stated(values) == f"0.200 ± {half_width(values):.3f}" == "0.200 ± 0.248"
    assert epoch_wise.stated(values[:2]) == "0.150"


@pytest.mark.parametrize(("by", "count"), [(epoch_wise.PANEL, 4), (epoch_wise.NETWORK, 2)])
def test_panels_deal_out_every_network_once_and_say_which(table, by, count):
    draw = epoch_wise.errors if by == epoch_wise.PANEL else epoch_wise.nc4
    figure = mnist1d.panels(table, draw, by=by)
    titles = ["".join(ax.get_title(loc=loc) for loc in ("left", "center")) for ax in figure.axes]
    rates = [", constant rate", ", cosine rate"] if by == epoch_wise.PANEL else [""]
    assert titles == [f"w = {w}{rate}: 100 epochs" for w in (12, 64) for rate in rates]
    assert len(titles) == count
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(entries) == len(set(entries))
    plt.close(figure)
