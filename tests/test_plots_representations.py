"""Figures of the representations chapter that take CKA apart: what is drawn is what the table holds."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import nclib
from nclib import geometry
from nclib.plots import representations, representations_apart
from nclib.plots.representations_shared import by_epoch, ends, marks

LAYERS, SEEDS, EPOCHS = ("stem", "block1", "block2", "features"), (0, 1, 2), (0, 1, 4)


def pairs(seeds=SEEDS, **about):
    """Rows of pairs at epochs 0, 1, 4; every value is its metric's, a hundredth more per epoch and per seed."""
    rows = []
    for seed in seeds:
        run = {"run": f"r{seed}{about}", "seed": seed, "epochs": 4, "architecture": "resnet1d", "width": 8}
        run |= {"width_b": 64, "label_noise": 0.2, "noise_model": "symmetric_including_true"} | about
        for epoch in EPOCHS:

            def row(layer, metric, value, split, labels="none", run=run, epoch=epoch, seed=seed):
                where = {"epoch": epoch, "split": split, "labels": labels, "layer": layer, "metric": metric}
                rows.append(run | where | {"value": value + epoch / 100 + seed / 100})

            for name in LAYERS:
                pair = f"{name}|{name}"
                for split, base in (
                    ("train", 0.5), ("test", 0.4), ("train_correct", 0.6), ("train_mislabelled", 0.2)
                ):  # fmt: skip
                    row(pair, "cka_linear", base + 0.05, split)
                    row(pair, "cka_linear_debiased", base, split)
                for split in ("train", "test"):
                    row(f"{name}@previous|{name}", "cka_linear_debiased", 0.8, split)
                    row(pair, "cka_linear_permuted", 0.01, split)
                    row(pair, "cka_linear_permuted_debiased", 0.0, split)
                    row(pair, "procrustes_similarity", 0.7, split)
                    for labels in ("noisy", "clean") if split == "train" else ("clean",):
                        shift = 0.1 if labels == "noisy" else 0.0
                        row(pair, "cka_class_means", 0.8 + shift, split, labels)
                        row(pair, "cka_residuals_debiased", 0.1 + shift, split, labels)
                row(pair, "cka_linear_flattened", 0.9, "test")
                row(pair, "cka_linear_flattened_debiased", 0.3, "test")
            for split, labels, value in (
                ("train", "noisy", 0.3), ("train", "clean", 0.6), ("test", "clean", 0.5)
            ):  # fmt: skip
                row("features|labels", "cka_linear_debiased", value, split, labels)
                for network in "AB":
                    row(network, "nc1_trace_ratio", 2 * value, split, labels)
                    row(network, "loss", 1 + value, split, labels)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def rows():
    return pairs()


def heights(ax):
    """Mean of every series of marks at its first layer, by label without its n."""
    found = {str(c.get_label()).split(" (n")[0]: c.lines[0].get_ydata()[0] for c in ax.containers}
    assert len(found) == len(ax.containers)
    return found


def title(ax):
    return ax.get_title(mpl.rcParams["axes.titlelocation"])


def drawn(ax, label):
    return next(line for line in ax.lines if str(line.get_label()).startswith(label))


def test_of_several_label_sets_the_one_trained_on_is_read_unless_another_is_named(rows):
    assert by_epoch(rows, "A", "loss", "train").loc[0, 1] == pytest.approx(1.31)
    assert by_epoch(rows, "A", "loss", "train", "clean").loc[0, 1] == pytest.approx(1.61)
    assert by_epoch(rows, "A", "loss", "test").loc[0, 1] == pytest.approx(1.51)
    with pytest.raises(KeyError, match="loss of A"):
        by_epoch(rows, "A", "loss", "fresh")


def test_ends_are_the_last_epoch_or_none_at_all(rows):
    (last,) = ends(rows, ["stem|stem"])
    (first,) = ends(rows, ["stem|stem"], trained=False)
    assert list(last) == pytest.approx([0.44, 0.45, 0.46])
    assert list(first) == pytest.approx([0.40, 0.41, 0.42])


def test_marks_have_an_interval_from_three_values_on_and_say_how_many(ax):
    marks([pd.Series([1.0, 2.0, 3.0]), pd.Series([2.0, 2.0, 2.0])], ax, label="x", colour="b", marker="o")
    marks([pd.Series([1.0, 2.0])], ax, label="y", colour="b", marker="o", filled=False)
    three, two = ax.containers
    assert three.has_yerr and not two.has_yerr
    assert [three.get_label(), two.get_label()] == ["x (n = 3 pairs)", "y (n = 2 pairs)"]
    assert two.lines[0].get_markerfacecolor() == "white" != three.lines[0].get_markerfacecolor()
    singles = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "."]
    assert singles == [[1, 2, 3], [2, 2, 2], [1, 2]]


def test_drift_since_the_previous_measurement(rows, ax):
    representations.drift(rows, ax, reference="previous")
    assert list(drawn(ax, "stem").get_ydata()) == pytest.approx([0.82, 0.85])
    assert "one measurement before" in title(ax)


def test_seeds_stand_between_a_ceiling_and_a_null_where_these_are_asked_for(rows, ax):
    representations.across_seeds(rows, ax, shared=pairs().assign(value=lambda t: t.value + 0.5), null=True)
    assert heights(ax) == pytest.approx(
        {
            "trained from the same weights, other order": 0.95,
            "trained, 4 epochs": 0.45,
            "untrained": 0.41,
            "trained, samples of B permuted": 0.05,
        }
    )
    _, other = plt.subplots()
    representations.across_seeds(rows, other)
    assert set(heights(other)) == {"trained, 4 epochs", "untrained"}
    plt.close(other.figure)


def test_n_goes_into_the_title_where_it_is_the_same_for_all(ax):
    for label in ("a (n = 3)", "b (n = 3 pairs)"):
        ax.plot([0], [0], label=label)
    ax.set_title("t")
    representations_apart.n_in_title(ax)
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]
    assert title(ax) == "t, n = 3"
    ax.plot([0], [0], label="c (n = 3)")
    ax.plot([0], [0], label="d (n = 4)")
    representations_apart.n_in_title(ax)
    assert ax.get_legend_handles_labels()[1][2:] == ["c (n = 3)", "d (n = 4)"], "the control: two n stay"
    assert title(ax) == "t, n = 3"


def test_features_are_not_drawn_beside_the_block_that_they_are(rows, ax):
    assert representations_apart.distinct(rows) == ["stem", "block1", "block2"]
    representations_apart.estimators(rows, ax)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["stem", "block1", "block2"]


def test_averaged_and_flattened_activations_stand_beside_their_own_nulls(rows, ax):
    representations_apart.estimators(rows, ax)
    assert heights(ax) == pytest.approx(
        {
            "trained, biased": 0.50,
            "trained, debiased": 0.45,
            "unrelated samples, biased": 0.06,
            "unrelated samples, debiased": 0.05,
        }
    )
    layers = ("stem", "block1", "block2")
    null = pd.DataFrame(
        [
            {"layer": layer, "seed": seed, "biased": 0.7, "debiased": -0.1}
            for layer in layers
            for seed in SEEDS
        ]
    )
    _, other = plt.subplots()
    representations_apart.estimators(rows, other, null=null)
    assert list(heights(other).values()) == pytest.approx([0.95, 0.35, 0.7, -0.1])
    assert title(other).startswith("Flattened")
    plt.close(other.figure)


def test_right_and_wrong_labels_are_drawn_apart(rows, ax):
    representations_apart.label_parts(rows, ax)
    assert heights(ax) == pytest.approx(
        {
            "correctly labelled, 4 epochs": 0.65,
            "correctly labelled, untrained": 0.61,
            "mislabelled, 4 epochs": 0.25,
            "mislabelled, untrained": 0.21,
        }
    )
    assert title(ax) == "Widths 8 and 64, n = 3"


@pytest.mark.parametrize("model", ["symmetric_including_true", "symmetric_excluding_true"])
def test_the_line_is_the_cka_of_features_collapsed_on_the_other_labels(rows, ax, model):
    rng, N, q = np.random.default_rng(0), 20_000, 0.2
    true = np.arange(N) % 10
    redrawn = (true + rng.integers(0 if model.endswith("including_true") else 1, 10, N)) % 10
    noisy = np.where(rng.random(N) < q, redrawn, true)
    H, one_hot = geometry.simplex_etf(10), torch.eye(10)
    representations_apart.label_alignment(rows.assign(noise_model=model), ax)
    line = drawn(ax, "collapsed on the other").get_ydata()[0]
    assert nclib.cka(H[noisy], one_hot[true], debiased=True) == pytest.approx(line, abs=0.01)
    assert nclib.cka(H[true], one_hot[noisy], debiased=True) == pytest.approx(line, abs=0.01)
    assert nclib.cka(H[noisy], one_hot[noisy], debiased=True) == pytest.approx(1) != line


def test_label_alignment_keeps_the_label_sets_apart_and_needs_noise_for_its_line(rows, ax):
    representations_apart.label_alignment(rows, ax)
    ends_at = {
        label: drawn(ax, label).get_ydata()[-1]
        for label in ("training points, noisy", "training points, true", "test points, true")
    }
    assert list(ends_at.values()) == pytest.approx([0.35, 0.65, 0.55])
    assert list(drawn(ax, "test points").get_xdata()) == [1, 4]
    _, other = plt.subplots()
    representations_apart.label_alignment(pairs(label_noise=0.0), other)
    assert not any("collapsed" in str(line.get_label()) for line in other.lines)
    plt.close(other.figure)


def test_the_loss_is_that_of_the_labels_trained_on(rows, ax):
    representations_apart.training_loss(rows, ax)
    values = [1.31 * 1.32 * 1.33, 1.34 * 1.35 * 1.36]
    assert list(drawn(ax, "training loss").get_ydata()) == pytest.approx([v ** (1 / 3) for v in values])


@pytest.mark.parametrize(("split", "shift"), [("train", 0.1), ("test", 0.0)])
def test_class_means_and_residuals_are_those_of_the_labels_trained_on(rows, ax, split, shift):
    representations_apart.parts(rows, ax, split=split)
    whole = 0.55 if split == "train" else 0.45
    expected = [whole, 0.85 + shift, 0.15 + shift, 0.75]
    assert list(heights(ax).values()) == pytest.approx(expected)
    with pytest.raises(KeyError, match="procrustes"):
        representations_apart.parts(rows[rows.metric != "procrustes_similarity"], ax, split=split)


def test_predicted_stands_against_measured_and_every_group_ends_in_a_mark(rows, ax):
    representations_apart.against_prediction({"one": rows, "two": pairs((0, 1))}, ax, split="train")
    one, two = ax.containers
    assert [one.get_label(), two.get_label()] == ["one (n = 3)", "two (n = 2)"]
    assert one.has_xerr and one.has_yerr and not two.has_xerr and not two.has_yerr
    (x,), (y,) = one.lines[0].get_data()
    last = [2 * 0.3 + 0.04 + seed / 100 for seed in SEEDS]
    factors = [[representations.collapse_limited(t, p) for p in (8, 64)] for t in last]
    assert x == pytest.approx(np.mean([1 / math.sqrt(a * b) for a, b in factors]))
    assert y == pytest.approx(0.55)
    path = ax.lines[0]
    assert (path.get_xdata()[-1], path.get_ydata()[-1]) == pytest.approx((x, y))
    assert len(path.get_xdata()) == 2, "epoch 0 is no part of training"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_one_or_two_pairs_are_drawn_without_intervals(seeds, ax):
    few = pairs(seeds)
    figure, axes = plt.subplots(1, 5)
    representations_apart.estimators(few, axes[0])
    representations_apart.label_parts(few, axes[1])
    representations_apart.label_alignment(few, axes[2])
    representations_apart.parts(few, axes[3], split="test", trained=False)
    representations_apart.against_prediction({"few": few}, axes[4], split="test")
    assert not any(c.has_yerr for panel in axes for c in panel.containers)
    figure.canvas.draw()
    plt.close(figure)
