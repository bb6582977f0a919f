"""Figures of the simplex and of the terminal phase: what is drawn is what the table holds."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nclib import tables
from nclib.plots import half_width, simplex, terminal_phase, trajectories

EPOCHS = (1, 3, 10, 30)
PARAMS = {
    "dataset": "fashion_mnist", "train_size": 10_000, "architecture": "resnet18", "width": 16, "schedule": "step",
    "epochs": 30,
}  # fmt: skip
ERRORS = {0: (0.5, 0.1, 0.0, 0.0), 1: (0.4, 0.1, 1e-4, 0.0), 2: (0.6, 0.2, 0.1, 0.05)}
"""Training error by seed: zero from epoch 10, from epoch 30, never."""
DECAYING = (
    "loss",
    "nc1_pinv",
    "nc1_trace_ratio",
    "nc2_norm_cv_means",
    "nc2_norm_cv_weights",
    "nc2_cos_std_means",
)
DECAYING += (
    "nc2_cos_dev_means",
    "nc2_cos_dev_weights",
    "nc3_frobenius",
    "nc3_etf",
    "nc3_cosine",
    "nc4_mismatch",
)
DECAYING += ("nc4_mismatch_train_means", "cdnv")


def value(metric, seed, epoch, split):
    """A number that differs in every metric, seed, epoch and split, and could be a share."""
    return 0.01 * (1 + DECAYING.index(metric)) * (1 + 0.1 * seed) * (2 if split == "test" else 1) / epoch


@pytest.fixture
def table():
    rows = []
    for seed, errors in ERRORS.items():
        for epoch, error in zip(EPOCHS, errors, strict=True):
            rows += [(seed, epoch, "train", "features", "error", error)]
            rows += [(seed, epoch, "test", "features", "error", error + 0.1)]
            for split in ("train", "test"):
                for metric in DECAYING:
                    rows.append((seed, epoch, split, "features", metric, value(metric, seed, epoch, split)))
    frame = pd.DataFrame(rows, columns=["seed", "epoch", "split", "layer", "metric", "value"])
    return frame.assign(run=frame.seed.map("run{}".format), labels="clean", **PARAMS)


@pytest.fixture
def panels():
    figure, axes = plt.subplots(1, 5)
    yield list(axes)
    plt.close(figure)


def without(table, **where):
    return table.drop(tables.select(table, **where).index)


def line(ax, label):
    return next(entry for entry in ax.lines if str(entry.get_label()).startswith(label))


def geometric_means(metric, split):
    return [np.exp(np.mean([np.log(value(metric, s, e, split)) for s in ERRORS])) for e in EPOCHS]


def test_curves_are_geometric_means_over_seeds_at_the_measured_epochs(table, ax):
    terminal_phase.train_and_test(table, "nc1_pinv", ax)
    for split in ("train", "test"):
        drawn = line(ax, split)
        assert list(drawn.get_xdata()) == list(EPOCHS)
        assert list(drawn.get_ydata()) == pytest.approx(geometric_means("nc1_pinv", split))
        assert drawn.get_label() == f"{split} (n = 3)"
    assert ax.get_ylabel() == tables.METRICS["nc1_pinv"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_bands_are_95_percent_t_intervals(table, ax):
    terminal_phase.train_and_test(table, "cdnv", ax)
    logs = np.log([value("cdnv", seed, 10, "train") for seed in ERRORS])
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    corners = ax.collections[0].get_paths()[0].vertices
    at_ten = corners[corners[:, 0] == 10][:, 1]
    assert (at_ten.min(), at_ten.max()) == pytest.approx((np.exp(low), np.exp(high)))


def test_a_late_spike_of_the_error_is_not_cut_off(table, ax):
    spike = (table.metric == "error") & (table.epoch == 10) & (table.split == "test")
    terminal_phase.errors(table.assign(value=table.value.mask(spike, 0.9)), ax)
    highest = max(line.get_ydata().max() for line in ax.lines if len(line.get_ydata()) > 2)
    assert highest == pytest.approx(0.9)
    assert ax.get_ylim() == (0, pytest.approx(1.35))


def test_errors_are_arithmetic_means_and_zero_is_on_the_axis(table, ax):
    terminal_phase.errors(table, ax)
    means = np.mean(list(ERRORS.values()), axis=0)
    assert list(line(ax, "train").get_ydata()) == pytest.approx(list(means))
    assert list(line(ax, "test").get_ydata()) == pytest.approx(list(means + 0.1))
    assert ax.get_ylim()[0] == 0


def test_one_sample_is_found_where_the_table_does_not_say_how_many_there_are(table):
    assert trajectories.one_sample(table) == 1 / trajectories.only(table, "train_size")
    own = table.drop(columns="train_size")
    own = pd.concat(
        [own, own[own.metric == "error"].assign(metric="ncc_accuracy", value=1e-9)], ignore_index=True
    )
    wrong = own[(own.metric == "error") | own.metric.str.startswith("nc4_mismatch")]
    assert trajectories.one_sample(own) == wrong.value[wrong.value > 0].min()
    never = own.assign(value=own.value.where(~own.index.isin(wrong.index), 0.0))
    assert trajectories.one_sample(never) == 0.01


def test_the_terminal_phase_begins_where_each_seed_says(table):
    assert trajectories.onset(table).to_dict() == pytest.approx({0: 10, 1: 30, 2: np.nan}, nan_ok=True)
    assert trajectories.onset(table, 1e-4).to_dict() == pytest.approx({0: 10, 1: 10, 2: np.nan}, nan_ok=True)


def test_the_shade_covers_the_terminal_phase_of_the_seeds_that_reach_it(table, ax):
    terminal_phase.epochs(table, ax)
    assert sorted(patch.get_x() for patch in ax.patches) == [10, 30]
    assert {patch.get_x() + patch.get_width() for patch in ax.patches} == {30}
    # a shade from the last epoch to the last epoch has no width: a line stands at its beginning
    begins = sorted(entry.get_xdata()[0] for entry in ax.lines if entry.get_linestyle() == "-")
    assert begins == [10, 30] and ax.get_xlim()[1] > 30


def test_nothing_is_shaded_when_no_seed_reaches_zero_error(table, ax):
    never = table.assign(value=table.value.where(table.metric != "error", 0.3))
    terminal_phase.epochs(never, ax)
    assert not ax.patches
    assert not any(entry.get_linestyle() == "-" for entry in ax.lines)


@pytest.mark.parametrize(("schedule", "inside"), [("step", [2, 0, 0]), ("constant", [0, 0, 0])])
def test_a_drop_is_inside_the_terminal_phase_from_its_first_epoch_on(table, schedule, inside):
    # Drops come after epochs 10 and 20, and zero error at epoch 10, at 30, and never.
    assert trajectories.drops_inside(table.assign(schedule=schedule)).tolist() == inside


def test_what_happens_in_the_phase_is_counted_from_each_seeds_own_first_epoch(table):
    remains = pd.Series({10: 0.5, 30: 0.2})
    fitted = table[table.seed < 2]
    found = trajectories.through_the_phase(
        {"all": table, "fitted": fitted}, {"NC1": "nc1_pinv"}, lambda run: remains
    )
    assert list(found) == ["fitted"], "a seed that never comes to zero error has no phase"
    assert found.fitted.to_dict() == {
        "epochs in it, by seed": "20, 0",
        "drops of the rate in it, by seed": "2, 0",
        "left of NC0 by the recurrence, by seed": "0.4, 1",
        # As 1 / epoch: a third from epoch 10 on, and all of it from the last.
        "NC1, end over beginning": f"{3**-0.5:.3g} (n = 2, no interval)",
    }
    assert trajectories.through_the_phase({"all": table}, {}, lambda run: remains).empty


@pytest.mark.parametrize(("schedule", "drops"), [("step", [10.5, 20.5]), ("constant", [])])
def test_learning_rate_drops_are_marked_under_the_step_schedule_only(table, ax, schedule, drops):
    terminal_phase.epochs(table.assign(schedule=schedule), ax)
    assert sorted(entry.get_xdata()[0] for entry in ax.lines if entry.get_linestyle() == ":") == drops


def test_nc2_draws_means_and_classifiers_each_from_its_own_metric(table, panels):
    terminal_phase.nc2(table, panels[:3])
    for axis, name in zip(panels, ("norm_cv", "cos_std", "cos_dev"), strict=False):
        expected = geometric_means(f"nc2_{name}_means", "train")
        assert list(line(axis, "class means").get_ydata()) == pytest.approx(expected)
        labels = [entry.get_label() for entry in axis.lines if entry.get_label().startswith("classifiers")]
        assert len(labels) == (0 if name == "cos_std" else 1)
    expected = geometric_means("nc2_cos_dev_weights", "train")
    assert list(line(panels[2], "classifiers").get_ydata()) == pytest.approx(expected)


def test_nc3_and_nc4_draw_the_forms_they_name(table, panels):
    terminal_phase.nc3(table, panels[0])
    assert list(line(panels[0], "1 − mean").get_ydata()) == pytest.approx(
        geometric_means("nc3_cosine", "train")
    )
    terminal_phase.nc4(table, panels[1])
    at_test = [np.mean([value("nc4_mismatch_train_means", s, e, "test") for s in ERRORS]) for e in EPOCHS]
    assert list(line(panels[1], "test").get_ydata()) == pytest.approx(at_test)


def test_curves_in_one_panel_differ_by_more_than_colour(table, panels):
    terminal_phase.nc2(table, panels[:3])
    terminal_phase.nc3(table, panels[3])
    for axis, n in ((panels[2], 2), (panels[3], 3)):
        drawn = [entry for entry in axis.lines if "(n = 3)" in entry.get_label()]
        looks = [(entry.get_marker(), entry.get_linestyle()) for entry in drawn]
        assert len(looks) == n
        assert all(len(set(cue)) == n for cue in zip(*looks, strict=True))


def test_the_band_of_a_share_stays_above_zero_where_that_of_another_number_need_not(table, ax):
    apart = table.copy()
    rows = tables.select(table, metric="nc4_mismatch", split="train", epoch=1)
    apart.loc[rows.index, "value"] = [0.01, 0.02, 0.2]
    terminal_phase.nc4(apart, ax)
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[corners[:, 0] == 1][:, 1].min() > 0
    plain = pd.Series([0.01, 0.02, 0.2])
    assert plain.mean() - half_width(plain) < 0, "the control: the plain interval holds negative shares"


def test_a_parameter_of_several_values_is_refused_where_one_is_meant(table):
    assert trajectories.only(table, "width") == 16
    with pytest.raises(ValueError, match="width takes 2 values"):
        trajectories.only(pd.concat([table, table.assign(width=8)]), "width")


@pytest.mark.parametrize(
    ("metric", "draw"),
    [
        ("error", terminal_phase.errors),
        ("nc1_pinv", lambda table, ax: terminal_phase.train_and_test(table, "nc1_pinv", ax)),
        ("nc2_cos_dev_weights", lambda table, ax: terminal_phase.nc2(table, [ax] * 3)),
        ("nc3_etf", terminal_phase.nc3),
        ("nc4_mismatch_train_means", terminal_phase.nc4),
        ("cdnv", lambda table, ax: terminal_phase.train_and_test(table, "cdnv", ax)),
    ],
)
def test_a_missing_metric_is_an_error_and_not_a_curve(table, ax, metric, draw):
    draw(table, ax)  # the control: with the metric there is a figure
    ax.clear()
    with pytest.raises(KeyError, match=metric):
        draw(without(table, metric=metric), ax)


def test_an_epoch_that_one_seed_lacks_is_an_error_where_every_seed_is_asked_for(table):
    assert len(trajectories.at_epoch(table, "cdnv", 10)) == 3
    with pytest.raises(KeyError, match="epoch 10"):
        trajectories.at_epoch(without(table, metric="cdnv", seed=1, epoch=10), "cdnv", 10)


def test_an_epoch_that_one_seed_lacks_is_left_out_of_the_curve(table, ax):
    terminal_phase.train_and_test(without(table, metric="cdnv", seed=1, epoch=10), "cdnv", ax)
    assert list(line(ax, "train").get_xdata()) == [1, 3, 30]


def test_runs_of_several_parameters_are_refused(table, ax):
    both = pd.concat([table, table.assign(run=table.run + "b", width=32)])
    with pytest.raises(ValueError, match="several runs"):
        terminal_phase.train_and_test(both, "cdnv", ax)
    with pytest.raises(ValueError, match="width"):
        trajectories.scale(both)


def test_a_run_that_stopped_early_is_refused(table):
    assert trajectories.last_epoch(table) == 30
    with pytest.raises(ValueError, match="planned"):
        trajectories.last_epoch(table[(table.seed != 1) | (table.epoch < 30)])


@pytest.mark.parametrize(
    ("dataset", "size", "words"),
    [
        ("fashion_mnist", 10_000, "a subset of 10,000 of 60,000"),
        ("fashion_mnist", 60_000, "all 60,000"),
        ("fashion_mnist_subset", 2000, "a subset"),
    ],
)
def test_the_scale_says_what_was_trained_on(table, dataset, size, words):
    line_of_scale = trajectories.scale(table.assign(dataset=dataset, train_size=size))
    assert words in line_of_scale
    assert "n = 3 seeds" in line_of_scale
    assert ("a subset" in line_of_scale) == (size < 60_000)


def test_grams_are_cosines_of_centred_means(panels):
    K = 5
    shifted = np.eye(K) + 7.0  # a simplex once its mean is subtracted
    other = np.random.default_rng(0).standard_normal((K, 3))
    terminal_phase.grams({1: other, 2: shifted, 5: 3 * shifted, 9: shifted}, panels)
    images = [np.asarray(axis.images[0].get_array()) for axis in panels]
    assert images[1] == pytest.approx(images[-1])
    assert images[2] == pytest.approx(images[-1])
    assert not np.allclose(images[0], images[-1], atol=0.1)
    assert np.diag(images[0]) == pytest.approx(np.ones(K))
    assert [len(axis.get_yticks()) for axis in panels] == [K, 0, 0, 0, 0]
    assert [axis.get_title(loc=mpl.rcParams["axes.titlelocation"]) for axis in panels][:2] == [
        "epoch 1",
        "epoch 2",
    ]


def test_classes_are_numbered_and_named_on_the_first_heat_map(panels):
    names = ["shirt", "boot", "bag"]
    terminal_phase.grams(dict.fromkeys((1, 2, 3, 4), np.eye(3)), panels, names=names)
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["shirt 0", "boot 1", "bag 2"]
    for axis in panels:
        assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "1", "2"]
    simplex.name_classes(range(100), panels[0])
    numbered = [text.get_text() for text in panels[0].get_yticklabels()]
    assert len(numbered) <= 12 and numbered[:2] == ["0", "9"]


def test_a_mean_without_direction_has_no_gram(panels):
    with pytest.raises(ValueError, match="norm zero"):
        terminal_phase.grams(dict.fromkeys((1, 2, 3, 4), np.ones((5, 3))), panels)


@pytest.mark.parametrize(
    ("measured", "start", "shown"),
    [
        ([1, 2, 3, 5, 8, 13, 20], 8.0, [1, 3, 8, 20]),
        ([1, 2, 3, 5, 8, 13, 20], np.nan, [1, 2, 5, 20]),
        ([1, 2, 3, 5], 1.0, [1, 2, 3, 5]),
    ],
)
def test_four_epochs_include_first_last_and_the_beginning_of_the_terminal_phase(measured, start, shown):
    assert trajectories.four_epochs(measured, start) == shown
    assert trajectories.four_epochs(measured[:3], start) == measured[:3]


def test_vectors_are_drawn_where_they_point(ax):
    vertices = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    simplex.plane(vertices, ax)
    arrows = [text for text in ax.texts if text.get_text() == ""]
    assert np.array([arrow.xy for arrow in arrows]) == pytest.approx(vertices)
    with pytest.raises(ValueError, match="2 dimensions"):
        simplex.plane(np.eye(3), ax)


def test_the_tetrahedron_joins_every_pair_of_vertices():
    figure = plt.figure()
    axis = figure.add_subplot(projection="3d")
    simplex.tetrahedron(np.eye(4)[:, :3], axis)
    assert len(axis.lines) == 6
    plt.close(figure)


def test_a_gram_shows_its_entries(ax):
    G = np.array([[1.0, -0.5], [-0.5, 1.0]])
    simplex.gram(G, ax, values=True)
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(G)
    assert sorted(text.get_text() for text in ax.texts) == ["1.00", "1.00", "−0.50", "−0.50"]
    with pytest.raises(ValueError, match="square"):
        simplex.gram(G[:1], ax)


def test_measurements_are_drawn_beside_their_formula(ax):
    table = pd.DataFrame({"q": [0.2, 0.0], "series": "s", "formula": [0.5625, 0.0], "measured": [0.6, 0.1]})
    simplex.beside_formula(table, ax, x="q")
    formula, measured = ax.lines
    assert list(formula.get_ydata()) == [0.0, 0.5625]
    assert list(measured.get_ydata()) == [0.1, 0.6]


@pytest.mark.parametrize(("column", "error"), [("measured", KeyError), ("q", KeyError), (None, ValueError)])
def test_a_missing_measurement_is_an_error_and_not_a_marker(ax, column, error):
    table = pd.DataFrame({"q": [0.0, 0.2], "series": "s", "formula": [0.0, 1.0], "measured": [0.0, 1.0]})
    broken = table.assign(measured=[0.0, np.nan]) if column is None else table.drop(columns=column)
    with pytest.raises(error):
        simplex.beside_formula(broken, ax, x="q")


def test_frames_are_drawn_on_the_floor_of_their_class_count(ax):
    bound = pd.DataFrame({"K": [4, 4], "d": [2, 1], "floor": [1.0, 3.0]})
    attained = pd.DataFrame({"frame": ["line"], "K": [4], "d": [1], "value": [3.5]})
    simplex.floor(bound, attained, ax)
    assert list(line(ax, "floor, K = 4").get_xydata().ravel()) == [1, 3.0, 2, 1.0]
    assert [tuple(entry.get_xydata()[0]) for entry in ax.lines[1:]] == [(1, 3.5)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["floor, K = 4", "line"]
    with pytest.raises(ValueError, match="no floor"):
        simplex.floor(bound, attained.assign(K=5), ax)


def test_constructed_features_are_drawn_class_by_class(ax):
    points = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [0.0, 1.0, 2.0], "label": [0, 1, 1]})
    simplex.classes(points, points[:2], ax, x="a", y="b")
    first, second, rings = (collection.get_offsets() for collection in ax.collections)
    assert (len(first), len(second), len(rings)) == (1, 2, 2)
    with pytest.raises(KeyError):
        simplex.classes(points.drop(columns="b"), points, ax, x="a", y="b")
