"""The convex partner: a bound by the nuclear norm, equal where factors are balanced, least where f is."""

import math

import pytest
import torch
from samplers import generator, labels, normal

from nclib.theory import convex, unconstrained, zhu2021

PROBLEM = {"num_classes": 4, "per_class": 3, "lambda_W": 2e-3, "lambda_H": 1e-2}
DECAYS = {"lambda_W": 2e-3, "lambda_H": 1e-2}
WEIGHT = math.sqrt(2e-3 * 1e-2)
Y = labels([3, 3, 3, 3])


def partner_and_objective(W, H, b=None, **more):
    decays = DECAYS | more
    partner = zhu2021.convex_partner(H @ W.T, Y, b, **decays).item()
    return partner, zhu2021.objective(W, H, b, Y, **decays).item()


@pytest.mark.parametrize("d", [1, 3, 7])
@pytest.mark.parametrize("with_bias", [False, True])
def test_objective_is_above_its_partner_for_any_factors(d, with_bias):
    for seed in range(30):
        b = normal(4, seed=seed + 200) if with_bias else None
        partner, value = partner_and_objective(
            normal(4, d, seed=seed), normal(12, d, seed=seed + 100), b, lambda_b=0.1
        )
        assert value > partner + 1e-4


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("d", [4, 9, 15])
def test_balanced_factors_and_only_they_attain_the_partner(rank, d):
    Z = normal(12, rank) @ normal(rank, 4, seed=1)
    W, H = convex.balanced_factors(Z, d, **DECAYS)
    assert W.shape == (4, d) and H.shape == (12, d)
    torch.testing.assert_close(H @ W.T, Z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(2e-3 * W.T @ W, 1e-2 * H.T @ H, rtol=1e-11, atol=1e-12)
    partner, value = partner_and_objective(W, H)
    assert value == pytest.approx(partner, rel=1e-13)
    # The same logits from factors of other sizes, or mixed by a matrix that is no rotation, cost more.
    partner, value = partner_and_objective(1.1 * W, H / 1.1)
    assert value > partner + 1e-5
    mix = torch.eye(d).double() + 0.3 * normal(d, d, seed=2)
    partner, value = partner_and_objective(W @ mix, H @ torch.linalg.inv(mix).T)
    assert value > partner + 1e-5


@pytest.mark.parametrize("lambda_b", [0.0, 0.1, 2.0])
def test_balanced_factors_attain_the_partner_beside_any_bias(lambda_b):
    W, H = convex.balanced_factors(normal(12, 4), 5, **DECAYS)
    partner, value = partner_and_objective(W, H, normal(4, seed=1), lambda_b=lambda_b)
    assert value == pytest.approx(partner, rel=1e-13)
    # Control: a bias that is decayed otherwise.
    other, _ = partner_and_objective(W, H, normal(4, seed=1), lambda_b=lambda_b + 0.01)
    assert other > partner + 1e-3


@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e6])
def test_factors_need_as_many_dimensions_as_the_logits_have_at_any_scale(scale):
    with pytest.raises(ValueError, match="Z has rank 4: it has no factors in d=3 dimensions"):
        convex.balanced_factors(scale * normal(12, 4), 3, **DECAYS)
    # Control: two directions and rounding fit into two dimensions.
    Z = scale * normal(12, 2) @ normal(2, 4, seed=1)
    W, H = convex.balanced_factors(Z, 2, **DECAYS)
    torch.testing.assert_close(H @ W.T, Z, rtol=1e-12, atol=1e-12 * scale)


def test_the_minimum_of_the_partner_is_that_of_f():
    minimum = zhu2021.global_minimum(**PROBLEM)
    W, H, b = minimum.construct(5, generator())
    Z = H @ W.T
    assert zhu2021.convex_partner(Z, Y, b, **DECAYS).item() == pytest.approx(minimum.value, rel=1e-13)
    G, _ = unconstrained.logit_gradient(W, H, b, Y)
    assert abs(convex.subgradient_violation(Z, G, WEIGHT)) < 1e-12
    for seed in range(100):
        for scale in (1e-3, 0.1, 3.0):
            other = Z + scale * normal(12, 4, seed=seed)
            assert zhu2021.convex_partner(other, Y, **DECAYS) > minimum.value
            G = torch.autograd.functional.jacobian(lambda Z: torch.nn.functional.cross_entropy(Z, Y), other)
            assert convex.subgradient_violation(other, G, WEIGHT) > 1e-4


def test_zero_minimises_the_partner_from_the_collapse_threshold_on():
    zero = torch.zeros(12, 4, dtype=torch.float64)
    G, _ = unconstrained.logit_gradient(zero[:4, :2], zero[:, :2], None, Y)
    threshold = zhu2021.collapse_threshold(num_classes=4, per_class=3)
    assert convex.subgradient_violation(zero, G, 1.01 * threshold) < 0
    assert convex.subgradient_violation(zero, G, 0.99 * threshold) > 0


def test_a_saddle_misses_the_subgradient_condition():
    minimum = zhu2021.global_minimum(**PROBLEM)
    W, H, b = minimum.construct(5)
    W, H = W.clone(), H.clone()
    W[:, 2] = H[:, 2] = 0  # one direction of the simplex left out
    G, _ = unconstrained.logit_gradient(W, H, b, Y)
    assert convex.subgradient_violation(H @ W.T, G, WEIGHT) > 1


@pytest.mark.parametrize("shift", [-3.0, 0.7, 100.0])
def test_a_constant_shift_of_a_free_bias_is_a_minimiser_too(shift):
    minimum = zhu2021.global_minimum(**PROBLEM)
    W, H, b = minimum.construct(5)
    assert zhu2021.objective(W, H, b + shift, Y, **DECAYS).item() == pytest.approx(minimum.value, rel=1e-12)
    assert zhu2021.certificate(W, H, b + shift, Y, **DECAYS).is_global
    # Controls: a shift that is not constant costs, and so does a constant one of a regularised bias.
    uneven = b + shift * torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    assert zhu2021.objective(W, H, uneven, Y, **DECAYS) > minimum.value + 1e-4
    assert zhu2021.objective(W, H, b + shift, Y, lambda_b=0.01, **DECAYS) > minimum.value + 1e-4


def test_every_critical_point_leaves_a_direction_free_in_as_many_dimensions_as_classes():
    # d = K: rows of W sum to (gradient by W) / lambda_W, which a critical point makes zero.
    W, H = normal(4, 4), normal(12, 4, seed=1)
    by_W, _, _ = zhu2021.gradient(W, H, None, Y, **DECAYS)
    torch.testing.assert_close(by_W.sum(0), 2e-3 * W.sum(0), rtol=1e-9, atol=1e-14)
    assert W.sum(0).norm() > 0.1
    zero = torch.zeros(16, 4, dtype=torch.float64)
    way = zhu2021.escape_direction(zero[:4], zero[4:], None, Y, **DECAYS)
    assert way.curvature < -0.1
    with pytest.raises(ValueError, match="span all 4 dimensions"):
        zhu2021.escape_direction(W, H, None, Y, **DECAYS)


def test_bad_input_is_refused():
    Z = normal(12, 4)
    with pytest.raises(ValueError, match=r"got Z \(11, 4\)"):
        convex.convex_partner(Z[1:], Y, **DECAYS)
    with pytest.raises(ValueError, match=r"b \(3,\)"):
        convex.convex_partner(Z, Y, torch.zeros(3).double(), **DECAYS)
    with pytest.raises(ValueError, match="lambda_H must be positive, got 0"):
        convex.convex_partner(Z, Y, lambda_W=1.0, lambda_H=0.0)
    with pytest.raises(ValueError, match="lambda_W must be positive"):
        convex.balanced_factors(Z, 4, lambda_W=-1.0, lambda_H=1.0)
    with pytest.raises(ValueError, match="labels must be from 0 to 3, got -100"):
        convex.convex_partner(Z, torch.where(Y == 2, -100, Y), **DECAYS)
    for factors in (
        lambda Z: convex.balanced_factors(Z, 4, **DECAYS),
        lambda Z: convex.convex_partner(Z, Y, **DECAYS),
    ):
        with pytest.raises(ValueError, match="Z has entries that are not finite"):
            factors(torch.full_like(Z, torch.nan))
    with pytest.raises(ValueError, match=r"lambda_b must be at least 0, got -1.0"):
        convex.convex_partner(Z, Y, lambda_b=-1.0, **DECAYS)
