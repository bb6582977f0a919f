"""Trained networks with other decays, fixed classifiers and fewer features: each option does what it says."""

import pandas as pd
import pytest
import torch

from nclib import data, tables
from nclib.geometry import simplex_points
from nclib.measure import Split, features
from nclib.models import Network
from nclib.plots.trajectories import TRAINING_IMAGES
from nclib.studies import terminal_phase
from nclib.studies.params import ParameterError
from nclib.studies.snapshot import SHOWN, snapshot
from nclib.theory.zhu2021 import global_minimum

CPU = torch.device("cpu")
SMALL = {
    "dataset": "mnist1d", "architecture": "mlp", "train_size": 500, "width": 16, "depth": 2, "epochs": 4,
    "measurements": 3, "layer_measurements": 2, "lr": 0.05, "precision": "float64", "pictures": False,
}  # fmt: skip


@pytest.fixture
def run(tmp_path_factory):
    def of(**changes) -> tuple[pd.DataFrame, dict]:
        params = terminal_phase.Params(**SMALL | changes)
        folder = tmp_path_factory.mktemp("run")
        rows, arrays = terminal_phase.run(params, folder=folder, device=CPU)
        return tables.from_rows(rows, run="here", seed=params.seed), arrays

    return of


def by_epoch(table, metric, split="train"):
    return tables.select(table, metric=metric, split=split).set_index("epoch").value


def test_pictures_are_kept_or_not_and_the_numbers_are_the_same(run):
    without, nothing = run()
    with_them, arrays = run(pictures=True)
    pd.testing.assert_frame_equal(without, with_them)
    assert nothing == {}
    assert set(arrays) >= {"epochs", "means", "weights", "points_features", "feature_labels"}


def test_a_run_without_epochs_measures_the_network_from_which_training_departs(run):
    untrained, hardly, trained = (
        run(**changes)[0] for changes in ({"epochs": 0}, {"epochs": 1, "lr": 1e-14}, {})
    )
    assert set(untrained.epoch) == {0}
    assert set(untrained.layer) == set(trained.layer) > {"features"}
    of_the_classifier = ["nc0_row_sum", "nc2_etf_weights", "nc2_cos_dev_weights"]  # no batch norm moves these
    first, same = (
        tables.select(table, metric=of_the_classifier).set_index("metric").value.to_dict()
        for table in (untrained, hardly)
    )
    assert len(first) == 3 and first == pytest.approx(same, rel=1e-9)

    params = terminal_phase.Params(**SMALL)
    images = terminal_phase.training_set(params)
    network = terminal_phase.network(params, images).double().eval()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network(images.x.double()), images.y)
    assert by_epoch(untrained, "loss").tolist() == pytest.approx([float(loss)])
    assert by_epoch(trained, "loss").iloc[-1] < 0.99 * float(loss)


def test_the_features_that_are_drawn_are_the_first_of_each_class_under_their_labels(run):
    params = terminal_phase.Params(**SMALL | {"pictures": True, "epochs": 0})
    _, arrays = run(pictures=True, epochs=0)
    images = terminal_phase.training_set(params)
    H = features(terminal_phase.network(params, images).double(), images.x.double())
    drawn = [i for k in range(10) for i in (images.y == k).nonzero().flatten().tolist()[:SHOWN]]
    assert arrays["feature_labels"].tolist() == images.y[drawn].tolist() != images.y[: 10 * SHOWN].tolist()
    means, weights = (torch.from_numpy(arrays[name][0]).double() for name in ("means", "weights"))
    expected = simplex_points(means, weights, H[drawn])["points_features"]
    found = torch.from_numpy(arrays["points_features"][0]).double()
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)  # kept in half precision


@pytest.mark.parametrize("changes", [{"loss": "mse"}, {"decayed": "last_layer", "feature_decay": 0.03}])
def test_at_a_pause_features_are_asked_for_once_whatever_is_measured(monkeypatch, changes):
    params = terminal_phase.Params(**SMALL | {"pictures": True} | changes)
    images = terminal_phase.training_set(params)
    model = terminal_phase.network(params, images).double()
    train = Split("train", images.x.double(), {"clean": images.y})
    test = Split("test", train.x[:300], {"clean": images.y[:300]})
    passed, original = [], Network.features
    monkeypatch.setattr(Network, "features", lambda self, x: passed.append(len(x)) or original(self, x))
    rows, arrays = snapshot(model, train, test, params, num_classes=10, every_layer=True)
    assert sum(passed) == 500 + 300
    assert {"snr_spread", "objective"} & {row["metric"] for row in rows}
    assert {"points_features", "sigma_w_eigenvalues"} <= set(arrays)


@pytest.mark.parametrize(
    ("classifier", "feature_dim", "d"),
    [("etf", 0, 16), ("etf", 10, 10), ("orthoplex", 0, 5), ("hypercube", 0, 4)],
)
def test_a_fixed_classifier_has_unit_rows_from_the_first_to_the_last_epoch(run, classifier, feature_dim, d):
    table, arrays = run(classifier=classifier, feature_dim=feature_dim, pictures=True)
    assert by_epoch(table, "weight_norm_squared", "none").tolist() == pytest.approx([10.0] * 3, rel=1e-6)
    assert arrays["weights"].shape[1:] == (10, d)
    assert (arrays["weights"][0] == arrays["weights"][-1]).all()
    assert by_epoch(table, "loss").iloc[-1] < by_epoch(table, "loss").iloc[0]
    learned, _ = run()
    assert by_epoch(learned, "weight_norm_squared", "none").nunique() == 3


def test_the_objective_is_loss_and_penalties_and_never_below_its_minimum(run):
    decays = {"weight_decay": 0.02, "feature_decay": 0.03}
    table, _ = run(decayed="last_layer", **decays)
    loss, norm = by_epoch(table, "loss"), by_epoch(table, "mean_feature_norm_squared")
    W = by_epoch(table, "weight_norm_squared", "none")
    of_bias = 2 / 0.02 * (by_epoch(table, "objective") - loss) - W - 0.03 / 0.02 * norm
    assert ((of_bias > 1e-3 * W) & (of_bias < 0.1 * W)).all()
    gap = by_epoch(table, "objective_gap")
    assert (gap > 0).all() and gap.iloc[-1] < gap.iloc[0]
    expected = global_minimum(num_classes=10, per_class=50, lambda_W=0.02, lambda_H=0.03 / 500)
    assert by_epoch(table, "objective").tolist() == pytest.approx(((1 + gap) * expected.value).tolist())


def test_without_a_feature_decay_there_is_no_such_objective(run):
    table, _ = run(decayed="last_layer")
    assert not table.metric.isin(["objective", "objective_gap"]).any()
    uneven, _ = run(decayed="last_layer", feature_decay=0.03, train_size=4000)
    assert (uneven.metric == "objective").any() and not (uneven.metric == "objective_gap").any()


@pytest.mark.parametrize(
    ("options", "known"),
    [({"feature_dim": 9}, True), ({"feature_dim": 8}, False), ({"weight_decay": 0.0}, False)],
)
def test_the_minimum_is_known_for_a_decayed_classifier_and_features_with_room_for_a_simplex(
    run, options, known
):
    table, _ = run(decayed="last_layer", feature_decay=0.03, **options)
    assert (table.metric == "objective").any()
    assert (table.metric == "objective_gap").any() == known


def test_decaying_normalised_features_is_decaying_none(run):
    kinds = {
        "normalised": {"decayed": "last_layer_normalised", "feature_decay": 0.5},
        "none": {"decayed": "last_layer"},
        "raw": {"decayed": "last_layer", "feature_decay": 0.5},
        "all": {"decayed": "all"},
    }
    norms = {
        name: by_epoch(run(**options)[0], "mean_feature_norm_squared").iloc[-1]
        for name, options in kinds.items()
    }
    assert norms["normalised"] == pytest.approx(norms["none"], rel=1e-9)
    assert norms["raw"] < 0.9 * norms["none"]
    assert norms["all"] != pytest.approx(norms["none"], rel=1e-4)


@pytest.mark.parametrize("options", [{"optimizer": "lbfgs", "batch_size": 400}, {"label_noise": 1.0}])
def test_what_else_the_grids_ask_for_trains(run, options):
    table, _ = run(**options)
    given = "noisy" if "label_noise" in options else "clean"
    losses = tables.select(table, metric="loss", split="train", labels=given).value
    assert losses.iloc[-1] < losses.iloc[0]
    assert by_epoch(table, "bias_collapse", "test").notna().all()


def test_the_squared_error_is_that_on_the_labels_trained_on_and_its_rows_say_so(run):
    for noise, given in ((0.5, "noisy"), (0.0, "clean")):
        table, _ = run(loss="mse", label_noise=noise)
        total = tables.select(table, metric="mse_total")
        assert set(total.labels) == set(tables.select(table, metric="snr_spread").labels) == {given}


def test_random_labels_keep_the_size_of_every_class():
    params = terminal_phase.Params(**SMALL | {"label_noise": 1.0})
    given = terminal_phase.training_set(params)
    assert torch.bincount(given.y).tolist() == [50] * 10
    assert float((given.y == given.y_clean).float().mean()) < 0.2
    assert torch.equal(given.y_clean, terminal_phase.training_set(terminal_phase.Params(**SMALL)).y)
    assert data.load("mnist1d", "test").x.shape[1:] == given.x.shape[1:]


ETF, IMAGES = {"classifier": "etf"}, {"dataset": "fashion_mnist_subset", "depth": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"architecture": "resnet18", "depth": 0},
            "resnet18 takes images, not mnist1d: set architecture to mlp",
        ),
        ({"architecture": "resnet18", "dataset": "fashion_mnist"}, "depth is the mlp's, not resnet18's"),
        ({"feature_decay": 0.1}, "feature_decay goes with decayed last_layer"),
        ({"feature_decay": 0.1, "decayed": "last_layer", "loss": "mse"}, "goes with loss cross_entropy"),
        ({"train_size": 4010}, "of mnist1d at most 4000, got 4010"),
        ({"attacked": 1001}, "of which mnist1d has 1000, got 1001"),
        ({"train_size": 1005}, "train_size is a multiple of the 10 classes"),
        ({"optimizer": "lbfgs", "precision": "bfloat16"}, "set precision to float32 or float64"),
        ({"classifier": "cube"}, "classifier must be one of learned, etf, orthoplex, hypercube"),
        ({"decayed": "last_layer_normalised"}, "last_layer_normalised without feature_decay is last_layer"),
        (
            {"architecture": "vgg11", "dataset": "fashion_mnist", "depth": 0, "feature_dim": 10},
            "feature_dim is resnet18's and the mlp's: leave it at 0 for vgg11",
        ),
        (ETF | {"width": 9}, "classifier etf needs features of at least 10 dimensions, not 9"),
        (ETF | {"feature_dim": 5}, "not 5: set width or feature_dim"),
        (ETF | IMAGES | {"architecture": "resnet18", "width": 1}, "not 8: set width or feature_dim"),
        (ETF | IMAGES | {"architecture": "vgg11", "width": 1}, "not 8: set width or feature_dim"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        terminal_phase.Params(**SMALL | options)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 10},
        {"width": 3, "feature_dim": 10},
        IMAGES | {"architecture": "resnet18", "width": 2},
        IMAGES | {"architecture": "vgg11", "width": 2},
        IMAGES | {"architecture": "densenet40", "width": 1},
    ],
)
def test_an_etf_that_fits_is_built_on_the_networks_own_features(options):
    params = terminal_phase.Params(**SMALL | ETF | options)
    images = data.load(params.dataset, "test")
    model = terminal_phase.network(params, images)
    assert images.num_classes == terminal_phase.CLASSES <= model.feature_dim


@pytest.mark.parametrize("dataset", ["fashion_mnist_subset", "mnist1d"])
def test_what_there_is_of_each_dataset_is_what_is_read(dataset):
    assert (
        tuple(len(data.load(dataset, split)) for split in ("train", "test")) == terminal_phase.IMAGES[dataset]
    )


def test_the_figures_call_a_subset_what_the_study_trains_a_subset_of():
    assert (
        TRAINING_IMAGES.items() <= {name: most for name, (most, _) in terminal_phase.IMAGES.items()}.items()
    )


def test_the_squared_error_is_as_precise_as_its_logits_and_never_coarser_than_float32():
    logits = torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3)
    y = torch.tensor([0, 1, 2, 0])
    exact = terminal_phase.mse(logits, y)
    assert exact.dtype == torch.float64
    assert float(exact) == float((logits - torch.eye(3, dtype=torch.float64)[y]).square().mean())
    assert terminal_phase.mse(logits.bfloat16(), y).dtype == torch.float32
