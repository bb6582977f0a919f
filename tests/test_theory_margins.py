"""Mean margins bound the cross-entropy from below, tangents bound the bound, and the minimum of psi is that of f."""

import math

import pytest
import torch
from samplers import labels, normal
from torch.nn.functional import cross_entropy

from nclib.theory import margins, zhu2021

Y = labels([3, 3, 3, 3])


def test_the_mean_margin_is_the_mean_of_all_differences():
    Z = normal(12, 4)
    each = [sum(Z[i, k] - Z[i, j] for j in range(4) if j != k) / 3 for i, k in enumerate(Y.tolist())]
    torch.testing.assert_close(margins.mean_margins(Z, Y), torch.stack(each), rtol=1e-13, atol=1e-14)
    shifted = margins.mean_margins(Z + 5.0, Y)  # a constant on all logits is no margin
    torch.testing.assert_close(shifted, torch.stack(each), rtol=1e-12, atol=1e-13)


def test_of_two_classes_the_mean_margin_is_the_margin():
    Z = normal(8, 2)
    expected = torch.where(labels([4, 4]) == 0, 1, -1) * (Z[:, 0] - Z[:, 1])
    torch.testing.assert_close(margins.mean_margins(Z, labels([4, 4])), expected, rtol=1e-13, atol=1e-14)


def test_no_sample_is_below_the_bound_and_only_even_wrong_logits_attain_it():
    Z = 3 * normal(12, 4)
    m, loss = margins.mean_margins(Z, Y), cross_entropy(Z, Y, reduction="none")
    assert (loss > margins.phi(m, 4) + 1e-3).all()
    even = torch.nn.functional.one_hot(Y, 4) * m[:, None]
    attained = cross_entropy(even, Y, reduction="none")
    torch.testing.assert_close(attained, margins.phi(m, 4), rtol=1e-13, atol=1e-15)


def test_the_bound_keeps_its_digits_far_out():
    assert margins.phi(50.0, 3).item() == pytest.approx(2 * math.exp(-50), rel=1e-14, abs=0)
    assert margins.phi(-50.0, 3).item() == pytest.approx(50 + math.log(2), rel=1e-15)
    assert margins.phi(0.0, 7).item() == pytest.approx(math.log(7), rel=1e-15)


@pytest.mark.parametrize("c1", [1e-3, 0.5, 40.0])
def test_a_tangent_touches_once_and_stays_below(c1):
    touch = math.log(3 * c1)
    assert margins.tangent(touch, 4, c1).item() == pytest.approx(margins.phi(touch, 4).item(), rel=1e-12)
    away = torch.tensor([touch - 1, touch + 1, touch + 30]).double()
    assert (margins.tangent(away, 4, c1) < margins.phi(away, 4)).all()


@pytest.mark.parametrize("rho", [0.5, 8.0])
def test_psi_and_the_bound_on_norms_are_one(rho):
    problem = {"num_classes": 4, "per_class": 3, "lambda_W": 2e-3, "lambda_H": 7e-3}
    x = rho * math.sqrt(2e-3 / (3 * 7e-3)) / 3
    bound = zhu2021.lower_bound(rho, **problem)
    assert margins.psi(x, 4, math.sqrt(3 * 14e-6)).item() == pytest.approx(
        bound.item() + 2e-3 * rho, rel=1e-13
    )
    tangent = zhu2021.lower_bound(rho, **problem, c1=0.7)
    assert margins.tangent(x, 4, 0.7).item() == pytest.approx(tangent.item(), rel=1e-12)


@pytest.mark.parametrize("t", [0.01, 0.2, 0.249, 0.25, 0.4])
def test_the_minimum_of_psi_is_where_the_closed_form_says(t):
    minimum = zhu2021.global_minimum(num_classes=4, per_class=1, lambda_W=t, lambda_H=t)
    assert margins.psi(minimum.margin, 4, t).item() == pytest.approx(minimum.value, rel=1e-14)
    near = torch.tensor([minimum.margin + 1e-2, abs(minimum.margin - 1e-2)]).double()
    assert (margins.psi(near, 4, t) > minimum.value).all()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"Z must be \(N, K\)"):
        margins.mean_margins(normal(11, 4), Y)
    with pytest.raises(ValueError, match="K must be at least 2, got 1"):
        margins.phi(0.0, 1)
    with pytest.raises(ValueError, match="c1 must be positive"):
        margins.tangent(0.0, 3, -1.0)
