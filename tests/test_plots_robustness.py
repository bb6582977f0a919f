"""Figures of what the terminal phase is good for: what is drawn is what the table holds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nclib.plots import mean_with_interval, robustness

PARAMS = {"epochs": 30, "schedule": "step"}
ATTACKED = {0: (1, 10, 30), 1: (1, 20, 30), 2: (1, 30)}
"""Epochs attacked, by seed: the first, the first without training error, the last."""
ONSET = {0: 10, 1: 20, 2: None}


def distance(seed, epoch):
    return 0.01 * (1 + seed) * epoch


@pytest.fixture
def table():
    rows = []
    for seed, onset in ONSET.items():
        for epoch in (1, 10, 20, 30):
            done = onset is not None and epoch >= onset
            rows.append((seed, epoch, "train", "clean", "features", "error", 0.0 if done else 0.1))
            rows.append(
                (seed, epoch, "test", "clean", "features", "error", 0.2 - 0.001 * epoch - 0.01 * seed)
            )
        for epoch in ATTACKED[seed]:
            rows.append((seed, epoch, "test", "none", "all", "deepfool_relative_mean", distance(seed, epoch)))
            rows.append((seed, epoch, "train", "none", "all", "deepfool_relative_mean", 77.0))
            rows.append((seed, epoch, "test", "none", "all", "deepfool_found", 1 - epoch / 1000))
    names = ["seed", "epoch", "split", "labels", "layer", "metric", "value"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(run=frame.seed.map("run{}".format), **PARAMS)


def test_the_mean_is_drawn_where_every_seed_was_attacked_and_seeds_wherever_they_were(table, ax):
    robustness.robustness(table, ax)
    mean, *seeds = [line for line in ax.lines if len(line.get_xdata()) and line.get_label() != "_"]
    assert mean.get_label() == "test images (n = 3)"
    assert list(mean.get_xdata()) == [1, 30]
    assert list(mean.get_ydata()) == pytest.approx([0.02, 0.6])
    for seed, line in zip(ATTACKED, seeds, strict=False):
        assert list(line.get_xdata()) == list(ATTACKED[seed])
        assert list(line.get_ydata()) == pytest.approx([distance(seed, e) for e in ATTACKED[seed]])


def test_the_test_error_is_drawn_from_each_seeds_own_first_epoch_without_error(table, ax):
    both = table[table.seed < 2]
    robustness.terminal_error(both, ax)
    mean, *seeds = [line for line in ax.lines if "seed" in line.get_label() or "mean" in line.get_label()]
    assert mean.get_label() == "mean (n = 2)"
    assert [list(line.get_xdata()) for line in seeds] == [[10, 20, 30], [20, 30]]
    assert list(mean.get_xdata()) == [20, 30], "the mean is drawn where every seed is there"
    assert list(mean.get_ydata()) == pytest.approx([0.175, 0.165])
    assert len({line.get_marker() for line in seeds}) == 2
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [10.5, 20.5]


def test_a_seed_that_always_errs_has_no_terminal_phase_and_without_any_all_epochs_are_shown(table, ax):
    robustness.terminal_error(table, ax)
    labels = [line.get_label() for line in ax.lines]
    assert "seed 1" in labels and "seed 2" not in labels
    ax.clear()
    robustness.terminal_error(table[table.seed == 2], ax)
    (seed,) = [line for line in ax.lines if line.get_label() == "seed 2"]
    assert list(seed.get_xdata()) == [1, 10, 20, 30]


def test_gains_are_from_each_seeds_own_first_epoch_without_error_to_the_last(table):
    gains = robustness.gains(table)
    assert gains["first zero-error epoch"].tolist()[:2] == [10, 20]
    assert gains["accuracy (%), then"].tolist()[:2] == pytest.approx([81.0, 83.0])
    assert gains["accuracy (%), gain"].tolist()[:2] == pytest.approx([2.0, 1.0])
    assert gains["‖r‖/‖x‖, gain"].tolist()[:2] == pytest.approx([0.2, 0.2])
    assert np.isnan(gains.loc[2, ["accuracy (%), gain", "‖r‖/‖x‖, gain"]].astype(float)).all(), (
        "it never gets there"
    )
    assert gains.loc[2, "accuracy (%), at the end"] == pytest.approx(85.0)


def test_how_many_images_the_distances_are_of_stands_beside_them(table):
    gains = robustness.gains(table)
    assert gains["share moved, then"].tolist()[:2] == pytest.approx([0.99, 0.98])
    assert gains["share moved, at the end"].tolist() == pytest.approx([0.97] * 3)
    assert "share moved, gain" not in gains


def test_runs_that_were_not_attacked_have_no_distances_but_the_same_accuracy(table):
    errors = table[table.metric == "error"]
    with pytest.raises(KeyError, match="attacked > 0"):
        robustness.distances(errors)
    gains = robustness.gains(errors)
    assert list(gains)[1:] == ["accuracy (%), then", "accuracy (%), at the end", "accuracy (%), gain"]
    pd.testing.assert_frame_equal(gains, robustness.gains(table)[list(gains)])


def test_a_mean_comes_with_its_interval_and_n_or_says_that_there_is_none():
    low, high = stats.t.interval(0.95, 2, loc=2, scale=1 / 3**0.5)
    expected = f"2 [{low:.3g}, {high:.3g}], n = 3"
    assert mean_with_interval(pd.Series([1.0, 2.0, 3.0, np.nan])) == expected
    assert mean_with_interval(pd.Series([1.0, 3.0])) == "2 (n = 2, no interval)"
