"""Figures of trained networks: comparisons hold the runs they name, and curves the numbers of the table."""

import itertools
import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclib.plots import COLOURS, settings
from nclib.plots import real_networks as draw

SEEDS, EPOCHS = (0, 1, 2), (1, 4, 12)
PARAMS = draw.BASELINE | {
    "weight_decay": 5e-4, "loss": "cross_entropy", "precision": "float32",
    "dataset": "mnist1d", "architecture": "mlp", "train_size": 3900, "width": 256, "schedule": "step", "epochs": 12,
    "lr": 0.05, "batch_size": 128,
}  # fmt: skip
CHANGES = (
    {}, {"optimizer": "lbfgs"}, {"optimizer": "adamw"}, {"decayed": "last_layer"},
    {"decayed": "last_layer", "feature_decay": 5e-3}, {"decayed": "last_layer_normalised", "feature_decay": 5e-3},
    {"classifier": "etf"}, {"classifier": "etf", "feature_dim": 10}, {"classifier": "hypercube"},
    {"label_noise": 1.0, "width": 8}, {"label_noise": 1.0, "width": 64},
)  # fmt: skip
METRICS = ("nc1_pinv", "nc2_etf_weights", "nc3_etf", "bias_collapse", "error")


def number(i, metric, seed, epoch):
    """A number that differs in every setting, metric, seed and epoch; of an error, a share."""
    return (1 + i) * (1 + len(metric)) * (1 + 0.1 * seed) / epoch / (1000 if metric == "error" else 1)


def run(i, change, seed):
    about = PARAMS | change | {"seed": seed, "run": f"{i}-{seed}"}
    sets = [("train", "clean"), ("test", "clean")] + [("train", "noisy")] * ("label_noise" in change)
    for epoch, (split, labels), metric in itertools.product(EPOCHS, sets, METRICS):
        yield about | {
            "split": split, "labels": labels, "layer": "features", "metric": metric, "epoch": epoch,
            "value": number(i, metric, seed, epoch) * (2 if split == "test" else 1) * (3 if labels == "noisy" else 1),
        }  # fmt: skip
    if change.get("feature_decay"):
        for epoch in EPOCHS:
            yield about | {
                "split": "train", "labels": "clean", "layer": "all", "metric": "objective_gap", "epoch": epoch,
                "value": number(i, "objective_gap", seed, epoch),
            }  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame([row for i, c in enumerate(CHANGES) for seed in SEEDS for row in run(i, c, seed)])


@pytest.fixture(autouse=True)
def drawn():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()  # what cannot be drawn fails here
    plt.close("all")


@pytest.mark.parametrize(
    ("along", "names"),
    [
        (draw.optimisers, ["SGD", "AdamW", "L-BFGS"]),
        (draw.decays, ["every parameter", "classifier and features", "classifier alone", "as released"]),
        (draw.classifiers, ["learned", "simplex ETF", "hypercube", "simplex ETF, d = 10"]),
    ],
)
def test_a_comparison_names_each_run_once_and_none_on_random_labels(table, along, names):
    found = along(table)
    assert list(found) == names
    keys = [key for rows in found.values() for key in rows.run.unique()]
    assert len(keys) == len(set(keys)) == 3 * len(names)
    assert not any((rows.label_noise > 0).any() for rows in found.values())


def test_what_is_compared_is_what_the_name_says(table):
    found = draw.decays(table)
    assert set(found["classifier and features"].run) == {f"4-{s}" for s in SEEDS}
    assert set(found["classifier alone"].run) == {f"3-{s}" for s in SEEDS}
    assert set(found["as released"].run) == {f"5-{s}" for s in SEEDS}
    assert set(draw.classifiers(table)["simplex ETF, d = 10"].run) == {f"7-{s}" for s in SEEDS}


@pytest.mark.parametrize("along", [draw.optimisers, draw.decays, draw.classifiers])
def test_a_comparison_has_two_sides_or_is_none(table, along):
    plain = table[table.run.str.startswith("0-")]
    assert along(plain) == {}
    assert along(table[~table.run.str.startswith("0-")]) == {}


def test_the_plain_case_is_blue_and_round_in_every_comparison(table):
    for along in (draw.optimisers, draw.decays, draw.classifiers):
        found = along(table)
        looks = dict(zip(found, settings.looks(found, draw.BASELINE), strict=True))
        (own,) = [label for label in found if looks[label] == (COLOURS["blue"], "o")]
        assert own == next(iter(found))
    assert (COLOURS["blue"], "o") not in settings.looks(found), (
        "the other chapter's baseline is another network"
    )


def made(*changes):
    return pd.DataFrame(
        [row for i, change in enumerate(changes) for seed in SEEDS for row in run(i, change, seed)]
    )


def keys_of(found):
    return {text: {key.split("-")[0] for key in rows.run} for text, rows in found.items()}


def test_settings_that_would_share_a_name_say_what_they_are_and_none_is_lost():
    table = made(
        {}, {"lr": 0.2}, {"optimizer": "adam", "lr": 1e-3}, {"decayed": "last_layer"},
        {"decayed": "last_layer", "feature_decay": 1e-3}, {"decayed": "last_layer", "feature_decay": 0.02},
    )  # fmt: skip
    found = draw.optimisers(table)
    assert keys_of(found) == {
        "SGD, rate 0.05, batch 128, 12 epochs": {"0"}, "SGD, rate 0.2, batch 128, 12 epochs": {"1"}, "Adam": {"2"},
    }  # fmt: skip
    assert [look == (COLOURS["blue"], "o") for look in settings.looks(found, draw.BASELINE)] == [1, 0, 0]
    assert keys_of(draw.decays(table[table.lr == 0.05])) == {
        "every parameter": {"0"}, "classifier alone": {"3"},
        "classifier and features, 0.001": {"4"}, "classifier and features, 0.02": {"5"},
    }  # fmt: skip


def test_the_distance_from_the_minimum_needs_no_second_side_but_a_known_minimum(table):
    peeled = {"decayed": "last_layer", "feature_decay": 5e-3}
    alone = made(peeled, {"decayed": "last_layer", "feature_decay": 0.02})
    assert keys_of(draw.peeled(alone)) == {5e-3: {"0"}, 0.02: {"1"}}
    assert keys_of(draw.peeled(table)) == {5e-3: {"4"}}, "as released it is the distance of something else"
    assert draw.peeled(made({}, {"decayed": "last_layer"})) == {}
    assert draw.peeled(alone[alone.metric != "objective_gap"]) == {}
    assert draw.peeled(made(peeled | {"classifier": "etf"})) == {}


def test_the_table_of_ends_holds_each_measures_mean_over_seeds_at_the_last_epoch(table):
    ends = draw.at_end(draw.optimisers(table))
    assert list(ends.index) == ["SGD", "AdamW", "L-BFGS"] and list(ends.columns) == list(draw.COLLAPSE)
    for text, i in (("SGD", 0), ("L-BFGS", 1), ("AdamW", 2)):
        mean = {m: sum(number(i, m, s, EPOCHS[-1]) for s in SEEDS) / len(SEEDS) for m in METRICS}
        wanted = [mean["nc1_pinv"], mean["nc2_etf_weights"], mean["nc3_etf"], 2 * mean["error"]]
        assert ends.loc[text].tolist() == pytest.approx(wanted)


def test_random_labels_are_read_at_the_last_epoch_on_the_labels_trained_on(table):
    frame = draw.by_width(table, "nc1_pinv")
    assert list(frame.columns) == [8, 64]
    assert frame[8].tolist() == pytest.approx([3 * number(9, "nc1_pinv", s, 12) for s in SEEDS])
    with pytest.raises(KeyError, match="no runs on random labels"):
        draw.by_width(table[table.label_noise == 0], "nc1_pinv")


def test_random_labels_under_another_optimiser_are_another_comparison(table):
    other = made({"label_noise": 1.0, "width": 8, "optimizer": "adam"}).assign(run="other")
    both = pd.concat([table, other])
    pd.testing.assert_frame_equal(draw.by_width(both, "error"), draw.by_width(table, "error"))


def test_the_bias_is_drawn_as_it_is_and_not_over_its_first_value(table):
    _, ax = plt.subplots()
    ((_, options),) = draw.BIAS.items()
    found = {"SGD": draw.optimisers(table)["SGD"]}
    settings.compared(found, ax, own=draw.BASELINE, **options)
    ends = draw.first_and_last(found, options["metric"]).loc["SGD"]
    geometric = [math.prod(number(0, "bias_collapse", s, e) for s in SEEDS) ** (1 / 3) for e in EPOCHS]
    assert list(ax.lines[0].get_ydata()) == pytest.approx(geometric)
    assert ends.tolist() == pytest.approx([geometric[0], geometric[-1]])
    # Control: over the first value the curve would begin at 1.
    assert geometric[0] > 2


def test_what_random_labels_are_held_against_is_the_plain_case_at_that_width(table):
    wide = made({"width": 64}, {"width": 64, "optimizer": "adamw"})
    both = pd.concat([table, wide.assign(run="wide-" + wide.run)])
    ends = {m: math.prod(number(0, m, s, 12) for s in SEEDS) ** (1 / 3) for m in METRICS[:3]}
    assert draw.on_true_labels(both, 64) == pytest.approx(ends)
    assert draw.on_true_labels(both, 8) == {}, "only random labels were trained on at this width"
    _, axes = plt.subplots(1, 2)
    draw.collapsed(table, axes[0], below=0.2, true=draw.on_true_labels(both, 64))
    dashed = [line for line in axes[0].lines if line.get_linestyle() == "--" and len(line.get_ydata())]
    assert [line.get_ydata()[0] for line in dashed] == pytest.approx(list(ends.values()))
    colours = [to_hex(line.get_color()) for line in axes[0].lines if line.get_linestyle() == "-"]
    assert [to_hex(line.get_color()) for line in dashed] == colours
    assert "on true labels, width 64" in axes[0].get_legend_handles_labels()[1]
    # Control: without such runs there is no line of them.
    draw.collapsed(table, axes[1], below=0.2, true={})
    assert not any(line.get_linestyle() == "--" for line in axes[1].lines)


def test_the_curves_over_widths_are_means_of_what_was_measured(table):
    _, axes = plt.subplots(1, 2)
    draw.memorised(table, axes[0])
    draw.collapsed(table, axes[1], below=0.2, true={})
    (line,) = axes[0].lines
    expected = draw.by_width(table, "error").mean()
    assert list(line.get_xdata()) == [8, 64]
    assert list(line.get_ydata()) == pytest.approx(expected.tolist())
    assert len(axes[1].lines) == 4
    assert list(axes[1].lines[-1].get_ydata()) == [0.2, 0.2]
    assert all("n = 3" in ax.get_legend_handles_labels()[1][0] for ax in axes)
    assert len({to_hex(entry.get_color()) for entry in axes[1].lines}) == 4


def test_the_line_above_random_labels_says_how_they_were_trained(table):
    random = table[table.label_noise == 1]
    ours = draw.on_random_labels(random.assign(depth=4))
    source = draw.on_random_labels(random.assign(depth=6, lr=0.01, batch_size=64, weight_decay=1e-4))
    assert ours.endswith("4 hidden layers, SGD at rate 0.05, batches of 128, weight decay 0.0005")
    assert source.endswith("6 hidden layers, SGD at rate 0.01, batches of 64, weight decay 0.0001")
    assert ours.splitlines()[0] == source.splitlines()[0] and "width as below" in ours
    assert "hidden layers" not in draw.on_random_labels(random.assign(depth=4, architecture="resnet18"))
    with pytest.raises(ValueError, match="lr takes 2 values"):
        draw.on_random_labels(pd.concat([random, random.assign(lr=1.0)]).assign(depth=4))


def test_the_gap_is_drawn_beside_the_least_that_a_relu_allows(table):
    (rows,) = draw.peeled(table).values()
    _, ax = plt.subplots()
    draw.above_the_minimum(rows, ax, non_negative=0.05)
    curve, dashes = ax.lines[:2]
    logs = [pd.Series([number(4, "objective_gap", s, e) for s in SEEDS]).map(math.log).mean() for e in EPOCHS]
    assert pd.Series(curve.get_ydata()).map(math.log).tolist() == pytest.approx(logs)
    assert list(dashes.get_ydata()) == [0.05, 0.05] and dashes.get_linestyle() == "--"
