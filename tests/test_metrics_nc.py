"""nclib.metrics.nc: invariances, and what vanishes when and only when."""

import math

import asserts
import pytest
import torch
from asserts import assert_close, assert_far_from_zero, assert_same, assert_vanishes, streamed
from samplers import (
    at,
    class_means,
    classifier,
    clusters,
    collapsed,
    generator,
    half_collapsed,
    isotropic,
    nearest_mean_classifier,
    normal,
    orthogonal_scatter,
    unbalanced,
)

from nclib import measure_features
from nclib.geometry import orthoplex, regular_polygon, simplex_etf
from nclib.metrics import nc
from nclib.stats import ClassStats

PINV = ["nc1_pinv", "nc1_pinv_sample_centred", "nc1_pinv_weighted"]
TRACE = ["nc1_trace_ratio", "nc1_trace_ratio_weighted"]
VARIABILITY = [*TRACE, "cdnv"]
SIMPLEX = ["nc2_norm_cv_means", "nc2_cos_std_means", "nc2_cos_dev_means", "nc2_etf_means"]
SHAPES = [(4, 6), (3, 2), (6, 3), (10, 30), (70, 9)]  # d >= K, d = K - 1, d < K - 1, many classes


# Invariances


@pytest.mark.parametrize(
    "assert_invariant",
    [
        asserts.assert_rotation_invariant,
        asserts.assert_translation_invariant,
        asserts.assert_scale_invariant,
        asserts.assert_weight_scale_invariant,
        asserts.assert_relabelling_invariant,
        asserts.assert_order_invariant,
        asserts.assert_repetition_invariant,
    ],
)
@pytest.mark.parametrize("make", [clusters, unbalanced])
@pytest.mark.parametrize(("K", "d"), SHAPES[:4])
def test_every_metric_is_invariant(assert_invariant, make, K, d):
    assert_invariant(*make(K, d), *classifier(K, d))


@pytest.mark.parametrize("batch", [1, 13, 100, 10_000])
@pytest.mark.parametrize(("K", "d"), SHAPES)
def test_streaming_agrees_with_features_in_memory(K, d, batch):
    H, y = clusters(K, d, counts=[3 + k % 5 for k in range(K)])
    order = torch.randperm(len(y), generator=generator())
    asserts.assert_split_invariant(H[order].float(), y[order], *classifier(K, d), batch)


def test_streaming_without_a_classifier_or_a_bias_agrees_too():
    H, y = unbalanced(4, 6)
    W = classifier(4, 6).W
    assert_same(streamed(H, y, None, None, 4, 9), measure_features(H, y))
    assert_same(streamed(H, y, W, None, 4, 9), measure_features(H, y, W))


def test_keys_follow_from_what_is_given():
    H, y = clusters(4, 6)
    W, b = classifier(4, 6)
    features_only, with_weight = set(measure_features(H, y)), set(measure_features(H, y, W))
    assert features_only == {*PINV, *TRACE, *SIMPLEX, "sigma_b_rank", "ncc_accuracy", "cdnv"}
    assert with_weight - features_only == {
        *("nc2_norm_cv_weights", "nc2_cos_dev_weights", "nc2_etf_weights"),
        *("nc3_frobenius", "nc3_etf", "nc3_cosine", "nc4_mismatch"),
    }
    assert set(measure_features(H, y, W, b)) - with_weight == {"bias_collapse"}
    assert all(type(value) is float for value in measure_features(H, y, W, b).values())


# NC1 and CDNV vanish if and only if...


@pytest.mark.parametrize("name", [*PINV, *VARIABILITY])
@pytest.mark.parametrize(("K", "d"), [(2, 1), (3, 2), (6, 3), (10, 64)])
def test_variability_vanishes_at_collapse_and_not_before(name, K, d):
    assert_vanishes(measure_features(*collapsed(K, d))[name])
    assert_vanishes(measure_features(*collapsed(K, d, counts=list(range(1, K + 1))))[name])
    assert_far_from_zero(measure_features(*clusters(K, d, noise=0.2))[name])


@pytest.mark.parametrize("name", [*PINV, *VARIABILITY])
def test_variability_does_not_vanish_while_one_class_has_not_collapsed(name):
    assert_far_from_zero(measure_features(*half_collapsed(4, 6))[name], 0.01)
    H, y = collapsed(4, 6)
    H[0] += 0.3
    assert_far_from_zero(measure_features(H, y)[name])


@pytest.mark.parametrize("name", VARIABILITY)
def test_variability_is_seen_in_every_direction(name):
    assert_far_from_zero(measure_features(*orthogonal_scatter(4))[name], 0.01)


@pytest.mark.parametrize("name", [*PINV, *VARIABILITY])
def test_variability_falls_with_the_square_of_the_scatter(name):
    means = class_means(4, 6)
    large, small = (measure_features(*isotropic(means, radius))[name] for radius in (1.0, 1e-4))
    assert_close(1e8 * small / large, 1, 1e-7)


# NC2


@pytest.mark.parametrize("name", SIMPLEX)
@pytest.mark.parametrize(("K", "d"), [(3, 2), (4, 3), (10, 9), (10, 64)])
def test_nc2_of_means_vanishes_for_a_simplex_and_not_for_others(name, K, d):
    simplex = 3 * simplex_etf(K, d, generator=generator())
    assert_vanishes(
        measure_features(*isotropic(simplex + 7))[name], 1e-11
    )  # scatter and offset do not matter
    assert_far_from_zero(measure_features(*at(class_means(K, d)))[name])
    assert_far_from_zero(measure_features(*at(simplex + 0.05 * normal(K, d, seed=2)))[name])


def test_equal_norms_alone_are_seen_by_the_norms_and_not_by_the_angles():
    for frame in (regular_polygon(7), orthoplex(8, 4)):  # centred and equinorm, not equiangular
        values = measure_features(*at(frame))
        assert_vanishes(values["nc2_norm_cv_means"])
        for name in SIMPLEX[1:]:
            assert_far_from_zero(values[name], 0.1)


def test_equal_angles_alone_are_seen_by_the_std_and_not_by_the_deviation():
    orthonormal = torch.eye(5).double()
    assert_vanishes(nc.cos_std(orthonormal))
    assert_close(nc.cos_dev(orthonormal), 1 / 4)  # the cosines are 0 instead of -1/4
    assert_far_from_zero(nc.cos_std(class_means(5, 5)), 0.1)


def test_deviation_of_angles_is_absolute_before_the_mean():
    # Centred and equinorm: the cosines' *signed* mean is -1/(K-1) for every such frame, and tells nothing.
    cosines = nc._pair_cosines(regular_polygon(6))
    assert_vanishes(cosines.mean() + 1 / 5)
    assert_close(nc.cos_dev(regular_polygon(6)), (6 * 0.7 + 6 * 0.3 + 3 * 0.8) / 15)


@pytest.mark.parametrize("K", [3, 10])
def test_nc2_of_weights_vanishes_for_a_simplex_and_not_for_others(K):
    simplex = 0.2 * simplex_etf(K, 12, generator=generator(1))
    names = ("nc2_norm_cv_weights", "nc2_cos_dev_weights", "nc2_etf_weights")
    sample = clusters(K, 12)
    stretched = simplex * torch.linspace(1, 2, K).double()[:, None]
    for name in names:
        assert_vanishes(measure_features(*sample, simplex)[name])
        assert_far_from_zero(measure_features(*sample, classifier(K, 12).W)[name], 0.01)
    # Angles do not see norms; the Gram sees both. Weights are raw: a common shift of the rows is not removed.
    assert_vanishes(measure_features(*sample, stretched)["nc2_cos_dev_weights"])
    assert_far_from_zero(measure_features(*sample, stretched)["nc2_norm_cv_weights"], 0.1)
    assert_far_from_zero(measure_features(*sample, stretched)["nc2_etf_weights"], 0.1)
    for name in names[1:]:
        assert_far_from_zero(measure_features(*sample, simplex + 0.1)[name], 0.01)


def test_etf_distance_of_the_identity_is_what_the_simplex_lacks():
    # <I/sqrt(K), (I - J/K)/sqrt(K-1)> = sqrt((K-1)/K)
    assert_close(nc.etf_distance(torch.eye(10).double()), math.sqrt(2 - 2 * math.sqrt(0.9)))


# NC3


def test_nc3_vanishes_for_self_dual_rows_and_not_otherwise():
    means = class_means(5, 8)
    M = means - means.mean(0)
    values = measure_features(*at(means), 0.03 * M)
    assert_vanishes(values["nc3_frobenius"])
    assert_vanishes(values["nc3_cosine"])
    opposite = measure_features(*at(means), -M)
    assert_close(opposite["nc3_frobenius"], 2)
    assert_close(opposite["nc3_cosine"], 2)
    uncentred = measure_features(*at(means), means)
    for name in ("nc3_frobenius", "nc3_cosine"):
        assert_far_from_zero(uncentred[name], 0.05)


def test_nc3_cosine_sees_directions_and_nc3_frobenius_norms_too():
    means = class_means(5, 8)
    M = means - means.mean(0)
    stretched = measure_features(*at(means), M * torch.linspace(1, 3, 5).double()[:, None])
    assert_vanishes(stretched["nc3_cosine"])
    assert_far_from_zero(stretched["nc3_frobenius"], 0.1)


def test_nc3_etf_vanishes_when_logits_are_a_simplex_and_not_only_at_self_duality():
    simplex = simplex_etf(5, 8, generator=generator())
    assert_vanishes(measure_features(*at(simplex), 2 * simplex)["nc3_etf"])
    # W with W M^T a simplex, though M is none: W = simplex Gram times the pseudo-inverse of M^T.
    means = class_means(5, 8)
    M = means - means.mean(0)
    dual = torch.linalg.pinv(M).T
    values = measure_features(*at(means), dual)
    assert_vanishes(values["nc3_etf"], 1e-11)
    assert_far_from_zero(values["nc3_frobenius"], 0.1)
    # And M itself, self-dual but no simplex, is far from it.
    assert_far_from_zero(measure_features(*at(means), M)["nc3_etf"], 0.1)


def test_nc3_of_orthogonal_weights_is_known():
    means = torch.cat([simplex_etf(4), torch.zeros(4, 3)], 1)
    W = torch.cat([torch.zeros(4, 3), simplex_etf(4)], 1).double()
    values = measure_features(*at(means), W)
    assert_close(values["nc3_frobenius"], math.sqrt(2))
    assert_close(values["nc3_cosine"], 1)


# NC4, the nearest class mean, the bias


@pytest.mark.parametrize("make", [clusters, unbalanced])
def test_nc4_vanishes_for_the_nearest_mean_classifier_and_not_for_others(make):
    H, y = make(4, 6)
    W, b = nearest_mean_classifier(ClassStats.of(H, y, 4).mu)
    values = measure_features(H, y, W, b)
    assert values["nc4_mismatch"] == 0
    assert 0.5 < values["ncc_accuracy"] < 1  # a mismatch with the labels is another matter
    assert measure_features(H, y, W, b + torch.tensor([20.0, 0, 0, 0]))["nc4_mismatch"] > 0.05
    assert measure_features(H, y, *classifier(4, 6))["nc4_mismatch"] > 0.3


def test_nc4_counts_every_sample_once():
    means = 10 * simplex_etf(4)
    sample = at(means, [1, 2, 3, 4])
    values = measure_features(
        *sample, means[[0, 1, 3, 2]]
    )  # classes 2 and 3, seven of ten samples, exchanged
    assert_close(values["nc4_mismatch"], 0.7)
    assert values["ncc_accuracy"] == 1


def test_bias_collapse_vanishes_when_the_bias_undoes_the_sample_mean_and_only_then():
    H, y = unbalanced(4, 6)
    W = classifier(4, 6).W
    stats = ClassStats.of(H, y, 4)
    assert_vanishes(measure_features(H, y, W, -W @ stats.mu_S)["bias_collapse"], 1e-11)
    assert_far_from_zero(measure_features(H, y, W, -W @ stats.mu_G)["bias_collapse"], 0.1)
    assert_close(measure_features(H, y, 0 * W, torch.tensor([3.0, 0, 4, 0]))["bias_collapse"], 5)


def test_pairs_of_means_in_smaller_blocks_give_the_same_distances(monkeypatch):
    stats = ClassStats.of(normal(60, 7, seed=1), torch.arange(60) % 12, 12)
    expected = nc.cdnv(stats)
    for numbers in (1, 7, 50, 2**17):
        monkeypatch.setattr(nc, "_IN_FLIGHT", numbers)
        assert torch.equal(nc.cdnv(stats), expected)
    s, apart = stats.within / stats.n, torch.cdist(stats.mu, stats.mu).square()
    pairs = [(s[i] + s[j]) / (2 * apart[i, j]) for i in range(12) for j in range(i)]
    assert_close(expected, torch.stack(pairs).mean())


@pytest.mark.parametrize("balanced", [True, False])
def test_what_is_decomposed_once_is_what_each_metric_gives_alone(balanced):
    y = torch.arange(60) % 4 if balanced else (torch.arange(60) % 8).clamp(max=3)
    stats = ClassStats.of(normal(60, 7, seed=1), y, 4)
    values = nc.collapse_metrics(stats, nc.Decisions(60, 30, None))
    for metric in (nc.nc1_pinv, nc.nc1_pinv_sample_centred, nc.nc1_pinv_weighted, nc.sigma_b_rank):
        assert values[metric.__name__] == float(metric(stats))
    assert (values["nc1_pinv"] == values["nc1_pinv_sample_centred"]) is balanced
