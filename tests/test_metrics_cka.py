"""nclib.cka: invariances, bias and its removal, the RBF kernel's medians, and what a collapsed layer can reach."""

import math
import re
from functools import partial
from math import sqrt

import numpy as np
import pytest
import reference
import torch
from asserts import assert_close, assert_similarity_invariant, assert_vanishes
from samplers import at, clusters, generator, normal
from scipy import spatial

from nclib import cka
from nclib.geometry import random_rotation, simplex_etf
from nclib.metrics.cka import aligned, class_parts, procrustes_similarity

VARIANTS = [
    {"kernel": "linear"},
    {"kernel": "linear", "debiased": True},
    {"kernel": "rbf"},
    {"kernel": "rbf", "debiased": True},
    {"kernel": "rbf", "median": "offdiag", "bandwidth": 0.5},
    {"kernel": "rbf", "median": "offdiag", "bandwidth": 0.5, "debiased": True},
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
each_shape = pytest.mark.parametrize(("n", "p", "q"), [(30, 5, 8), (12, 40, 9), (12, 30, 50)])


def related(n, p, q, seed=0):
    """Two representations that share their first coordinates and differ in the others."""
    x, y = normal(n, p, seed=seed), normal(n, q, seed=seed + 1)
    shared = min(p, q) // 2
    y[:, :shared] += 2 * x[:, :shared]
    return x, y


# Invariances and bounds


@each_variant
@each_shape
def test_similarity_is_invariant(variant, n, p, q):
    assert_similarity_invariant(partial(cka, **variant), *related(n, p, q))


@each_variant
@each_shape
def test_a_representation_is_similar_to_itself_and_less_so_to_others(variant, n, p, q):
    x, y = related(n, p, q)
    assert_close(cka(x, x, **variant), 1)
    assert cka(x, y, **variant) < 0.99


@each_variant
@each_shape
def test_agrees_with_the_formula_written_out(variant, n, p, q):
    x, y = related(n, p, q)
    assert_close(cka(x, y, **variant), reference.cka(x, y, **variant))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize(("p", "q"), [(20, 20), (20, 19), (21, 3), (3, 21), (300, 200)])
def test_over_features_and_over_samples_are_one(debiased, p, q):
    # 20 samples: features are the cheaper side up to 20 of them. Zero columns change the side, not the value.
    x, y = related(20, p, q)
    wide = torch.cat([x, torch.zeros(20, 30)], 1)
    assert_close(cka(wide, y, debiased=debiased), cka(x, y, debiased=debiased))


def test_linear_cka_is_kornblith_s_feature_form():
    x, y = related(30, 5, 8)
    X, Y = x - x.mean(0), y - y.mean(0)
    norm = torch.linalg.matrix_norm
    assert_close(cka(x, y), norm(Y.T @ X) ** 2 / (norm(X.T @ X) * norm(Y.T @ Y)))


# Bias


@pytest.mark.parametrize("n", [60, 100])
def test_independent_wide_layers_look_alike_until_debiased(n):
    biased, debiased = (
        [cka(normal(n, 3000, seed=2 * s), normal(n, 3000, seed=2 * s + 1), debiased=d) for s in range(5)]
        for d in (False, True)
    )
    assert min(biased) > 0.9
    assert max(map(abs, debiased)) < 0.05


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_debiased_estimates_of_nothing_are_negative_half_of_the_time_and_not_clamped(kernel):
    values = [
        cka(normal(20, 6, seed=2 * s), normal(20, 6, seed=2 * s + 1), kernel=kernel, debiased=True)
        for s in range(40)
    ]
    assert 8 <= sum(value < 0 for value in values) <= 32
    assert abs(np.mean(values)) < 3 * np.std(values) / sqrt(40)


def test_debiasing_matters_less_and_less_with_more_samples():
    gaps = []
    for n in (10, 100, 1000):
        x, y = related(n, 6, 6)
        gaps.append(abs(cka(x, y) - cka(x, y, debiased=True)))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]


def test_song_s_estimator_of_four_samples_by_hand():
    # K and L one-dimensional linear kernels of centred points: all terms are small integers.
    x = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    y = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]])

    def hsic(a, b):
        K, L = np.outer(a, a), np.outer(b, b)
        np.fill_diagonal(K, 0)
        np.fill_diagonal(L, 0)
        return (np.trace(K @ L) + K.sum() * L.sum() / 6 - (K @ L).sum()) / 4

    a, b = x.double().numpy().ravel(), y.double().numpy().ravel()
    assert_close(cka(x, y, debiased=True), hsic(a, b) / sqrt(hsic(a, a) * hsic(b, b)))


# The RBF kernel


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 2.0])
def test_medians_are_numpy_s_over_what_their_name_says(n, bandwidth):
    # For few samples the n zeros of the diagonal and the mean of two middle values both move the median.
    x, y = related(n, 3, 4)
    values = {m: cka(x, y, kernel="rbf", median=m, bandwidth=bandwidth) for m in ("all", "offdiag")}
    for median, value in values.items():
        assert_close(value, reference.cka(x, y, kernel="rbf", median=median, bandwidth=bandwidth))
    assert abs(values["all"] - values["offdiag"]) > 1e-4


def test_offdiag_median_is_of_distances_not_of_their_squares():
    # 4 samples have 6 distances: the square of the mean of the middle two is not the mean of their squares.
    x = torch.tensor([[0.0], [1.0], [3.0], [9.0]]).double()
    y = torch.tensor([[0.0], [2.0], [1.0], [5.0]]).double()
    D = (x - x.T).abs().numpy()
    distances = sorted(D[np.triu_indices(4, 1)])
    assert distances == [1, 2, 3, 6, 8, 9]
    kernels = {sigma2: np.exp(-(D**2) / (2 * sigma2)) for sigma2 in (4.5**2, (9 + 36) / 2, 3**2)}
    L = reference.rbf_kernel(y.numpy(), median="offdiag")
    right, *wrong = (
        reference.hsic_biased(K, L) / sqrt(reference.hsic_biased(K, K) * reference.hsic_biased(L, L))
        for K in kernels.values()
    )
    value = cka(x, y, kernel="rbf", median="offdiag")
    assert_close(value, right)
    assert all(abs(value - other) > 1e-4 for other in wrong)


def test_a_wide_rbf_kernel_becomes_the_linear_one():
    x, y = related(30, 5, 8)
    assert_close(cka(x, y, kernel="rbf", bandwidth=1e3), cka(x, y), 1e-4)
    assert abs(cka(x, y, kernel="rbf") - cka(x, y)) > 0.01


def test_rbf_of_collapsed_classes_has_no_scale_when_most_pairs_coincide():
    # Of 8 and 2 equal rows, 68 of 100 pairs coincide; matrix products leave rounding errors where zeros belong, of
    # either sign: one draw in three has a positive median.
    other = normal(10, 4)
    for seed in range(10):
        unequal = at(normal(2, 300, seed=seed), [8, 2]).H
        assert np.isnan(cka(unequal, other, kernel="rbf")) and np.isnan(cka(other, unequal, kernel="rbf"))
    assert np.isfinite(cka(at(normal(5, 300), 2).H, other, kernel="rbf"))


# Collapsed layers


@each_variant
def test_collapsed_layers_that_are_rotations_of_each_other_are_the_same(variant):
    simplex = simplex_etf(10, 16)
    layer = at(simplex).H
    turned = at(simplex @ random_rotation(16, generator())).H
    assert_close(cka(layer, 3 * turned + 1, **variant), 1)
    exchanged = at(simplex[torch.randperm(10, generator=generator(1))]).H
    assert_close(cka(layer, exchanged, **variant), 1)  # a simplex has no favourite vertex
    assert cka(layer, clusters(10, 16, counts=[5] * 10, noise=1.0).H, **variant) < 0.95


def test_a_simplex_of_ten_classes_is_at_most_sqrt_8_9_similar_to_anything_of_rank_8():
    simplex = simplex_etf(10)
    layer = at(simplex).H
    assert_close(cka(layer, at(simplex[:, :8]).H), sqrt(8 / 9))
    assert_close(cka(layer, layer[:, :8] @ random_rotation(8, generator())), sqrt(8 / 9))
    for seed in range(20):
        assert cka(layer, at(simplex @ normal(9, 8, seed=seed)).H) < sqrt(8 / 9) - 0.01


# Input


@each_variant
def test_a_large_offset_in_float32_costs_nothing(variant):
    # Multiples of 2^-10 survive the shift exactly, so any difference is cancellation inside.
    x, y = ((tensor * 1024).round() / 1024 for tensor in related(30, 5, 40))
    shifted = (x + 4096).float()
    assert torch.equal(shifted.double() - 4096, x)
    assert_close(cka(shifted, y.float() - 2048, **variant), cka(x, y, **variant))


@each_variant
def test_a_constant_side_is_undefined(variant):
    y = normal(20, 3)
    for p in (1, 3, 50):
        constant = torch.full((20, p), 0.1)
        assert np.isnan(cka(constant, y, **variant)) and np.isnan(cka(y, constant, **variant))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_any_dtype_is_computed_in_float64(dtype):
    x, y = (tensor.mul(8).to(dtype) for tensor in related(30, 5, 8))
    assert_close(cka(x, y), cka(x.double(), y.double()), 1e-14)


def test_numpy_strides_and_gradients_do_not_matter():
    x, y = related(30, 6, 8)
    expected = cka(x, y)
    array = x.numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    assert type(expected) is float
    for same in (
        array,
        np.asfortranarray(array),
        array[:, ::-1],
        read_only,
        x.flip(1),
        x.clone().requires_grad_(),
    ):
        assert_close(cka(same, y.numpy()), expected)


def refused(message, *arguments, **options):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        cka(*arguments, **options)


def test_too_few_samples_are_refused():
    x = normal(4, 3)
    assert np.isfinite(cka(x, x, debiased=True)) and np.isfinite(cka(x[:2], x[:2]))
    refused("debiased CKA needs at least 4 samples, got 3", x[:3], x[:3], debiased=True)
    refused("CKA needs at least 2 samples, got 1", x[:1], x[:1])


def test_wrong_input_is_refused():
    x = normal(6, 3)
    refused("x and y must describe the same samples, got 6 and 5 rows", x, x[:5])
    refused(
        "y must be (n, features), got shape (6, 3, 1): flatten or pool it first", x, x[:, :, None].numpy()
    )
    refused("x contains NaN or infinite values", x / 0, x)
    refused("y contains NaN or infinite values", x, x * torch.nan)
    refused('kernel must be "linear" or "rbf", got \'cosine\'', x, x, kernel="cosine")
    refused('median must be "all" or "offdiag", got \'mean\'', x, x, kernel="rbf", median="mean")
    for bandwidth in (0.0, -1.0, float("nan")):
        refused(f"bandwidth must be positive, got {bandwidth}", x, x, kernel="rbf", bandwidth=bandwidth)


# Beside CKA: Procrustes, and class means and residuals apart


def test_procrustes_similarity_is_one_for_a_rotated_scaled_shifted_copy_and_less_for_others():
    X = normal(50, 4)
    copy = 3 * X @ random_rotation(4, generator(1)) + 7
    assert_vanishes(procrustes_similarity(X, copy) - 1)
    assert procrustes_similarity(X, X**3) < 0.99
    assert procrustes_similarity(X, normal(50, 6, seed=2)) == pytest.approx(
        procrustes_similarity(normal(50, 6, seed=2), X)
    )
    assert math.isnan(procrustes_similarity(X, torch.zeros(50, 2)))


def test_procrustes_similarity_is_scipys_distance():
    X, Y = normal(30, 5), normal(30, 5, seed=1)
    _, _, disparity = spatial.procrustes(X.numpy(), Y.numpy())
    assert procrustes_similarity(X, Y) ** 2 == pytest.approx(1 - disparity, rel=1e-9)


def test_the_best_rotation_undoes_a_rotation_and_leaves_cka_alone():
    X, R = normal(60, 5), random_rotation(5, generator(3))
    Y = 2 * X @ R + 0.1 * normal(60, 5, seed=4)
    best = aligned(X, Y)
    Y = Y - Y.mean(0)
    assert (best - Y).norm() < 0.1 * Y.norm()
    assert (X - X.mean(0) - Y).norm() > 0.5 * Y.norm(), "the control: not aligned it is far away"
    for seed in range(20):
        other = (X - X.mean(0)) @ random_rotation(5, generator(seed)) * float(best.norm() / X.norm())
        assert (other - Y).norm() > (best - Y).norm()
    assert_vanishes(cka(best, Y, debiased=True) - cka(X, Y, debiased=True))
    with pytest.raises(ValueError, match="equal dimensions, got 5 and 4"):
        aligned(X, Y[:, :4])


def test_class_means_and_residuals_make_up_the_features():
    H, y = normal(40, 3), torch.arange(4).repeat(10)
    means, residuals = class_parts(H, y, 4)
    assert_vanishes((means[y] + residuals - H).abs().max())
    for k in range(4):
        assert_vanishes(residuals[y == k].mean(0).abs().max())
    with pytest.raises(ValueError, match="class"):
        class_parts(H, y, 5)


def test_collapsed_networks_share_their_means_and_nothing_of_what_is_left():
    y = torch.arange(10).repeat_interleave(30)
    M = simplex_etf(10, 12)
    A, B = (M[y] @ random_rotation(12, generator(s)) + 0.3 * normal(300, 12, seed=s) for s in (1, 2))
    (means, left), (others, right) = class_parts(A, y, 10), class_parts(B, y, 10)
    assert cka(means, others) > 0.9
    assert abs(cka(left, right, debiased=True)) < 0.05
