"""Measurement: rows are what the metrics give on the same features, in memory or streamed, and nothing else."""

import math

import pytest
import reference
import torch
from torch import nn

from nclib import measure as module
from nclib import measure_features, tables
from nclib.geometry import simplex_etf
from nclib.measure import (
    Split,
    class_spectra,
    measure,
    measure_directions,
    measure_layers,
    measure_mse,
    measure_robustness,
    model_norms,
    pooled_layers,
)
from nclib.metrics import nc
from nclib.metrics.mse import mse_decomposition, snr_spread
from nclib.metrics.nc import Head
from nclib.metrics.spectrum import effective_rank, participation_ratio
from nclib.models import build
from nclib.robustness import deepfool
from nclib.stats import ClassStats
from nclib.streams import classification

K, N = 4, 240


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(N, 6, generator=seeded(1), dtype=torch.float64)
Y = torch.randint(K, (N,), generator=seeded(2))


@pytest.fixture
def model():
    net = build("mlp", num_classes=K, in_features=6, width=7, depth=3, generator=seeded()).double()
    net.train()
    for batch in X.split(60):  # running statistics that differ from a batch's own
        net(batch)
    return net


def measured(model, split=None, **options):
    split = split or Split("train", X, {"clean": Y})
    rows = list(measure(model, split, num_classes=K, **options))
    for row in rows:
        assert list(row) == ["split", "labels", "layer", "metric", "value"]
        assert row["layer"] == "features"
    names = [(row["labels"], row["metric"]) for row in rows]
    assert len(set(names)) == len(names)
    assert {row["metric"] for row in rows} <= set(tables.METRICS)
    return {name if row["labels"] == "clean" else f"{row['labels']}/{name}": row["value"]
            for row in rows for name in [row["metric"]]}  # fmt: skip


def features(model, x=X):
    model.eval()
    with torch.no_grad():
        H = model.features(x)
    model.train()
    return H


def test_rows_are_the_metrics_of_the_same_features(model):
    rows = measured(model)
    expected = measure_features(features(model), Y, model.head.weight, model.head.bias)
    assert expected.keys() <= rows.keys()
    for name, value in expected.items():
        assert rows[name] == pytest.approx(value, rel=1e-12, abs=1e-14), name


def test_error_loss_and_margins_by_hand(model):
    rows = measured(model)
    with torch.no_grad():
        logits = model.head(features(model))
    losses, margins, wrong = [], [], 0
    for z, y in zip(logits.tolist(), Y.tolist(), strict=True):
        losses.append(math.log(sum(math.exp(v) for v in z)) - z[y])
        margins.append(z[y] - max(v for k, v in enumerate(z) if k != y))
        wrong += z.index(max(z)) != y
    assert rows["error"] == wrong / N
    assert 0 < wrong < N
    assert rows["loss"] == pytest.approx(sum(losses) / N, rel=1e-12)
    assert rows["margin_mean"] == pytest.approx(sum(margins) / N, rel=1e-12)
    assert rows["margin_min"] == pytest.approx(min(margins), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_at_hand_spare_the_pass_and_change_no_number(model, monkeypatch, dtype):
    model, x = model.to(dtype), X.to(dtype)
    split = Split("train", x, {"clean": Y, "noisy": Y.roll(1)})
    rows, H = list(measure(model, split, num_classes=K)), module.features(model, x)
    monkeypatch.setattr(type(model), "features", lambda self, x: pytest.fail("the network was asked again"))
    assert list(measure(model, split, num_classes=K, H=H)) == rows


def test_the_slide_studys_metrics_by_hand(model):
    rows = measured(model)
    H = features(model)
    mu = torch.stack([H[k == Y].mean(0) for k in range(K)])
    unit = nn.functional.normalize(mu - H.mean(0), dim=1)
    target = K / (K - 1) * (torch.eye(K).double() - 1 / K)
    assert rows["nc2_gram_frobenius"] == pytest.approx(float((unit @ unit.T - target).norm()), rel=1e-10)
    W = model.head.weight.detach()
    distance = nn.functional.normalize(W, dim=1) - nn.functional.normalize(mu, dim=1)
    assert rows["nc3_rows_uncentred"] == pytest.approx(float(distance.norm()), rel=1e-10)
    M = mu - mu.mean(0)
    assert rows["global_mean_ratio"] == pytest.approx(
        float(mu.mean(0).norm() / M.norm(dim=1).mean()), rel=1e-10
    )
    assert rows["participation_ratio_means"] == pytest.approx(float(participation_ratio(M @ M.T)), rel=1e-10)
    assert rows["effective_rank_means"] == pytest.approx(float(effective_rank(M @ M.T)), rel=1e-10)
    assert rows["mean_feature_norm_squared"] == pytest.approx(float(H.square().sum(1).mean()), rel=1e-12)


@pytest.mark.parametrize("batch", [37, 1000])
def test_the_streamed_path_equals_the_one_in_memory(model, monkeypatch, batch):
    train_stats = {}
    measured(model, statistics=train_stats)
    split = Split("test", X.flip(0) * 0.9, {"clean": Y.flip(0)}, references=train_stats)
    monkeypatch.setattr(module, "_BATCH", batch)
    passes = []
    original = type(model).features
    monkeypatch.setattr(type(model), "features", lambda self, x: passes.append(len(x)) or original(self, x))
    in_memory = measured(model, split)
    assert sum(passes) == N
    passes.clear()
    monkeypatch.setattr(
        module, "FEATURE_MEMORY", N * model.feature_dim * 8
    )  # of float64, as the model is here
    measured(model, split)
    assert sum(passes) == N
    passes.clear()
    monkeypatch.setattr(module, "FEATURE_MEMORY", N * model.feature_dim * 8 - 1)
    streamed = measured(model, split)
    assert sum(passes) > N, "the second measurement was not streamed"
    assert streamed.keys() == in_memory.keys()
    for name, value in in_memory.items():
        assert streamed[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fits", [True, False])
def test_the_mode_is_restored_and_nothing_is_written(model, monkeypatch, training, fits):
    if not fits:
        monkeypatch.setattr(module, "FEATURE_MEMORY", 0)
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_order = measured(model)
    assert model.training is training
    list(measure_layers(model, "train", X, {"clean": Y}, num_classes=K))
    list(model_norms(model))
    assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    # Eval mode means that a sample's features do not depend on the others it is measured with.
    order = torch.randperm(N, generator=seeded(5))
    shuffled = measured(model, Split("train", X[order], {"clean": Y[order]}))
    for name, value in in_order.items():
        assert shuffled[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_the_mode_is_restored_when_measuring_fails_or_is_given_up(model):
    with pytest.raises(RuntimeError):
        measured(model, Split("train", X[:, :3], {"clean": Y}))
    assert model.training
    rows = measure(model, Split("train", X, {"clean": Y}), num_classes=K)
    next(rows)
    rows.close()
    assert model.training


def test_directions_of_means_that_coincide_have_no_margin(model):
    y = Y % 3  # the mean of three equal numbers is rounded, that of four is not

    def margins(H):
        rows = measure_directions(model, "train", {"clean": ClassStats.of(H, y, 3)})
        return {row["metric"]: row["value"] for row in rows}

    same = margins(torch.full((N, 7), 0.1, dtype=torch.float64))
    assert math.isnan(same["one_vs_rest_margin_means"])
    assert same["one_vs_rest_margin_weights"] > 0
    simplex = margins(simplex_etf(3, 7)[y] + 0.1)
    assert simplex["one_vs_rest_margin_means"] == pytest.approx(3 / 2, rel=1e-12)


@pytest.mark.parametrize("flip", [False, True])
def test_a_margin_that_is_not_a_number_is_not_lost_among_others(flip):
    head = Head(torch.eye(K).double())
    H = torch.eye(K).double()
    spoilt = H.clone()
    spoilt[0] = torch.nan
    batches = [(H, torch.arange(K)), (spoilt, torch.arange(K))]
    assert math.isnan(classification(head, iter(batches[::-1] if flip else batches))["margin_min"])
    assert classification(head, iter(batches[:1] * 2))["margin_min"] == 1


def test_a_split_without_a_class_has_error_rows_and_no_collapse_rows(model):
    keep = Y != 2
    statistics = {}
    rows = measured(model, Split("train_mislabelled", X[keep], {"clean": Y[keep]}), statistics=statistics)
    assert set(rows) == {"error", "loss", "margin_mean", "margin_min"}
    assert statistics == {}
    assert len(measured(model)) > 20


def test_two_label_sets_are_measured_on_the_same_features(model):
    noisy = Y.clone()
    noisy[:50] = (noisy[:50] + 1) % K
    statistics = {}
    rows = measured(model, Split("train", X, {"noisy": noisy, "clean": Y}), statistics=statistics)
    assert rows["error"] == measured(model)["error"]
    assert rows["noisy/nc1_pinv"] == pytest.approx(
        measure_features(features(model), noisy)["nc1_pinv"], rel=1e-10
    )
    assert rows["noisy/nc1_pinv"] != rows["nc1_pinv"]
    assert set(statistics) == {"noisy", "clean"}
    assert torch.equal(statistics["noisy"].n, torch.bincount(noisy, minlength=K).double())


def test_the_nearest_training_mean_decides_about_test_points(model):
    statistics = {}
    assert "ncc_accuracy_train_means" not in measured(model, statistics=statistics)
    x, y = X.flip(0) + 0.3, Y.flip(0)
    rows = measured(model, Split("test", x, {"clean": y}, references=statistics))
    H, train_H = features(model, x), features(model)
    mu = torch.stack([train_H[k == Y].mean(0) for k in range(K)])
    nearest = torch.cdist(H, mu).argmin(1)
    with torch.no_grad():
        decided = model.head(H).argmax(1)
    assert rows["ncc_accuracy_train_means"] == float((nearest == y).double().mean())
    assert rows["nc4_mismatch_train_means"] == float((nearest != decided).double().mean())
    own = torch.stack([H[y == k].mean(0) for k in range(K)])
    assert rows["ncc_accuracy"] == float((torch.cdist(H, own).argmin(1) == y).double().mean())
    assert rows["ncc_accuracy"] != rows["ncc_accuracy_train_means"]


def test_test_features_are_measured_against_training_means(model):
    statistics = {}
    assert "test_collapse_weak" not in measured(model, statistics=statistics)
    x, y = X.flip(0) + 0.3, Y.flip(0)
    rows = measured(model, Split("test", x, {"clean": y}, references=statistics))
    H, train_H = features(model, x), features(model)
    expected = reference.collapse_onto_means(train_H, Y.tolist(), H, y.tolist())
    for name, value in expected.items():
        assert rows[name] == pytest.approx(value, rel=1e-10), name
    itself = measured(model, Split("train", X, {"clean": Y}, references=statistics))
    assert itself["test_collapse_strong"] == pytest.approx(itself["nc1_trace_ratio"], rel=1e-10)
    assert rows["test_collapse_strong"] > rows["test_collapse_weak"]


def test_class_separation_is_that_of_the_features(model):
    expected = reference.class_separation(features(model), Y.tolist())
    assert measured(model)["class_separation"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [37, 1000])
def test_the_squared_error_is_taken_apart_at_the_classifiers_input(model, monkeypatch, bias, batch):
    monkeypatch.setattr(module, "_BATCH", batch)
    if not bias:
        model.head.bias = None
    H = module.features(model, X)
    rows = list(measure_mse(model, "train", H, Y, num_classes=K, decay=0.02))
    assert all(list(row) == ["split", "labels", "layer", "metric", "value"] for row in rows)
    assert {(row["split"], row["labels"], row["layer"]) for row in rows} == {("train", "clean", "features")}
    values = {row["metric"]: row["value"] for row in rows}
    assert set(values) <= set(tables.METRICS)
    stats = ClassStats.of(features(model), Y, K)
    head = Head(model.head.weight.detach(), model.head.bias.detach() if bias else None)
    expected = mse_decomposition(stats, head, K * 0.02 / 2) | {"snr_spread": float(snr_spread(stats))}
    assert values == pytest.approx(expected, rel=1e-9)
    with torch.no_grad():
        logits = model.head(features(model))
    objective = nn.functional.mse_loss(logits, nn.functional.one_hot(Y, K).double())
    objective += 0.02 / 2 * sum(p.detach().square().sum() for p in model.head.parameters())
    assert values["mse_total"] == pytest.approx(K / 2 * float(objective), rel=1e-10)
    noisy = list(measure_mse(model, "train", H, Y, labels="noisy", num_classes=K, decay=0.02))
    assert noisy == [row | {"labels": "noisy"} for row in rows]
    with pytest.raises(ValueError, match="no sample of class 2"):
        list(measure_mse(model, "train", H[Y != 2], Y[Y != 2], num_classes=K, decay=0.02))


def test_a_head_without_bias_has_no_bias_collapse(model):
    net = build("resnet1d", num_classes=K, width=5, generator=seeded()).double()
    x = torch.randn(N, 1, 12, generator=seeded(3), dtype=torch.float64)
    rows = measured(net, Split("train", x, {"clean": Y}))
    assert "bias_collapse" not in rows
    assert "bias_collapse" in measured(model)


def test_hidden_layers_are_measured_pooled_and_the_classifiers_input_is_not():
    net = build("cnn1d", num_classes=K, width=5, generator=seeded()).double()
    x = torch.randn(N, 1, 12, generator=seeded(3), dtype=torch.float64)
    rows = list(measure_layers(net, "train", x, {"clean": Y}, num_classes=K))
    assert list(dict.fromkeys(row["layer"] for row in rows)) == ["conv1", "conv2", "conv3", "conv4"]
    net.eval()
    with torch.no_grad():
        pooled = net.layers(x)["conv2"].mean(-1)
    expected = measure_features(pooled, Y)
    found = {row["metric"]: row["value"] for row in rows if row["layer"] == "conv2"}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert list(measure_layers(net, "train", x[Y > 0], {"clean": Y[Y > 0]}, num_classes=K)) == []


def test_pooled_layers_do_not_depend_on_the_batches(monkeypatch):
    net = build("resnet1d", num_classes=K, width=5, generator=seeded()).double()
    x = torch.randn(30, 1, 12, generator=seeded(3), dtype=torch.float64)
    whole = pooled_layers(net, x)
    monkeypatch.setattr(module, "_BATCH", 7)
    parts = pooled_layers(net, x)
    assert list(whole) == ["stem", "block1", "block2", "features"]
    for name, H in whole.items():
        assert H.shape == (30, 5)
        assert torch.allclose(parts[name], H, rtol=1e-12, atol=1e-14)


def test_norms_belong_to_no_sample(model):
    rows = {row.pop("metric"): row for row in model_norms(model)}
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert rows["parameters"]["value"] == len(parameters)
    assert rows["parameter_norm"]["value"] == pytest.approx(float(parameters.norm()), rel=1e-12)
    assert rows["weight_norm_squared"]["value"] == pytest.approx(
        float(model.head.weight.detach().norm() ** 2)
    )
    assert all(
        (row["split"], row["labels"], row["layer"]) == ("none", "none", "all") for row in rows.values()
    )


def robustness(model, x=X):
    rows = {row.pop("metric"): row for row in measure_robustness(model, "test", x)}
    assert set(rows) <= set(tables.METRICS)
    assert all(
        (row["split"], row["labels"], row["layer"]) == ("test", "none", "all") for row in rows.values()
    )
    return {metric: row["value"] for metric, row in rows.items()}


def test_distances_are_averaged_over_the_inputs_that_were_moved(model):
    everyone = deepfool(model, X)
    moved = everyone.found.nonzero().flatten()[:4]  # an even number: the median lies between two of them
    stuck = (~everyone.found).nonzero().flatten()[:1]  # so small a network has regions where it is constant
    relative = everyone.relative[moved].tolist()
    values = robustness(model, X[torch.cat([moved, stuck])])
    assert values["deepfool_found"] == 4 / 5
    assert values["deepfool_relative_mean"] == pytest.approx(sum(relative) / 4, rel=1e-12)
    assert values["deepfool_relative_median"] == pytest.approx(sum(sorted(relative)[1:3]) / 2, rel=1e-12)
    assert values["deepfool_norm_mean"] == pytest.approx(float(everyone.norm[moved].mean()), rel=1e-12)
    assert model.training


def test_an_input_of_zeros_counts_as_moved_and_has_no_relative_distance():
    model = nn.Linear(6, K).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(K, 6, generator=seeded(4)))
        model.bias.copy_(torch.arange(K))
    x = torch.cat([torch.zeros(1, 6).double(), X[:4]])
    values, others = robustness(model, x), robustness(model, x[1:])
    assert values["deepfool_found"] == others["deepfool_found"] == 1
    for name in ("deepfool_relative_mean", "deepfool_relative_median"):
        assert values[name] == others[name]
    assert values["deepfool_norm_mean"] == pytest.approx(float(deepfool(model, x).norm.mean()), rel=1e-12)
    assert values["deepfool_norm_mean"] != others["deepfool_norm_mean"]


def test_where_nothing_was_moved_distances_are_missing_and_not_zero(model):
    model.head.weight.data.zero_()
    values = robustness(model, X[:3])
    assert values.pop("deepfool_found") == 0
    assert len(values) == 3 and all(math.isnan(value) for value in values.values())


def test_float32_features_are_reduced_in_float64(model):
    net = model.float()
    rows = measured(net, Split("train", X.float(), {"clean": Y}))
    H = features(net, X.float())
    assert H.dtype == torch.float32
    expected = measure_features(H.double(), Y, net.head.weight.double(), net.head.bias.double())
    assert rows["nc1_pinv"] == pytest.approx(expected["nc1_pinv"], rel=1e-12)
    with torch.no_grad():
        logits = H.double() @ net.head.weight.double().T + net.head.bias.double()
    assert rows["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, Y)), rel=1e-13)


def test_statistics_given_out_are_those_of_the_features(model):
    statistics = {}
    measured(model, statistics=statistics)
    expected = ClassStats.of(features(model), Y, K)
    assert torch.allclose(statistics["clean"].mu, expected.mu, rtol=1e-12)
    assert torch.allclose(statistics["clean"].within, expected.within, rtol=1e-10)


def test_features_are_those_of_eval_mode_and_leave_the_mode_alone(model):
    assert torch.equal(module.features(model, X), features(model))
    assert model.training
    assert not torch.allclose(model.features(X), features(model)), "batch statistics are others"


def test_spectra_are_those_of_the_covariances_written_out(model):
    H = features(model)
    mu = torch.stack([H[k == Y].mean(0) for k in range(K)])
    within = (H - mu[Y]).T @ (H - mu[Y]) / N
    between = (mu - mu.mean(0)).T @ (mu - mu.mean(0)) / K
    spectra = class_spectra(H, Y, num_classes=K)
    torch.testing.assert_close(spectra["sigma_w_eigenvalues"], torch.linalg.eigvalsh(within).flip(0))
    torch.testing.assert_close(
        spectra["sigma_b_eigenvalues"], torch.linalg.eigvalsh(between).flip(0)[: K - 1]
    )
    assert torch.linalg.eigvalsh(between).flip(0)[K - 1].abs() < 1e-12, (
        "the means about their mean span K - 1"
    )


def test_the_row_sum_vanishes_for_rows_about_their_mean_and_for_no_others(model):
    def row_sum():
        return {row["metric"]: row["value"] for row in model_norms(model)}["nc0_row_sum"]

    assert row_sum() == pytest.approx(float(model.head.weight.detach().sum(0).norm()), rel=1e-12)
    assert row_sum() > 0.1
    with torch.no_grad():
        model.head.weight -= model.head.weight.mean(0)
    assert row_sum() < 1e-14


def test_cosines_of_classifiers_spread_unless_they_form_a_simplex(model):
    assert measured(model)["nc2_cos_std_weights"] == pytest.approx(
        float(nc.cos_std(model.head.weight.detach())), rel=1e-12
    )
    assert measured(model)["nc2_cos_std_weights"] > 0.01
    with torch.no_grad():
        model.head.weight.copy_(3 * simplex_etf(K, model.feature_dim))
    assert measured(model)["nc2_cos_std_weights"] < 1e-14
