"""Figures of settings beside a baseline: what is drawn is what the table holds."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from nclib import tables
from nclib.plots import COLOURS, settings

SEEDS, EPOCHS = (0, 1, 2), (1, 3, 30)
PARAMS = settings.BASELINE | {
    "dataset": "fashion_mnist", "train_size": 10_000, "width": 8, "schedule": "step", "epochs": 30,
}  # fmt: skip
CHANGES = (
    {}, {"optimizer": "adamw"}, {"optimizer": "adam"}, {"weight_decay": 2e-3}, {"weight_decay": 0.0},
    {"loss": "mse"}, {"label_noise": 0.2}, {"label_noise": 1.0}, {"architecture": "vgg11"},
    {"precision": "float32"},
)  # fmt: skip
POSITIVE = ("nc1_pinv", "nc2_norm_cv_means", "nc2_cos_dev_means", "nc2_etf_weights", "nc3_frobenius", "cdnv")
PARTS = {"mse_nc1": 3.0, "mse_nc23": 1.0, "mse_perp": 0.2, "mse_total": 4.2, "snr_spread": 7.0}


def number(i, metric, seed, epoch, split="train", labels="clean"):
    """A number that differs in every setting, metric, seed, epoch, split and set of labels."""
    of = (1 + i) * (1 + len(metric)) * (1 + 0.1 * seed) / epoch
    return of * (2 if split == "test" else 1) * (3 if labels == "noisy" else 1)


def run(i, change, seed):
    about = PARAMS | change | {"seed": seed, "run": f"{i}-{seed}"}
    sets = [("train", "clean"), ("test", "clean")] + [("train", "noisy")] * ("label_noise" in change)
    for epoch in EPOCHS:
        for (split, labels), metric in itertools.product(sets, POSITIVE):
            yield about | where(split, labels, metric, epoch, number(i, metric, seed, epoch, split, labels))
        for split, labels in sets:
            wrong = split == "test" or ("label_noise" in change and labels == "clean") or epoch < 30
            yield about | where(split, labels, "error", epoch, 0.1 + 0.01 * (i + seed) if wrong else 0.0)
        yield about | where("none", "none", "nc0_row_sum", epoch, (1 + seed) / epoch, "all")
        for metric, value in PARTS.items() if change == {"loss": "mse"} else ():
            yield about | where("train", "clean", metric, epoch, value * (1 + seed) / epoch)


def where(split, labels, metric, epoch, value, layer="features"):
    return {
        "split": split, "labels": labels, "layer": layer, "metric": metric, "epoch": epoch, "value": value
    }  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame([row for i, c in enumerate(CHANGES) for seed in SEEDS for row in run(i, c, seed)])


def line(ax, label):
    return next(x for x in ax.lines if str(x.get_label()).startswith(label))


def marks(ax):
    """Where the marks above the panel stand and how many seeds each is said to be, by colour."""
    names, found = {code: name for name, code in COLOURS.items()}, {}
    said = {(text.get_position()[0], text.get_color()): int(text.get_text()) for text in ax.texts}
    for x in ax.lines:
        if x.get_linestyle() == "None":
            (epoch,) = x.get_xdata()
            found.setdefault(names[x.get_color()], {})[epoch] = said.get((epoch, x.get_color()), 1)
    return found


def dotted(ax):
    """Where dotted lines stand, by colour."""
    names, found = {code: name for name, code in COLOURS.items()}, {}
    for x in ax.lines:
        if x.get_linestyle() == ":":
            found.setdefault(names[x.get_color()], []).append(x.get_xdata()[0])
    return found


def geometric(values):
    return math.exp(np.mean(np.log(values)))


# Which runs are compared


def test_a_comparison_varies_one_thing_and_holds_the_baseline(table):
    assert list(settings.along(table, "optimizer")) == ["SGD", "Adam", "AdamW"]
    assert list(settings.along(table, "weight_decay")) == ["λ = 0", "λ = 0.0005", "λ = 0.002"]
    assert list(settings.along(table, "label_noise")) == ["true labels", "20% permuted", "random labels"]
    for parameter in settings.BASELINE:
        for rows in settings.along(table, parameter).values():
            fixed = {k: v for k, v in settings.BASELINE.items() if k != parameter}
            assert (rows[list(fixed)] == pd.Series(fixed)).all(axis=None)


def test_a_comparison_of_one_side_is_none(table):
    alone = tables.select(table, **settings.BASELINE)
    assert settings.along(alone, "optimizer") == {}
    assert settings.along(table.drop(alone.index), "optimizer") == {}
    assert settings.along(table.iloc[:0], "optimizer") == {}


def test_variants_are_the_baseline_and_every_other_setting_once(table):
    found = settings.variants(table)
    assert next(iter(found)) == "baseline"
    assert len(found) == len(CHANGES)
    assert {frozenset(rows.run) for rows in found.values()} == {
        frozenset(f"{i}-{seed}" for seed in SEEDS) for i in range(len(CHANGES))
    }


def test_a_run_that_differs_in_two_things_is_in_no_comparison(table):
    both = pd.DataFrame(
        [row for seed in SEEDS for row in run(20, {"optimizer": "adam", "loss": "mse"}, seed)]
    )
    assert len(settings.variants(pd.concat([table, both]))) == len(CHANGES)


def test_a_network_is_named_with_its_width_where_that_is_not_the_baselines(table):
    assert list(settings.along(table, "architecture")) == ["ResNet-18", "VGG-11"]
    narrow = {"architecture": "densenet40", "width": 4}
    dense = pd.DataFrame([row for seed in SEEDS for row in run(20, narrow, seed)])
    found = settings.along(pd.concat([table, dense]), "architecture")
    assert list(found) == ["ResNet-18", "VGG-11", "DenseNet-40, width 4"]
    assert found["DenseNet-40, width 4"].run.nunique() == len(SEEDS)


# What is drawn


def test_curves_are_geometric_means_on_the_labels_trained_on(table, ax):
    found = settings.along(table, "label_noise")
    settings.compared(found, ax, metric="nc1_pinv")
    for label, i, labels in (("true labels", 0, "clean"), ("20% permuted", 6, "noisy")):
        drawn = line(ax, label)
        assert drawn.get_label() == f"{label} (n = 3)"
        assert list(drawn.get_xdata()) == list(EPOCHS)
        expected = [geometric([number(i, "nc1_pinv", s, e, labels=labels) for s in SEEDS]) for e in EPOCHS]
        assert list(drawn.get_ydata()) == pytest.approx(expected)


def test_other_labels_are_drawn_where_they_are_asked_for(table, ax):
    settings.compared(settings.along(table, "label_noise"), ax, metric="nc1_pinv", labels="clean")
    assert line(ax, "20%").get_ydata()[-1] == pytest.approx(
        geometric([number(6, "nc1_pinv", s, 30) for s in SEEDS])
    )


def test_marks_say_where_the_error_on_the_labels_trained_on_vanishes(table, ax):
    late = tables.select(table, optimizer="adam", metric="error", split="train", epoch=30).index
    changed = table.copy()
    changed.loc[late, "value"] = 1e-4
    settings.compared(settings.along(changed, "optimizer"), ax, metric="nc1_pinv")
    assert marks(ax) == {"blue": {30: 3}, "green": {30: 3}}
    ax.clear()
    settings.compared(settings.along(table, "label_noise"), ax, metric="nc1_pinv")
    # on the true labels the noisy runs always err
    assert marks(ax) == {colour: {30: 3} for colour in ("blue", "orange", "green")}


def test_seeds_that_share_a_mark_are_counted_and_the_others_are_not(table, ax):
    early = tables.select(table, optimizer="adam", metric="error", split="train", epoch=3, seed=1).index
    changed = table.copy()
    changed.loc[early, "value"] = 0.0
    settings.compared(settings.along(changed, "optimizer"), ax, metric="nc1_pinv")
    assert marks(ax) == {"blue": {30: 3}, "orange": {30: 2, 3: 1}, "green": {30: 3}}
    heights = {
        x.get_color(): x.get_transform().transform((1, 1))[1] for x in ax.lines if x.get_ls() == "None"
    }
    assert len(set(heights.values())) == 3, "a row for each of the runs"


def test_learning_rate_drops_are_grey_where_several_have_them_and_else_of_the_one_that_has(table, ax):
    shorter = table[table.epoch < 30].copy()
    adam = tables.select(shorter, optimizer="adam").assign(epochs=3)
    shared, own = settings.along(table, "optimizer"), {"optimizer": "adam"}
    settings.compared(shared, ax, metric="nc1_pinv")
    assert dotted(ax) == {"grey": [10.5, 20.5]}
    assert ax.get_xlim()[1] > 30
    ax.clear()
    settings.compared(
        {"Adam": adam} | {k: shared[k] for k in ("SGD", "AdamW")}, ax, metric="nc1_pinv", own=own
    )
    assert dotted(ax) == {"blue": [1.5, 2.5], "grey": [10.5, 20.5]}
    assert ax.get_xlim()[1] > 30, "the axis holds the longest of them"


def test_the_baseline_has_the_same_colour_in_every_comparison(table):
    for parameter in settings.BASELINE:
        found = settings.along(table, parameter)
        looks = dict(zip(found, settings.looks(found), strict=True))
        own = settings.name(parameter, settings.BASELINE[parameter])
        assert looks.pop(own) == (COLOURS["blue"], "o")
        assert len({(COLOURS["blue"], "o"), *looks.values()}) == len(found)


def test_a_metric_that_is_not_there_is_an_error(table, ax):
    with pytest.raises(KeyError, match="nc4_mismatch"):
        settings.compared(settings.along(table, "optimizer"), ax, metric="nc4_mismatch")
    with pytest.raises(KeyError, match="mse_total"):
        settings.parts(settings.along(table, "loss")["cross-entropy"], ax)


def test_a_seed_with_two_runs_is_an_error(table, ax):
    twice = pd.concat([table, tables.select(table, optimizer="adam").assign(run="again", train_size=5000)])
    with pytest.raises(ValueError, match="a seed stands for several runs"):
        settings.compared(settings.along(twice, "optimizer"), ax, metric="nc1_pinv")
    wider = pd.concat([table, tables.select(table, optimizer="adam").assign(run="again", width=16)])
    with pytest.raises(ValueError, match="width takes 2 values"):
        settings.along(wider, "optimizer")


def test_panels_have_one_legend_and_a_panel_each(table):
    fig = settings.panels(settings.along(table, "optimizer"), settings.CLASSIFIER)
    assert [ax.get_ylabel() for ax in fig.axes] == list(settings.CLASSIFIER)
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == ["SGD (n = 3)", "Adam (n = 3)", "AdamW (n = 3)"]
    fig.canvas.draw()
    plt.close(fig)


def test_relative_curves_begin_at_one_in_every_seed(table, ax):
    found = settings.along(table, "optimizer")
    settings.compared(found, ax, relative=True, **settings.NC0)
    assert list(line(ax, "SGD").get_ydata()) == pytest.approx([1 / epoch for epoch in EPOCHS])
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[corners[:, 0] == 30][:, 1] == pytest.approx(1 / 30), "the seeds agree but for a factor"
    ax.clear()
    settings.compared(found, ax, **settings.NC0)
    assert line(ax, "SGD").get_ydata()[0] == pytest.approx(geometric([1, 2, 3]))


def test_a_prediction_begins_at_one_and_follows_its_factor(ax):
    settings.predicted(pd.Series([0.5, 0.4, 0.1], index=EPOCHS), ax)
    (drawn,) = ax.lines
    assert list(drawn.get_xdata()) == list(EPOCHS)
    assert list(drawn.get_ydata()) == pytest.approx([1, 0.8, 0.2])


def test_parts_and_their_share(table, ax):
    squared = settings.along(table, "loss")["squared error"]
    settings.parts(squared, ax)
    for label, metric in (("$L$, the sum", "mse_total"), (r"$L_\perp$", "mse_perp")):
        assert line(ax, label).get_ydata()[0] == pytest.approx(PARTS[metric] * geometric([1, 2, 3]))
    ax.clear()
    settings.off_the_path(squared, ax)
    assert list(line(ax, r"$L_\perp\,/").get_ydata()) == pytest.approx([0.05] * 3)
    assert list(line(ax, "a tenth").get_ydata()) == [0.1, 0.1]


def test_infinity_is_no_point_of_a_curve(table, ax):
    squared = settings.along(table, "loss")["squared error"].copy()
    squared.loc[tables.select(squared, metric="snr_spread", epoch=1, seed=2).index, "value"] = math.inf
    settings.compared({"squared error": squared}, ax, metric="snr_spread")
    assert list(line(ax, "squared error").get_xdata()) == [3, 30]


def test_the_summary_draws_mean_interval_and_seeds_at_the_last_epoch(table, ax):
    found = settings.variants(table)
    settings.summary(found, ax, metric="nc1_pinv")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [f"{label} (3)" for label in found]
    noisy = names.index("20% permuted (3)")
    values = [number(6, "nc1_pinv", s, 30, labels="noisy") for s in SEEDS]
    mean, bars, points = ax.containers[noisy][0], ax.containers[noisy][2], ax.lines
    assert mean.get_xdata()[0] == pytest.approx(geometric(values))
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    ((left, _), (right, _)) = bars[0].get_segments()[0]
    assert (left, right) == pytest.approx((math.exp(low), math.exp(high)))
    assert any(list(x.get_xdata()) == pytest.approx(values) for x in points)
    assert to_hex(ax.containers[0][0].get_color()).upper() == COLOURS["blue"]


def test_a_share_has_the_plain_mean_in_curves_and_in_the_summary(table, ax):
    found = {"random labels": settings.along(table, "label_noise")["random labels"]}
    of_test = [0.1 + 0.01 * (7 + seed) for seed in SEEDS]
    settings.compared(found, ax, metric="error", split="test", labels="clean")
    assert list(line(ax, "random").get_ydata()) == pytest.approx([np.mean(of_test)] * 3)
    ax.clear()
    settings.summary(found, ax, metric="error", split="test", labels="clean")
    assert ax.containers[0][0].get_xdata()[0] == pytest.approx(np.mean(of_test))
    assert geometric(of_test) != pytest.approx(np.mean(of_test), rel=1e-5)


def test_two_seeds_have_no_interval_and_a_missing_last_epoch_is_an_error(table, ax):
    two = table[table.seed < 2]
    settings.summary(settings.variants(two), ax, metric="nc1_pinv")
    assert ax.containers
    assert not any(len(segment) for c in ax.containers for segment in c[2][0].get_segments())
    gap = table.drop(tables.select(table, metric="nc1_pinv", epoch=30, seed=1).index)
    with pytest.raises(KeyError, match="not measured at epoch 30 for every seed"):
        settings.final(settings.along(gap, "optimizer")["Adam"], "nc1_pinv")


def test_ratios_are_formed_within_seeds_and_name_both_sides(table):
    noise = settings.along(table, "label_noise")
    shown = {
        "NC1": {"metric": "nc1_pinv"},
        "test NC1": {"metric": "nc1_pinv", "split": "test", "labels": "clean"},
    }
    found = settings.ratios(noise, [("20% permuted", "true labels")], shown)
    assert list(found.columns) == ["20% permuted / true labels"]
    # The seventh setting over the first; on training images those labels are the noisy ones, three times as much.
    assert found.iloc[:, 0].to_dict() == {"NC1": "21 [21, 21], n = 3", "test NC1": "7 [7, 7], n = 3"}
    missing = noise | {"20% permuted": tables.select(noise["20% permuted"], seed=[0, 1])}
    assert (
        settings.ratios(missing, [("20% permuted", "true labels")], shown).iloc[0, 0].startswith("21 (n = 2")
    )
