"""Figures of the MNIST-1D chapters: what is drawn is what the table holds, and the lines of theory are right."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import nclib
from nclib import geometry
from nclib.plots import double_descent, feature_dimension, mnist1d, representations
from nclib.plots.style import half_width

WIDTHS, SEEDS = (2, 8, 16), (0, 1, 2)
DIMENSIONS = (2, 5, 9, 16)
PARAMETERS = {2: 94, 8: 952, 16: 3440}


def run(values, *, seed=0, epochs=5, architecture="resnet1d", optimizer="sgd", width=8, feature_dim=0):
    """Rows of one run: (split, labels, metric) to the last epoch's value; at epoch 0 everything is 77."""
    about = {
        "run": f"{architecture}-{optimizer}-{width}-{feature_dim}-{seed}",
        "seed": seed,
        "epochs": epochs,
    }
    about |= {
        "architecture": architecture,
        "optimizer": optimizer,
        "width": width,
        "feature_dim": feature_dim,
    }
    about |= {"label_noise": 0.2, "noise_model": "symmetric_including_true", "fresh_size": 500}
    rows = [
        about | {"split": s, "labels": y, "layer": "features", "metric": m, "epoch": epoch, "value": v}
        for (s, y, m), last in values.items()
        for epoch, v in ((0, 77.0), (epochs, last))
    ]
    size = {"split": "none", "labels": "none", "layer": "all", "metric": "parameters", "epoch": 0}
    return [*rows, about | size | {"value": float(PARAMETERS[width])}]


def measured(width, seed, shift=0.0):
    error = {2: 0.5, 8: 0.08, 16: 0.005}[width] + shift
    return {
        ("train", "noisy", "error"): error,
        ("test", "clean", "error"): error + 0.1,
        ("fresh", "clean", "error"): error + 0.11 + seed / 100,
        ("train_mislabelled", "noisy", "error"): 1 - width / 20,
        ("train_mislabelled", "clean", "error"): width / 20,
        ("train", "noisy", "nc1_trace_ratio_weighted"): 1 / width,
        ("train", "clean", "nc1_trace_ratio_weighted"): 2 / width,
        ("train", "noisy", "nc2_gram_frobenius"): 10 / width,
        ("train", "noisy", "nc3_rows_uncentred"): 4.0,
        ("train", "noisy", "nc3_cosine"): 0.2,
        ("train", "noisy", "global_mean_ratio"): 1 / 3,
        ("train", "noisy", "nc4_mismatch"): 0.0,
        ("train", "noisy", "participation_ratio_means"): 2.0,
    }


@pytest.fixture(scope="module")
def table():
    rows = [
        row
        for architecture in ("resnet1d", "cnn1d")
        for optimizer in ("sgd", "adam")
        for width in WIDTHS
        for seed in SEEDS
        for row in run(
            measured(width, seed), seed=seed, architecture=architecture, optimizer=optimizer, width=width
        )
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def one(table):
    return mnist1d.of(table, architecture="resnet1d", optimizer="sgd")


@pytest.fixture(scope="module")
def dimensions():
    rows = []
    for d in DIMENSIONS:
        values = measured(8, 0) | {
            ("train", "noisy", "nc2_gram_frobenius"): geometry.nc2_gram_floor(10, d) + 0.3
        }
        rows += [row for seed in SEEDS for row in run(values, seed=seed, feature_dim=d)]
    return pd.DataFrame(rows)


PUBLISHED = pd.DataFrame(
    [
        {"figure": figure, "architecture": "resnet1d", "optimizer": optimizer, "width": 8, "parameters": 952}
        | {"metric": metric, "value": value}
        for figure, optimizer, metric, value in (
            ("final", "sgd", "test_error", 0.076),
            ("earlier_run", "sgd", "test_error", 0.08),
            ("final", "adam", "test_error", 0.125),
            ("final", "sgd", "nc2_gram_frobenius", 2.62),
        )
    ]
)


def drawn(ax, label):
    return next(line for line in ax.lines if str(line.get_label()).startswith(label))


def title(ax):
    return "".join(ax.get_title(loc=loc) for loc in ("left", "center"))


def labels(ax):
    return [str(line.get_label()) for line in ax.lines]


# Double descent


def test_a_curve_stands_at_the_recorded_parameters_and_the_last_epoch(one, ax):
    double_descent.errors(one, ax)
    assert list(drawn(ax, "training error").get_xdata()) == list(PARAMETERS.values())
    assert list(drawn(ax, "training error").get_ydata()) == pytest.approx([0.5, 0.08, 0.005])
    assert list(drawn(ax, "error on 500 fresh").get_ydata()) == pytest.approx([0.62, 0.20, 0.125])
    assert "n = 3" in drawn(ax, "training error").get_label()


def test_a_run_that_stops_early_is_not_drawn_at_its_last_measurement(one):
    with pytest.raises(KeyError, match="error"):
        mnist1d.at_end(one[one.epoch < one.epochs], "error", by="width", **mnist1d.TRAIN)


def test_a_metric_or_configuration_that_is_not_there_is_an_error(one, ax):
    with pytest.raises(KeyError, match="nc3_cosine"):
        double_descent.nc3(one[one.metric != "nc3_cosine"], ax)
    with pytest.raises(KeyError, match="adamw"):
        mnist1d.of(one, optimizer="adamw")


def test_interpolation_is_the_first_size_at_or_below_and_none_when_never_reached():
    errors = pd.DataFrame({10: [0.5, 0.5], 20: [0.0, 0.1], 40: [0.01, 0.0], 80: [0.2, 0.2]})
    assert double_descent.interpolation(errors, 0.05) == 20
    assert double_descent.interpolation(errors, 0.01) == 40
    assert double_descent.interpolation(errors, 0.001) is None


def test_thresholds_are_marked_only_where_training_error_gets_there(one, ax):
    double_descent.errors(one, ax)
    marks = {label: drawn(ax, label).get_xdata()[0] for label in labels(ax) if "mean training" in label}
    assert marks == {"mean training error first ≤ 10%": 952, "mean training error first ≤ 1%": 3440}
    _, other = plt.subplots()
    double_descent.errors(one[one.width < 16], other)
    assert not any("≤ 1%" in label for label in labels(other))
    plt.close(other.figure)


def test_published_points_are_open_and_those_of_the_same_configuration(one, ax):
    double_descent.errors(one, ax, published=PUBLISHED)
    points = [line for line in ax.lines if "published" in str(line.get_label())]
    assert [list(line.get_ydata()) for line in points] == [[0.076], [0.08]]
    assert all(line.get_markerfacecolor() == "none" and line.get_linestyle() == "None" for line in points)
    _, other = plt.subplots()
    double_descent.errors(one, other)
    assert not any("published" in label for label in labels(other))
    plt.close(other.figure)


@pytest.mark.parametrize("model", ["symmetric_including_true", "symmetric_excluding_true"])
def test_the_offset_is_what_relabelling_does_to_collapsed_features(model):
    rng, N, q = np.random.default_rng(0), 40_000, 0.2
    true = np.arange(N) % 10
    redrawn = (true + rng.integers(0 if model.endswith("including_true") else 1, 10, N)) % 10
    noisy = np.where(rng.random(N) < q, redrawn, true)
    H = geometry.simplex_etf(10).numpy()

    def nc1(features, y):
        return nclib.measure_features(features, y)["nc1_trace_ratio_weighted"]

    offset = double_descent.relabelling_offset(q, model)
    assert nc1(H[true], noisy) == pytest.approx(offset, rel=0.03)
    assert nc1(H[noisy], true) == pytest.approx(offset, rel=0.03)
    assert nc1(H[noisy], noisy) < 1e-12 < offset


def test_the_offset_is_drawn_where_the_study_needs_it_and_vanishes_without_noise(one, ax):
    double_descent.nc1(one, ax)
    assert drawn(ax, "collapsed on the other").get_ydata()[0] == pytest.approx(0.5625)
    assert double_descent.relabelling_offset(0.0, "symmetric_including_true") == 0


@pytest.mark.parametrize(("d", "value"), [(9, 3.08), (16, 2.34), (32, 1.64), (64, 1.15), (128, 0.82)])
def test_random_means_have_the_nc2_known_for_them_and_never_less_than_the_floor(d, value):
    assert mnist1d.random_means_nc2(d) == pytest.approx(value, rel=0.02)
    assert mnist1d.random_means_nc2(4) > geometry.nc2_gram_floor(10, 4) > 0


@pytest.mark.parametrize("rho", [1 / 3, 1.0, 5**0.5])
def test_uncentred_means_alone_make_this_much_nc3(rho):
    centred = np.hstack([geometry.simplex_etf(10).numpy(), np.zeros((10, 1))])
    means = centred + rho * np.eye(10)[9]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert double_descent.uncentred_nc3(rho) == pytest.approx(np.linalg.norm(centred - means), rel=1e-12)
    assert double_descent.uncentred_nc3(0.0) == 0


def test_nc3_with_centred_means_is_on_the_scale_of_the_uncentred_one(one, ax):
    double_descent.nc3(one, ax)
    assert drawn(ax, "centred means").get_ydata()[0] == pytest.approx((20 * 0.2) ** 0.5)
    assert drawn(ax, "uncentred means (").get_ydata()[0] == 4.0
    assert drawn(ax, "uncentred means, if").get_ydata()[0] == pytest.approx(1.013, abs=1e-3)


def test_nc2_stands_at_the_feature_dimension_and_on_the_floor_it_was_given(table, ax):
    cnn = mnist1d.of(table, architecture="cnn1d")
    double_descent.nc2(cnn, ax, floor=geometry.nc2_gram_floor)
    assert list(drawn(ax, "SGD").get_xdata()) == [4, 16, 32]
    floor = drawn(ax, "attainable floor")
    expected = [geometry.nc2_gram_floor(10, int(d)) for d in floor.get_xdata()]
    assert list(floor.get_ydata()) == pytest.approx(expected)
    assert expected[0] > 6 and expected[-1] == 0


def test_memorised_and_resisted_shares_are_one_less_the_errors(table, ax):
    double_descent.memorisation(mnist1d.of(table, architecture="resnet1d"), ax)
    assert list(drawn(ax, "predicted as the wrong label, SGD").get_ydata()) == pytest.approx([0.1, 0.4, 0.8])
    assert list(drawn(ax, "predicted as the true label, Adam").get_ydata()) == pytest.approx([0.9, 0.6, 0.2])


def test_nc4_draws_zeros_and_both_optimisers(table, ax):
    double_descent.nc4(mnist1d.of(table, architecture="resnet1d"), ax)
    assert [list(drawn(ax, name).get_ydata()) for name in ("SGD", "Adam")] == [[0, 0, 0]] * 2


def test_rank_correlation_is_one_for_any_rising_curve_and_minus_one_for_a_falling_one():
    x = pd.DataFrame({w: [w, 2.0 * w] for w in WIDTHS})
    assert list(double_descent.rank_correlation(x, x**3)) == pytest.approx([1, 1])
    assert list(double_descent.rank_correlation(x, -(x**3))) == pytest.approx([-1, -1])


def test_the_scatter_says_its_correlation_and_names_every_width(one, ax):
    double_descent.error_against_nc1(one, ax)
    assert "ρ = 1.00" in title(ax)
    assert [text.get_text() for text in ax.texts] == [str(w) for w in WIDTHS]


def test_width_labels_stand_outside_a_bend_of_the_path():
    angle = np.linspace(0, 1.5 * np.pi, 9)
    x, y = 3 * np.cos(angle), 0.2 * np.sin(angle)
    out = double_descent._outwards(x, y)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1)
    inner = slice(1, -1)
    assert (out[inner] * np.column_stack([x, y])[inner] >= 0).all()
    inside = double_descent._outwards(-x[::-1], y[::-1])
    assert not np.allclose(inside, out), "the control: another path has other sides"
    np.testing.assert_allclose(double_descent._outwards(np.ones(1), np.ones(1)), [[0, 1]])


def test_panels_deal_out_every_configuration_once_with_one_legend(table, one):
    figure = mnist1d.panels(table, double_descent.errors)
    titles = [title(ax) for ax in figure.axes if ax.get_visible()]
    assert titles == [f"{a}, {o}: 5 epochs" for a in ("ResNet1D", "CNN1D") for o in ("SGD", "Adam")]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(entries) == len(set(entries)) == 5
    three = table[(table.architecture == "resnet1d") | (table.optimizer == "sgd")]
    for rows, count in ((three, 3), (one, 1)):
        figure = mnist1d.panels(rows, double_descent.nc1)
        assert sum(ax.get_visible() for ax in figure.axes) == count
    plt.close("all")


# Feature dimension


def test_excess_is_what_exceeds_the_floor(dimensions, ax):
    feature_dimension.excess(dimensions, ax, floor=geometry.nc2_gram_floor)
    assert list(drawn(ax, "ours").get_ydata()) == pytest.approx([0.3] * len(DIMENSIONS))
    assert list(drawn(ax, "ours").get_xdata()) == list(DIMENSIONS)


def test_nc2_of_the_dimension_chapter_is_drawn_as_recorded(dimensions, ax):
    theirs = pd.DataFrame(
        {"figure": ["final"], "feature_dim": [9], "metric": ["nc2_gram_frobenius"], "value": [1.92]}
    )
    feature_dimension.nc2(dimensions, ax, floor=geometry.nc2_gram_floor, published=theirs)
    assert drawn(ax, "ours").get_ydata()[-1] == pytest.approx(0.3)
    assert list(drawn(ax, "published").get_ydata()) == [1.92]


@pytest.mark.parametrize(
    ("frame", "directions"),
    [(geometry.regular_polygon(10), 2), (geometry.orthoplex(10), 5), (geometry.simplex_etf(10), 9)],
)
def test_the_implied_participation_ratio_counts_the_directions_of_tight_frames(frame, directions):
    nc2 = float(torch.linalg.matrix_norm(frame @ frame.T - geometry.simplex_gram(10)))
    assert feature_dimension.implied_participation_ratio(nc2) == pytest.approx(directions, rel=1e-9)


def test_participation_errors_and_nc1_are_drawn_with_their_limits(dimensions, ax):
    feature_dimension.participation_ratio(dimensions, ax)
    assert list(drawn(ax, "all there are").get_ydata()) == [min(d, 9) for d in range(2, 17)]
    assert list(drawn(ax, "ours, of the class").get_ydata()) == [2.0] * 4
    figure, (left, right) = plt.subplots(1, 2)
    feature_dimension.errors(dimensions, left)
    feature_dimension.nc1(dimensions, right)
    assert drawn(left, "error on 500 fresh").get_ydata()[0] == pytest.approx(0.19)
    assert drawn(right, "NC1").get_ydata()[0] == pytest.approx(1 / 8)
    figure.canvas.draw()
    plt.close(figure)


# Representations


LAYERS = ("stem", "block1", "block2", "features")


@pytest.fixture(scope="module")
def pairs():
    """Three pairs at epochs 0, 1, 4: CKA 0.9 - 0.1 |i - j| at epoch 0, a tenth less at each later measurement."""
    rows = []
    for seed in SEEDS:
        about = {
            "run": f"r{seed}",
            "seed": seed,
            "epochs": 4,
            "architecture": "resnet1d",
            "width": 32,
            "width_b": 32,
        }
        for step, epoch in enumerate((0, 1, 4)):
            for split in ("train", "test"):
                values = {
                    f"{a}|{b}": 0.9 - 0.1 * abs(i - j) - 0.1 * step
                    for i, a in enumerate(LAYERS)
                    for j, b in enumerate(LAYERS)
                }
                values |= {f"{a}@{at}|{a}": 1 - 0.05 * step + seed / 100 for a in LAYERS for at in (0, 1)}
                for layer, value in values.items():
                    row = about | {"epoch": epoch, "split": split, "labels": "none", "layer": layer}
                    rows.append(row | {"metric": "cka_linear_debiased", "value": value})
                    rows.append(row | {"metric": "cka_linear", "value": value + 0.01})
                for network, nc1 in (("A", 0.82), ("B", 0.0)):
                    row = about | {"epoch": epoch, "split": split, "labels": "clean", "layer": network}
                    rows.append(row | {"metric": "nc1_trace_ratio", "value": nc1})
    return pd.DataFrame(rows)


def test_layers_and_matrices_read_the_last_epoch_or_none_at_all_trained(pairs):
    assert representations.layers(pairs) == list(LAYERS)
    trained, half = representations.matrix(pairs, "trained")
    untrained, _ = representations.matrix(pairs, "untrained")
    gained, _ = representations.matrix(pairs, "gained")
    assert trained.loc["stem", "block2"] == pytest.approx(0.5)
    assert untrained.loc["stem", "block2"] == pytest.approx(0.7)
    assert gained.loc["stem", "block2"] == pytest.approx(-0.2)
    assert half.to_numpy().max() < 1e-9


def test_every_cell_of_a_heat_map_says_its_value(pairs, ax):
    mean, half = representations.matrix(pairs, "trained")
    representations.heat_map(mean, ax, title="t", rows="A", columns="B", half=half)
    assert [text.get_text() for text in ax.texts[:2]] == ["0.70\n± 0.00", "0.60\n± 0.00"]
    assert len(ax.texts) == 16
    representations.colour_bar(ax)
    representations.heat_map(mean - 1, ax, title="t", rows="A", columns="B", signed=True)
    assert ax.texts[16].get_text() == "-0.30"


def test_half_width_is_students_and_needs_three_values():
    assert half_width(pd.Series([1.0, 2.0, 3.0])) == pytest.approx(2.4841, abs=1e-4)
    assert np.isnan(half_width(pd.Series([1.0, 2.0])))


def test_drift_starts_at_epoch_one_and_needs_its_reference(pairs, ax):
    representations.drift(pairs, ax, reference=0)
    assert list(drawn(ax, "stem").get_xdata()) == [1, 4]
    assert list(drawn(ax, "stem").get_ydata()) == pytest.approx([0.96, 0.91])
    with pytest.raises(KeyError, match="stem@2"):
        representations.drift(pairs, ax, reference=2)
    with pytest.raises(KeyError, match="widths 8 and 64"):
        representations.pairs_of(pairs, 8, 64)


def test_across_seeds_sets_trained_beside_untrained_and_the_published_values(pairs, ax):
    theirs = pd.DataFrame(
        {"part": "C_cross_seed_w32", "layer_or_row": ["L0", "L1", "L2", "L3"], "value": 0.59, "sd": 0.01}
    )
    representations.across_seeds(pairs, ax, published=theirs)
    heights = [container.lines[0].get_ydata()[0] for container in ax.containers]
    assert heights == pytest.approx([0.7, 0.9, 0.59])


def test_bias_is_biased_less_debiased_of_pairs_of_different_networks(pairs, ax):
    representations.bias(pairs, ax)
    line = drawn(ax, "train points")
    assert list(line.get_ydata()) == pytest.approx([0.01] * 3 * 16)


def test_noise_is_drawn_against_the_number_of_features(ax):
    values = pd.DataFrame({"p": [8, 64], "n": 1000, "biased": [0.01, 0.06], "debiased": [0.0, 0.0]})
    representations.bias_of_noise(values, ax)
    assert list(drawn(ax, "biased").get_ydata()) == [0.01, 0.06]


@pytest.mark.parametrize("t", [0.2, 0.82])
def test_collapse_limited_cka_is_that_of_rotated_simplices_with_independent_scatter(t):
    generator, p = torch.Generator().manual_seed(0), 32
    H = geometry.simplex_etf(10, p, generator=generator)[torch.arange(10).repeat_interleave(300)]
    sides = [H, H @ geometry.random_rotation(p, generator)]
    assert nclib.cka(*sides, debiased=True) == pytest.approx(1, abs=1e-9)
    scattered = [X + (t / p) ** 0.5 * torch.randn(X.shape, generator=generator, dtype=X.dtype) for X in sides]
    expected = 1 / representations.collapse_limited(t, p)
    assert nclib.cka(*scattered, debiased=True) == pytest.approx(expected, abs=0.02)
    assert expected < 0.95


def test_the_prediction_takes_both_networks_nc1(pairs, ax):
    expected = representations.predicted(pairs, "train")
    factor = representations.collapse_limited(0.82, 32)
    assert factor == pytest.approx(1 / 0.606, abs=2e-3)
    assert expected.to_numpy() == pytest.approx(np.full((3, 3), factor**-0.5))
    assert representations.collapse_limited(0.0, 32) == 1
    representations.collapse_limit(pairs, ax, split="test", published=0.59)
    assert list(drawn(ax, "measured").get_ydata()) == pytest.approx([0.8, 0.7])
    assert list(drawn(ax, "published").get_ydata()) == [0.59]
