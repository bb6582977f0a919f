"""nclib.Trajectory: the long table of one's own training, which the book's figures draw."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from own_networks import LABELS, features_in_eval_mode, images, loader, trained_a_little
from samplers import normal
from torch import nn

import nclib
from nclib import plots, tables
from nclib.geometry import simplex_points
from nclib.plots import anatomy, animation, terminal_phase

CLASSES = LABELS.tolist()
EPOCHS = 4


def loaders():
    x, y = images()
    return {"test": loader(x[40:], y[40:]), "train": loader(x[:40], y[:40])}


def trained(measured=range(1, EPOCHS + 1), **options):
    """A short training as anybody would write it, and what watched it."""
    model, data = trained_a_little(), loaders()
    watch = nclib.Trajectory(model, data, classes=CLASSES, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(2)  # dropout draws from the global generator
        for epoch in range(1, EPOCHS + 1):
            for x, y in data["train"]:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), torch.searchsorted(LABELS, y)).backward()
                optimizer.step()
            if epoch in measured:
                watch.measure(epoch)
    return model, watch


@pytest.fixture(scope="module")
def watch():
    return trained(run="a", seed=3)[1]


def test_the_table_is_the_long_one_and_holds_what_was_measured(watch):
    table = watch.table
    assert tuple(table.columns) == tables.COLUMNS
    assert set(table.run) == {"a"} and set(table.seed) == {3}
    assert set(table.epoch) == {1, 2, 3, 4} and set(table.split) == {"train", "test"}
    values = tables.select(table, metric="loss", split="train").set_index("epoch").value
    assert_far_from_zero(values[1] - values[4])
    model, last = trained()
    last = tables.select(last.table, epoch=EPOCHS, split="train").set_index("metric").value.to_dict()
    assert last == pytest.approx(
        nclib.measure_model(model, loaders()["train"], classes=CLASSES), rel=1e-9, nan_ok=True
    )


def test_measuring_leaves_the_training_bit_identical():
    often, never = trained()[0].state_dict(), trained(measured=())[0].state_dict()
    assert all(torch.equal(often[name], never[name]) for name in never)
    start = trained_a_little().state_dict()
    assert not torch.equal(start["fc.weight"], never["fc.weight"])


def test_the_rule_of_the_nearest_training_mean_is_measured_on_the_other_splits(watch):
    model, again = trained(measured=[EPOCHS])
    x, y = images()
    H, y = features_in_eval_mode(model, x), torch.searchsorted(LABELS, y)
    mu = torch.stack([H[:40][y[:40] == k].mean(0) for k in range(3)])
    nearest = torch.cdist(H[40:], mu).argmin(1)
    values = again.measure(EPOCHS + 1)
    assert values["test"]["ncc_accuracy_train_means"] == float((nearest == y[40:]).double().mean())
    decided = model.fc(H[40:]).argmax(1)
    assert values["test"]["nc4_mismatch_train_means"] == float((nearest != decided).double().mean())
    assert "ncc_accuracy_train_means" not in values["train"]


def test_one_loader_is_the_training_split():
    alone = nclib.Trajectory(trained_a_little(), loaders()["train"], classes=CLASSES)
    assert set(alone.measure(0)) == {"train"}


def test_an_epoch_is_measured_once_and_one_that_failed_not_at_all():
    watch = nclib.Trajectory(trained_a_little(), loaders() | {"empty": []}, classes=CLASSES)
    with pytest.raises(ValueError, match="the loader is empty: there are no samples"):
        watch.measure(1)
    with pytest.raises(ValueError, match=r"nothing has been measured: call measure\(epoch\) first"):
        _ = watch.table
    watch = nclib.Trajectory(trained_a_little(), loaders(), classes=CLASSES)
    watch.measure(1)
    with pytest.raises(ValueError, match="epoch 1 was measured before"):
        watch.measure(1)
    with pytest.raises(ValueError, match=r"an epoch is a whole number, got 1\.5"):
        watch.measure(1.5)
    with pytest.raises(ValueError, match="nothing to measure on"):
        nclib.Trajectory(trained_a_little(), {})
    for split in (0, None, ("a", 1)):
        with pytest.raises(ValueError, match=r"a split is named by a string, as .train. is, got "):
            nclib.Trajectory(trained_a_little(), {"train": loader(), split: loader()})


def test_what_is_saved_is_read_back_and_replaced_as_a_whole(watch, tmp_path, monkeypatch):
    path = tmp_path / "mine.parquet"
    path.write_text("something older")
    watch.save(path)
    pd.testing.assert_frame_equal(tables.read(path), watch.table, rtol=1e-6, check_dtype=False)
    before = path.read_bytes()
    monkeypatch.setattr(tables, "write", lambda table, to: to.write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watch.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["mine.csv", "mine", "mine.parquet.gz", ""])
def test_a_name_that_says_another_format_is_refused(watch, tmp_path, name):
    with pytest.raises(
        ValueError, match=r"does not end in \.parquet, and a table is written as Parquet: name it"
    ):
        watch.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
    watch.save(str(tmp_path / "Mine.PARQUET"))


def test_an_error_says_of_which_of_several_splits_it_is():
    x, y = images()
    lacking = loader(x[y != 7], y[y != 7])
    several = nclib.Trajectory(trained_a_little(), {"train": loader(), "test": lacking}, classes=CLASSES)
    with pytest.raises(ValueError, match=r'^split "test": no sample of class 7: give every class'):
        several.measure(0)
    with pytest.raises(ValueError, match=r"^no sample of class 7: give every class"):
        nclib.Trajectory(trained_a_little(), lacking, classes=CLASSES).measure(0)


@pytest.mark.parametrize("told", [{}, {"epochs": EPOCHS, "schedule": "constant", "train_size": 40}])
def test_the_books_figures_draw_it(watch, told):
    one = watch.table.assign(**told)
    three = pd.concat([one.assign(run=f"r{seed}", seed=seed) for seed in range(3)])
    for table, n in ((one, 1), (three, 3)):
        _, axes = plots.figure(1, 8)
        terminal_phase.errors(table, axes[0])
        terminal_phase.train_and_test(table, "nc1_trace_ratio", axes[1])
        terminal_phase.nc2(table, axes[2:5])
        terminal_phase.nc3(table, axes[5])
        terminal_phase.nc4(table, axes[6])
        anatomy.variability_ratio(table, axes[7])
        for ax in axes:
            assert all(f"(n = {n})" in line.get_label() for line in ax.lines if "n =" in line.get_label())
            assert len(ax.lines[0].get_xdata()) == EPOCHS
    plt.close("all")


def test_a_figure_of_hidden_layers_finds_none(watch):
    _, (ax,) = plots.figure()
    with pytest.raises(KeyError, match="of hidden layers"):
        anatomy.layers(watch.table, "nc1_trace_ratio", ax)
    plt.close("all")


# Pictures

Y4 = torch.arange(90) % 4
X4 = normal(90, 6, seed=1) + normal(4, 6, seed=2)[Y4]


def four_classes():
    """A network of four classes, which a tetrahedron has corners for."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(normal(*p.shape, seed=i))
    return model


def pictured(epochs=(3, 1, 2), **options):
    model, data = four_classes(), [(X4[:50], Y4[:50]), (X4[50:], Y4[50:])]
    watch = nclib.Trajectory(model, {"test": [(X4, Y4)], "train": data}, pictures=True, **options)
    for epoch in epochs:
        with torch.no_grad():
            model[2].weight.add_(0.1 * epoch)
        watch.measure(epoch)
    return model, watch


def test_pictures_are_of_the_training_means_classifiers_and_first_features():
    model, watch = pictured(epochs=(1, 2))
    arrays = watch.arrays
    with torch.no_grad():
        H = model[:2](X4)
    mu = torch.stack([H[k == Y4].mean(0) for k in range(4)])
    shown = torch.cat([(k == Y4).nonzero().flatten()[:20] for k in range(4)])
    assert arrays["feature_labels"].tolist() == Y4[shown].tolist()
    assert_vanishes(abs(arrays["means"][-1] - mu.numpy()).max(), 1e-6)
    weights = model[2].weight.detach()
    assert_vanishes(abs(arrays["weights"][-1] - weights.numpy()).max(), 1e-6)
    for name, expected in simplex_points(mu, weights, H[shown]).items():
        assert_vanishes(abs(arrays[name][-1] - expected.numpy()).max(), 1e-2)
        assert arrays[name].dtype == "float16"
    assert_far_from_zero(abs(arrays["weights"][0] - arrays["weights"][1]).max())
    errors = tables.select(watch.table, metric="error", split="train").sort_values("epoch").value
    assert arrays["error"].tolist() == errors.tolist()


def test_pictures_are_in_order_of_epochs_and_drawn_by_the_books_figures():
    _, watch = pictured()
    arrays = watch.arrays
    assert arrays["epochs"].tolist() == [1, 2, 3]
    in_order = pictured(epochs=(3,))[1].arrays
    assert (arrays["weights"][-1] == in_order["weights"][0]).all()
    drawn = animation.slider(arrays, names=["a", "b", "c", "d"], classes=(0, 1, 2, 3))
    assert "at epochs 1, 2, 3" in drawn.text
    _, axes = plots.figure(1, 4)
    terminal_phase.grams(dict(zip(arrays["epochs"].tolist(), arrays["means"], strict=True)), axes)
    plt.close("all")


def test_numbers_and_training_are_the_same_with_pictures():
    (with_them, drawn), (without, plain) = trained(pictures=True), trained()
    pd.testing.assert_frame_equal(drawn.table, plain.table)
    weights = without.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in with_them.state_dict().items())
    assert drawn.arrays["means"].shape == (EPOCHS, 3, 5)
    with pytest.raises(ValueError, match="no picture has been kept: give pictures=True"):
        _ = plain.arrays


def test_pictures_that_cannot_be_put_side_by_side_are_refused():
    with pytest.raises(ValueError, match='pictures are of the split "train", and the splits are test'):
        nclib.Trajectory(four_classes(), {"test": [(X4, Y4)]}, pictures=True)
    data = [(X4, Y4)]
    watch = nclib.Trajectory(four_classes(), data, pictures=True)
    watch.measure(1)
    data[0] = (X4[:60], Y4[:60])
    watch.measure(2)
    with pytest.raises(ValueError, match="has not the same number of samples of each class at every epoch"):
        _ = watch.arrays
    assert set(watch.table.epoch) == {1, 2}
