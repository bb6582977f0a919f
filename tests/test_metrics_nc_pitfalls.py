"""nclib.metrics.nc where public code went wrong: pseudo-inverses, lost digits, conventions mixed up."""

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_far_from_zero, assert_same, assert_vanishes, streamed
from samplers import (
    at,
    class_means,
    classifier,
    clusters,
    generator,
    isotropic,
    labels,
    mislabelled,
    nearest_mean_classifier,
    normal,
    orthogonal_scatter,
    unbalanced,
)

from nclib import measure_features
from nclib.geometry import random_rotation, simplex_etf
from nclib.metrics import nc
from nclib.stats import ClassStats

PINV = ["nc1_pinv", "nc1_pinv_sample_centred", "nc1_pinv_weighted"]
TRACE = ["nc1_trace_ratio", "nc1_trace_ratio_weighted"]


def means_with_singular_values(values, d):
    """Zero-sum means of K = len(values) + 1 classes with these singular values, in a random orientation."""
    K = len(values) + 1
    left = simplex_etf(K) * ((K - 1) / K) ** 0.5  # an orthonormal basis of the complement of 1
    return left @ torch.diag(torch.tensor(values).double()) @ random_rotation(d, generator())[: K - 1]


# The pseudo-inverse


def test_small_directions_of_sigma_b_are_kept_where_float32_cut_offs_drop_or_explode_them():
    values, d = [1.0] * 8 + [1e-5], 16
    H, y = isotropic(means_with_singular_values(values, d), radius=0.01)
    expected = 1e-4 / d * sum(1 / s**2 for s in values)
    for name in PINV:
        assert_close(measure_features(H, y)[name], expected, 1e-5)
    # The control: numbers off by a factor, or of the wrong sign, from a float32 d x d matrix and three cut-offs.
    stats = ClassStats.of(H, y, 10)
    Sigma_W, Sigma_B = stats.Sigma_W.float(), (stats.M.T @ stats.M / 10).float()
    for cut in (16 * torch.finfo(torch.float32).eps, 1e-5, 1e-9):
        naive = float(torch.trace(Sigma_W @ torch.linalg.pinv(Sigma_B, rcond=cut, hermitian=True)) / 10)
        assert not 0.5 < naive / expected < 2


@pytest.mark.parametrize(("smallest", "rank"), [(1e-5, 5), (4e-6, 5), (2.5e-6, 4), (1e-6, 4), (0.0, 4)])
def test_rank_and_pseudo_inverse_share_one_cut_at_1e_11(smallest, rank):
    # Singular values are square roots of the eigenvalues that the cut is about: 3.16e-6 is the border.
    values, d = [1.0] * 4 + [smallest], 8
    measured = measure_features(*isotropic(means_with_singular_values(values, d), radius=0.1))
    assert measured["sigma_b_rank"] == rank
    for name in PINV:
        assert_close(measured[name], 0.01 / d * sum(1 / s**2 for s in values[:rank]), 1e-3)


@pytest.mark.parametrize(
    ("K", "d", "rank"), [(2, 1, 1), (10, 1, 1), (10, 5, 5), (10, 9, 9), (10, 8, 8), (3, 50, 2)]
)
def test_rank_is_at_most_K_minus_1_and_d_and_a_small_d_raises_nothing(K, d, rank):
    H, y = clusters(K, d)
    values = measure_features(H, y, *classifier(K, d))
    assert values["sigma_b_rank"] == rank
    undefined = {"nc2_cos_std_means"} if K == 2 else set()
    assert {name for name, value in values.items() if not np.isfinite(value)} == undefined


def test_unbalanced_means_about_the_sample_mean_do_not_gain_a_rank():
    # About the sample mean the rows do not sum to zero: at K = 4, d >= 4, rounding could make a fourth direction.
    H, y = unbalanced(4, 20)
    values = measure_features(H + 1000, y)
    assert values["sigma_b_rank"] == 3
    for name in PINV:
        assert_close(values[name], measure_features(H, y)[name], 1e-7)


def test_pinv_form_is_blind_to_scatter_orthogonal_to_the_means_and_the_trace_ratio_is_not():
    values = measure_features(*orthogonal_scatter(4, extra=3))
    for name in PINV:
        assert_vanishes(values[name])
    for name in (*TRACE, "cdnv"):
        assert_far_from_zero(values[name], 0.1)


@pytest.mark.parametrize("offset", [3, -3])
def test_means_that_coincide_are_undefined_and_not_merely_huge(offset):
    H = normal(12, 6)
    scrambled = [H[torch.randperm(12, generator=generator(seed))] for seed in range(4)]
    values = measure_features(torch.cat(scrambled) + offset, labels([12] * 4))  # equal means, up to rounding
    assert values["sigma_b_rank"] == 0
    assert all(np.isnan(values[name]) for name in (*PINV, *TRACE))
    identical = measure_features(torch.ones(8, 3), labels([4] * 2))
    assert all(np.isnan(identical[name]) for name in (*PINV, *TRACE, "cdnv", "nc2_etf_means"))


MEANS = ["nc2_norm_cv_means", "nc2_cos_std_means", "nc2_cos_dev_means", "nc2_etf_means"]
DUALITY = ["nc3_frobenius", "nc3_etf", "nc3_cosine"]


@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("value", [0.1, -7.3, 1e6])
@pytest.mark.parametrize("path", [measure_features, lambda H, y, W: streamed(H, y, W, None, len(W), 7)])
def test_features_that_are_all_the_same_have_no_shape(K, value, path):
    y = torch.arange(8 * K) % K
    W = classifier(K, 4).W
    values = path(torch.full((8 * K, 4), value, dtype=torch.float64), y, W)
    assert values["sigma_b_rank"] == 0
    assert all(np.isnan(values[name]) for name in (*PINV, *TRACE, *MEANS, *DUALITY, "cdnv"))
    weights = {name for name in values if name.endswith("_weights")}
    assert len(weights) == 3 and all(np.isfinite(values[name]) for name in weights)
    # The control: means apart by far less than features, yet by more than rounding.
    apart = value * (1 + 1e-9 * class_means(K, 4))
    near, far = (measure_features(*at(means), W) for means in (apart, value * class_means(K, 4)))
    for name in (*MEANS, *DUALITY):
        assert near[name] == pytest.approx(far[name], abs=1e-5, nan_ok=K == 2)


def test_means_that_coincide_at_the_origin_are_told_by_the_scatter_that_rounded_them():
    H = normal(12, 6)
    H = H - H.mean(0)
    scrambled = [H[torch.randperm(12, generator=generator(seed))] for seed in range(4)]
    y, W = labels([12] * 4), classifier(4, 6).W
    values = measure_features(torch.cat(scrambled), y, W)
    assert values["sigma_b_rank"] == 0
    assert all(np.isnan(values[name]) for name in (*PINV, *TRACE, *MEANS, *DUALITY))
    assert values["cdnv"] == np.inf
    apart = measure_features(torch.cat(scrambled) + 1e-9 * class_means(4, 6, offset=0)[y], y, W)
    assert apart["sigma_b_rank"] == 3 and all(np.isfinite(value) for value in apart.values())


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_one_mean_on_the_mean_of_all_has_a_norm_and_no_direction(offset):
    means = torch.tensor([-1.0, 0.0, 1.0]).double()[:, None] * torch.tensor([0.1, 0.2, 0.3]) + offset
    assert bool((means.mean(0) == means[1]).all()) is (offset == 0), "the second case is one of rounding"
    values = measure_features(*at(means), classifier(3, 3).W)
    undefined = {"nc2_cos_std_means", "nc2_cos_dev_means", "nc3_cosine"}
    assert {name for name, value in values.items() if np.isnan(value)} == undefined
    assert_close(values["nc2_norm_cv_means"], np.std([1, 0, 1], ddof=1) / np.mean([1, 0, 1]))
    means[1] += 1e-9 * normal(3)
    assert all(np.isfinite(value) for value in measure_features(*at(means), classifier(3, 3).W).values())


def test_two_means_that_coincide_up_to_rounding_are_no_distance_apart():
    H = normal(12, 6)
    y = labels([12] * 3)
    scrambled = torch.cat([H, H[torch.randperm(12, generator=generator(1))], H + 5]) + 3
    assert not torch.equal(*ClassStats.of(scrambled, y, 3).mu[:2])
    values = measure_features(scrambled, y)
    assert values["cdnv"] == np.inf
    assert all(np.isfinite(values[name]) for name in (*PINV, *TRACE, *MEANS))
    scrambled[12:24] += 1e-6
    assert 1e11 < measure_features(scrambled, y)["cdnv"] < np.inf


def test_a_classifier_orthogonal_to_the_means_has_logits_of_no_shape():
    means = torch.cat([class_means(4, 3), torch.zeros(4, 3)], 1) @ random_rotation(6, generator(3))
    W = torch.cat([torch.zeros(4, 3), class_means(4, 3)], 1) @ random_rotation(6, generator(3))
    assert np.isnan(measure_features(*at(means), W)["nc3_etf"])
    tilted = measure_features(*at(means), W + 1e-9 * means)["nc3_etf"]
    assert_close(tilted, measure_features(*at(means), means)["nc3_etf"], 1e-4)


@pytest.mark.parametrize("name", [*PINV, *TRACE, "cdnv", "sigma_b_rank"])
def test_a_missing_class_is_refused_by_each_metric_and_not_taken_for_a_mean_of_zero(name):
    H, y = clusters(3, 6)
    metric = getattr(nc, name)
    with pytest.raises(ValueError, match="no sample of class 3"):
        metric(ClassStats.of(H, y, 4))
    assert np.isfinite(float(metric(ClassStats.of(H, y, 3))))


# Precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_common_offset_of_1e3_changes_nothing(dtype):
    # Multiples of 2^-12 below 2^2 keep all their digits in float32 after 1024 is added: the shift is exact.
    H, y = clusters(10, 8, noise=0.05)
    H = (H * 4096).round() / 4096
    W, b = classifier(10, 8)
    shifted = (H + 1024).to(dtype)
    assert torch.equal(shifted.double() - 1024, H)
    expected = measure_features(H, y, W, b)
    assert_same(measure_features(shifted, y, W, b - 1024 * W.sum(1)), expected)
    assert_same(streamed(shifted, y, W, b - 1024 * W.sum(1), 10, 25), expected)
    # The control: E[x^2] - mu^2 in float32 loses the scatter altogether.
    of_class = shifted.float()[y == 3]
    naive = float((of_class.square().mean(0) - of_class.mean(0).square()).sum())
    assert not 0.5 < naive / float(H[y == 3].var(0, correction=0).sum()) < 2


def test_collapse_is_measured_far_below_what_float32_sums_resolve():
    H, y = isotropic(class_means(4, 6) + 100, radius=1e-6)
    large = measure_features(*isotropic(class_means(4, 6), radius=1.0))
    values = measure_features(H, y)
    for name in (*PINV, *TRACE, "cdnv"):
        assert_close(1e12 * values[name] / large[name], 1, 1e-6)


# Conventions


def test_two_classes_are_always_a_simplex_and_their_one_angle_has_no_spread():
    values = measure_features(*clusters(2, 5))
    assert np.isnan(values["nc2_cos_std_means"])
    for name in ("nc2_norm_cv_means", "nc2_cos_dev_means", "nc2_etf_means"):
        assert_vanishes(values[name])
    assert_far_from_zero(measure_features(*clusters(2, 5), classifier(2, 5).W)["nc2_etf_weights"], 0.01)


def test_a_class_of_one_sample_counts_and_has_no_scatter():
    H, y = clusters(3, 4, counts=[1, 9, 9])
    values = measure_features(H, y)
    assert all(np.isfinite(value) for value in values.values())
    one_each = measure_features(class_means(5, 8), torch.arange(5))
    for name in (*PINV, *TRACE, "cdnv"):
        assert_vanishes(one_each[name])
    assert one_each["ncc_accuracy"] == 1


def test_spread_is_the_unbiased_standard_deviation():
    # Centred means on a line, at -1, 0.2 and 0.8: norms 1, 0.2, 0.8 and cosines -1, -1, 1.
    means = torch.tensor([[-1.0], [0.2], [0.8]], dtype=torch.float64)
    values = measure_features(*at(means), torch.tensor([[1.0], [-2.0], [3.0]]))
    assert_close(values["nc2_norm_cv_means"], np.std([1, 0.2, 0.8], ddof=1) / np.mean([1, 0.2, 0.8]))
    assert_close(values["nc2_cos_std_means"], np.std([-1, -1, 1], ddof=1))
    assert_close(values["nc2_norm_cv_weights"], 0.5)


def test_weighting_by_class_size_is_a_variant_of_its_own():
    # Means at 0, 1 and 5 on a line, with 1, 2 and 7 pairs at +-0.1 about them: Sigma_W = 0.01.
    means = torch.tensor([[0.0], [1.0], [5.0]]).double()
    y = labels([2, 4, 14])
    H = means[y] + 0.1 * torch.tensor([1.0, -1.0]).double().repeat(10)[:, None]
    values = measure_features(H, y)
    class_centred, about_sample_mean = 14 / 3, (3.7**2 + 2.7**2 + 1.3**2) / 3
    weighted = 0.1 * 3.7**2 + 0.2 * 2.7**2 + 0.7 * 1.3**2
    assert_close(values["nc1_pinv"], 0.01 / class_centred / 3)
    assert_close(values["nc1_pinv_sample_centred"], 0.01 / about_sample_mean / 3)
    assert_close(values["nc1_pinv_weighted"], 0.01 / weighted / 3)
    assert_close(values["nc1_trace_ratio"], 0.01 / class_centred)
    assert_close(values["nc1_trace_ratio_weighted"], 0.01 / weighted)


def test_cdnv_uses_each_class_s_own_variance_over_squared_distances():
    means = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).double()
    radius = torch.tensor([1.0, 2.0]).double()
    y = labels([4, 2])
    signs = torch.tensor([1.0, -1.0]).repeat(3)
    H = means[y] + (signs * radius[y])[:, None] * torch.tensor([0.6, 0.8], dtype=torch.float64)
    assert_close(measure_features(H, y)["cdnv"], (1 + 4) / (2 * 25))


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_noisy_labels_give_collapsed_clean_classes_a_variability_of_their_own(K, rate):
    # Noisy means are (1-q) of the clean ones, and total variance is what it was.
    (H, noisy), clean = mislabelled(class_means(K, 7), rate)
    offset = 1 / (1 - rate) ** 2 - 1
    values = measure_features(H, noisy)
    for name in TRACE:
        assert_close(values[name], offset)
        assert_vanishes(measure_features(H, clean)[name])
    for name in PINV:
        assert_close(values[name], offset * (K - 1) / K)
        assert_vanishes(measure_features(H, clean)[name])
    assert_close(values["ncc_accuracy"], 1 - rate * (K - 1) / K)


def test_a_bias_that_is_ignored_is_seen_on_features_with_an_offset():
    H, y = clusters(4, 6)
    H = H + 5
    W, b = nearest_mean_classifier(ClassStats.of(H, y, 4).mu)
    assert measure_features(H, y, W, b)["nc4_mismatch"] == 0
    assert measure_features(H, y, W)["nc4_mismatch"] > 0.3


def test_no_bias_decides_like_a_bias_of_zero():
    H, y = clusters(4, 6)
    W, _ = classifier(4, 6)
    with_zeros = measure_features(H, y, W, torch.zeros(4))
    assert_far_from_zero(with_zeros.pop("bias_collapse"), 0.1)
    assert_same(measure_features(H, y, W), with_zeros, 1e-14)


def test_rows_of_the_classifier_and_labels_are_in_one_order():
    # A perfect classifier of well-separated classes: any off-by-one in rows or labels shows as a mismatch.
    means = 20 * simplex_etf(10, 12, generator=generator())
    H, y = isotropic(means)
    values = measure_features(H, y, means, -means.square().sum(1) / 2)
    assert values["ncc_accuracy"] == 1 and values["nc4_mismatch"] == 0
    assert measure_features(H, y, means.roll(1, 0))["nc4_mismatch"] == 1
