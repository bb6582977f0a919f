"""nclib.metrics.mse: the squared error is the sum of its parts, each part vanishes when and only when it should."""

import math

import pytest
import reference
import torch
from asserts import assert_close, assert_far_from_zero, assert_same, assert_vanishes
from samplers import (
    at,
    class_means,
    classifier,
    clusters,
    collapsed,
    generator,
    isotropic,
    means_of_rank,
    normal,
    orthogonal_scatter,
    unbalanced,
)

from nclib.geometry import random_rotation, simplex_etf
from nclib.metrics.mse import least_squares_head, mse_decomposition, snr_singular_values, snr_spread
from nclib.metrics.nc import Head, nc1_pinv
from nclib.stats import ClassStats

both_samples = pytest.mark.parametrize("make", [clusters, unbalanced])
with_and_without_bias = pytest.mark.parametrize("bias", [True, False])
SHAPES = [(4, 6), (3, 2), (6, 3), (4, 80)]  # the last with more dimensions than samples


def head_of(K, d, bias):
    W, b = classifier(K, d)
    return Head(W, b if bias else None)


def loss(H, y, head, lambda_W):
    """Half the mean squared error over samples, with the penalty: what autograd may differentiate."""
    logits = H @ head.W.T + (0 if head.b is None else head.b)
    penalty = head.W.square().sum() + (0 if head.b is None else head.b.square().sum())
    targets = torch.nn.functional.one_hot(y, len(head.W))
    return (logits - targets).square().sum() / (2 * len(y)) + lambda_W / 2 * penalty


def parts(values):
    return values["mse_nc1"] + values["mse_nc23"] + values["mse_perp"]


# The identity


@both_samples
@with_and_without_bias
@pytest.mark.parametrize("lambda_W", [0.0, 1e-6, 0.03, 5.0])
@pytest.mark.parametrize(("K", "d"), SHAPES)
def test_the_loss_is_the_sum_of_its_parts(make, bias, lambda_W, K, d):
    H, y = make(K, d)
    head = head_of(K, d, bias)
    values = mse_decomposition(ClassStats.of(H, y, K), head, lambda_W)
    assert_close(values["mse_total"], loss(H, y, head, lambda_W), 1e-10)
    assert_close(parts(values), values["mse_total"], 1e-10)
    for name, value in values.items():
        assert value >= 0, name


@both_samples
@with_and_without_bias
@pytest.mark.parametrize("lambda_W", [0.0, 0.03])
def test_every_part_is_what_a_sum_over_samples_gives(make, bias, lambda_W):
    H, y = make(4, 6)
    head = head_of(4, 6, bias)
    values = mse_decomposition(ClassStats.of(H, y, 4), head, lambda_W)
    assert_same(values, reference.mse_decomposition(H, y.tolist(), head.W, head.b, lambda_W))


def test_one_over_k_for_unbalanced_classes_would_not_add_up():
    H, y = unbalanced(4, 6)
    stats, head = ClassStats.of(H, y, 4), head_of(4, 6, False)
    values = mse_decomposition(stats, head, 0.03)
    W_LS = least_squares_head(stats, 0.03, bias=False).W
    unweighted = (stats.mu @ W_LS.T - torch.eye(4)).square().sum() / 8
    assert_far_from_zero(abs(float(unweighted) - values["mse_nc23"]), 1e-3)


def test_the_published_form_is_that_of_balanced_classes():
    H, y = clusters(4, 6)
    stats = ClassStats.of(H, y, 4)
    Sigma_T = torch.cov(H.T, correction=0)
    A = Sigma_T + torch.outer(H.mean(0), H.mean(0)) + 0.03 * torch.eye(6)
    W_LS = stats.mu @ torch.linalg.inv(A) / 4
    torch.testing.assert_close(least_squares_head(stats, 0.03, bias=False).W, W_LS)
    values = mse_decomposition(stats, Head(W_LS), 0.03)
    nc1 = torch.trace(W_LS @ (stats.Sigma_W + 0.03 * torch.eye(6)) @ W_LS.T) / 2
    assert_close(values["mse_nc1"], nc1)
    assert_close(values["mse_nc23"], (W_LS @ stats.mu.T - torch.eye(4)).square().sum() / 8)


@with_and_without_bias
def test_weight_decay_of_a_training_with_torch_is_lambda_over_half_of_k(bias):
    K, decay = 4, 0.01
    H, y = clusters(K, 6)
    W, b = (tensor.requires_grad_() for tensor in classifier(K, 6))
    trained = [W, b] if bias else [W]
    optimizer = torch.optim.SGD(trained, lr=1.0, weight_decay=decay)
    targets = torch.nn.functional.one_hot(y, K).double()
    torch.nn.functional.mse_loss(H @ W.T + (b if bias else 0), targets).backward()
    before = [tensor.detach().clone() for tensor in trained]
    optimizer.step()
    steps = [old - new.detach() for old, new in zip(before, trained, strict=True)]
    leaves = [tensor.clone().requires_grad_() for tensor in before]
    gradients = torch.autograd.grad(loss(H, y, Head(*leaves), K * decay / 2), leaves)
    for step, gradient in zip(steps, gradients, strict=True):
        torch.testing.assert_close(K / 2 * step, gradient)


# The best classifier


@both_samples
@with_and_without_bias
@pytest.mark.parametrize("lambda_W", [0.0, 0.03])
def test_the_gradient_vanishes_at_the_best_classifier_and_not_elsewhere(make, bias, lambda_W):
    H, y = make(4, 6)
    best = least_squares_head(ClassStats.of(H, y, 4), lambda_W, bias=bias)
    for head, check in ((best, assert_vanishes), (head_of(4, 6, bias), assert_far_from_zero)):
        leaves = [t.clone().requires_grad_() for t in (head.W, head.b) if t is not None]
        gradients = torch.autograd.grad(loss(H, y, Head(*leaves), lambda_W), leaves)
        check(max(g.abs().max() for g in gradients))


@both_samples
@with_and_without_bias
@pytest.mark.parametrize("lambda_W", [0.0, 0.03])
@pytest.mark.parametrize(("K", "d"), SHAPES)
def test_perp_vanishes_at_the_best_classifier_and_not_beside_it(make, bias, lambda_W, K, d):
    stats = ClassStats.of(*make(K, d), K)
    best = least_squares_head(stats, lambda_W, bias=bias)
    assert mse_decomposition(stats, best, lambda_W)["mse_perp"] == 0
    beside = mse_decomposition(stats, Head(best.W + 0.1 * normal(K, d, seed=5), best.b), lambda_W)
    assert_far_from_zero(beside["mse_perp"])
    assert beside["mse_nc1"] == mse_decomposition(stats, best, lambda_W)["mse_nc1"]


def test_without_a_penalty_unused_directions_get_no_weight():
    H, y = clusters(4, 6)
    wide = torch.cat([H, torch.zeros(len(H), 3)], 1).double() @ random_rotation(9, generator(3))
    narrow_stats, wide_stats = ClassStats.of(H, y, 4), ClassStats.of(wide, y, 4)
    narrow, best = (least_squares_head(stats, 0.0, bias=True) for stats in (narrow_stats, wide_stats))
    assert_close(best.W.norm(), narrow.W.norm())
    values = mse_decomposition(wide_stats, best, 0.0)
    assert_same(values, mse_decomposition(narrow_stats, narrow, 0.0))
    unused = torch.linalg.svd(wide).Vh[-1]
    elsewhere = Head(best.W + torch.outer(torch.ones(4).double(), unused), best.b)
    assert_vanishes(mse_decomposition(wide_stats, elsewhere, 0.0)["mse_perp"])


# What the parts say of features


@with_and_without_bias
def test_scatter_costs_nothing_at_collapse_without_a_penalty_and_something_otherwise(bias):
    head = head_of(4, 6, bias)
    collapse = ClassStats.of(*collapsed(4, 6), 4)
    assert_vanishes(mse_decomposition(collapse, head, 0.0)["mse_nc1"])
    assert_vanishes(mse_decomposition(collapse, head, 0.0)["mse_nc23"])
    assert_far_from_zero(mse_decomposition(collapse, head, 0.03)["mse_nc1"])
    assert_far_from_zero(mse_decomposition(ClassStats.of(*clusters(4, 6), 4), head, 0.0)["mse_nc1"])


def test_means_that_no_linear_map_tells_apart_cost_something_even_at_collapse():
    line = torch.arange(4).double()[:, None] * normal(1, 6)
    values = mse_decomposition(ClassStats.of(*at(line), 4), head_of(4, 6, True), 0.0)
    assert_vanishes(values["mse_nc1"])
    assert_far_from_zero(values["mse_nc23"], 0.1)


def test_a_bias_does_the_work_of_a_constant_feature():
    H, y = unbalanced(4, 6)
    W, b = classifier(4, 6)
    extended = torch.cat([H, torch.ones(len(H), 1).double()], 1)
    expected = mse_decomposition(ClassStats.of(extended, y, 4), Head(torch.cat([W, b[:, None]], 1)), 0.03)
    stats = ClassStats.of(H, y, 4)
    assert_same(mse_decomposition(stats, Head(W, b), 0.03), expected)
    without = mse_decomposition(stats, Head(W), 0.03)
    assert without["mse_nc23"] > 1.01 * expected["mse_nc23"]


@with_and_without_bias
def test_a_float32_classifier_is_measured_in_float64(bias):
    stats, head = ClassStats.of(*clusters(4, 6), 4), head_of(4, 6, bias)
    single = Head(head.W.float(), head.b.float() if bias else None)
    double = Head(single.W.double(), single.b.double() if bias else None)
    assert mse_decomposition(stats, single, 0.03) == mse_decomposition(stats, double, 0.03)
    assert mse_decomposition(stats, single, 0.03) != mse_decomposition(stats, head, 0.03)


def test_rotation_and_the_order_of_classes_do_not_matter():
    H, y = unbalanced(4, 6)
    W, b = classifier(4, 6)
    expected = mse_decomposition(ClassStats.of(H, y, 4), Head(W, b), 0.03)
    Q = random_rotation(6, generator(2))
    assert_same(mse_decomposition(ClassStats.of(H @ Q, y, 4), Head(W @ Q, b), 0.03), expected)
    new = torch.tensor([2, 0, 3, 1])
    old = new.argsort()
    assert_same(mse_decomposition(ClassStats.of(H, new[y], 4), Head(W[old], b[old]), 0.03), expected)


# Refusals


def test_what_cannot_be_taken_apart_is_refused():
    H, y = clusters(4, 6)
    stats, head = ClassStats.of(H, y, 4), head_of(4, 6, True)
    with pytest.raises(ValueError, match=r"use ClassStats\.of"):
        mse_decomposition(ClassStats.with_coordinates(H, y, 4)[0], head, 0.0)
    with pytest.raises(ValueError, match="no sample of class 2"):
        mse_decomposition(ClassStats.of(H[y != 2], y[y != 2], 4), head, 0.0)
    with pytest.raises(ValueError, match=r"weight must be \(K, d\) = \(4, 6\), got \(4, 5\)"):
        mse_decomposition(stats, Head(head.W[:, :5], head.b), 0.0)
    for wrong in (-1e-3, math.nan, math.inf):
        with pytest.raises(ValueError, match="lambda_W must be at least 0"):
            least_squares_head(stats, wrong, bias=True)


# Signal to noise


@both_samples
@pytest.mark.parametrize(("K", "d"), [(2, 4), (4, 6), (3, 2), (6, 30)])
def test_singular_values_are_those_of_the_definition(make, K, d):
    H, y = make(K, d)
    values = snr_singular_values(ClassStats.of(H, y, K))
    expected = torch.from_numpy(reference.snr_singular_values(H.numpy(), y.tolist()))[: K - 1]
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(snr_singular_values(ClassStats.with_coordinates(H, y, K)[0]), expected)
    assert_close(snr_spread(ClassStats.of(H, y, K)), expected[0] / expected[-1])


@both_samples
@pytest.mark.parametrize(("K", "d"), [(4, 6), (6, 3), (6, 30)])
def test_their_inverse_squares_add_up_to_nc1(make, K, d):
    stats = ClassStats.of(*make(K, d), K)
    assert_close(snr_singular_values(stats).pow(-2).sum(), nc1_pinv(stats))


@pytest.mark.parametrize(("K", "d"), [(2, 1), (4, 3), (4, 9)])
def test_isotropic_scatter_about_a_simplex_has_equal_signals_and_means_in_general_do_not(K, d):
    simplex = 5 * simplex_etf(K, d, generator=generator())
    stats = ClassStats.of(*isotropic(simplex + 7, radius=0.5), K)
    omega = snr_singular_values(stats)
    # each of the simplex's singular values is 5 sqrt(K/(K-1)), the scatter in each direction 0.5/sqrt(d)
    torch.testing.assert_close(omega, torch.full_like(omega, 10 * (K * d / (K - 1)) ** 0.5))
    assert_close(snr_spread(stats), 1)
    if K > 2:
        assert snr_spread(ClassStats.of(*isotropic(class_means(K, d)), K)) > 1.2


def test_any_linear_map_leaves_the_signals_of_means_that_fill_the_space_as_they_are():
    H, y = clusters(4, 3)
    stretch = normal(3, 3, seed=4)
    expected = snr_singular_values(ClassStats.of(H, y, 4))
    torch.testing.assert_close(snr_singular_values(ClassStats.of(H @ stretch + 5, y, 4)), expected)
    torch.testing.assert_close(snr_singular_values(ClassStats.of(2 * H, 3 - y, 4)), expected)
    assert_far_from_zero((snr_singular_values(ClassStats.of(H + normal(48, 3), y, 4)) - expected).abs().max())


def test_scatter_outside_the_span_of_the_means_does_not_count():
    H, y = orthogonal_scatter(4)
    assert snr_singular_values(ClassStats.of(H, y, 4)).min() > 1e6
    assert snr_singular_values(ClassStats.of(*clusters(4, 6), 4)).max() < 1e2


def test_directions_without_scatter_have_no_noise_even_where_rounding_makes_their_variance_negative():
    negative = 0
    for seed in range(8):
        y = torch.arange(5).repeat_interleave(6)
        H = class_means(5, 4, seed=seed)[y] + normal(30, 1, seed=seed) * normal(1, 4, seed=seed + 100)
        stats = ClassStats.of(H, y, 5)
        omega = snr_singular_values(stats)
        assert (omega[:3] > 1e6).all() and omega[3] < 1e2
        negative += bool((torch.linalg.eigvalsh(stats.Sigma_W) < 0).any())
    assert negative, "the control: rounding does so on some of these"


def test_no_spread_is_made_up_where_directions_or_scatter_are_missing():
    few = ClassStats.of(*isotropic(means_of_rank(2, 5, 6)), 5)
    assert len(snr_singular_values(few)) == 2
    assert snr_spread(few) == math.inf
    same = ClassStats.of(*isotropic(torch.ones(4, 6).double()), 4)
    assert len(snr_singular_values(same)) == 0
    assert snr_spread(same) == math.inf
    gone = ClassStats.of(*collapsed(4, 6), 4)
    assert bool(gone.within.any()), "the control: rounding leaves some scatter"
    assert bool(snr_singular_values(gone).isinf().all()) and math.isnan(snr_spread(gone))
    left = ClassStats.of(*isotropic(class_means(4, 6), radius=1e-9), 4)
    assert 1 < snr_spread(left) < math.inf
