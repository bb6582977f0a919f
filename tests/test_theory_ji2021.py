"""Margins per squared norm without weight decay: the bound, who attains it, and what gradient flow keeps."""

import math

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal

from nclib.theory import ji2021, unconstrained

K, N_PER = 4, 3
Y = torch.arange(K).repeat_interleave(N_PER)
BOUND = ji2021.margin_bound(num_classes=K, per_class=N_PER)


def collapsed(d=5):
    return ji2021.collapsed_direction(num_classes=K, per_class=N_PER, d=d, generator=generator())


def test_margin_of_a_case_by_hand():
    W = torch.eye(3, dtype=torch.float64)
    H = torch.tensor([[3.0, 1.0, 0.0], [0.5, 2.0, 1.8], [-1.0, -1.0, 4.0]], dtype=torch.float64)
    y = torch.arange(3)
    assert ji2021.margin(W, H, y).item() == pytest.approx(0.2, rel=1e-14)  # 2 - 1.8
    assert ji2021.margin(W, H, torch.tensor([0, 2, 2])).item() == pytest.approx(-0.2, rel=1e-14)
    size = 3 + H.square().sum().item()
    assert ji2021.normalised_margin(W, H, y).item() == pytest.approx(0.2 / size, rel=1e-14)


@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0, 10.0])
def test_no_point_has_a_larger_normalised_margin(spread):
    W, H = collapsed()
    for seed in range(250):
        near = W + spread * normal(K, 5, seed=seed), H + spread * normal(12, 5, seed=seed + 1000)
        assert ji2021.normalised_margin(*near, Y) < BOUND


@pytest.mark.parametrize("d", [3, 5, 12])
def test_collapse_attains_the_bound_and_a_perturbed_collapse_does_not(d):
    W, H = collapsed(d)
    assert ji2021.normalised_margin(W, H, Y).item() == pytest.approx(BOUND, rel=1e-13)
    assert ji2021.normalised_margin(7 * W, 7 * H, Y).item() == pytest.approx(BOUND, rel=1e-13)
    for other in (
        (W + 0.01 * normal(K, d), H),
        (W, H + 0.01 * normal(12, d)),
        (W + 0.1, H),  # a common shift of all rows: margins stay, norms grow
        (1.2 * W, H / 1.2),  # margins stay, norms lose their balance
    ):
        assert ji2021.normalised_margin(*other, Y).item() < (1 - 1e-4) * BOUND


def test_collapsed_direction_solves_the_minimum_norm_separation_problem():
    W, H = collapsed()
    Z = H @ W.T
    margins = Z.gather(1, Y[:, None]) - Z
    others = 1 - torch.nn.functional.one_hot(Y, K)
    torch.testing.assert_close(margins, others.double())
    size = (W.square().sum() + H.square().sum()).item()
    assert size == pytest.approx(1 / BOUND, rel=1e-13) == pytest.approx(2 * 3 * math.sqrt(3), rel=1e-13)


def test_margin_bound_of_two_points_on_a_line():
    # K = 2, n = 1: W = (a, -a), H = (h, -h) have margin 2ah over 2a^2 + 2h^2, at most 1/2.
    assert ji2021.margin_bound(num_classes=2, per_class=1) == 0.5
    W = torch.tensor([[3.0], [-3.0]], dtype=torch.float64)
    assert ji2021.normalised_margin(W, W, torch.arange(2)).item() == 0.5


def descent(step, time=2.0):
    """How far the conserved matrix moves in a given time of gradient descent."""
    W, H = normal(K, 5), normal(12, 5, seed=1)
    before = ji2021.conserved(W, H)
    for _ in range(round(time / step)):
        by_W, by_H, _ = unconstrained.gradient(W, H, None, Y, lambda_W=0.0, lambda_H=0.0)
        W, H = W - step * by_W, H - step * by_H
    return (ji2021.conserved(W, H) - before).norm().item(), (W, H)


def test_what_is_conserved_moves_in_proportion_to_the_step():
    coarse, fine, finest = (descent(step)[0] for step in (0.1, 0.05, 0.025))
    assert coarse > fine > finest > 0
    assert coarse / fine == pytest.approx(2, abs=0.1) and fine / finest == pytest.approx(2, abs=0.05)
    # Control: each product alone moves, and does so whatever the step.
    _, (W, _) = descent(0.025)
    start = normal(K, 5)
    assert_far_from_zero((W.T @ W - start.T @ start).norm(), 100 * finest)


def test_rate_of_what_is_conserved_vanishes_without_decay_and_not_with_it():
    W, H = normal(K, 5), normal(12, 5, seed=1)

    def rate(decay):
        by_W, by_H, _ = unconstrained.gradient(W, H, None, Y, lambda_W=decay, lambda_H=decay)
        change = W.T @ by_W - H.T @ by_H
        return (change + change.T).norm()

    assert_vanishes(rate(0.0))
    assert_far_from_zero(rate(0.1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 2, got 1"):
        ji2021.margin_bound(num_classes=1, per_class=3)
    with pytest.raises(ValueError, match="d >= 3"):
        collapsed(2)
    with pytest.raises(ValueError, match=r"H must be \(N, 5\)"):
        ji2021.margin(normal(K, 5), normal(12, 4), Y)
    with pytest.raises(ValueError, match=r"got H \(12, 5\) and y \(1,\)"):
        ji2021.margin(normal(K, 5), normal(12, 5), Y[:1])
    with pytest.raises(ValueError, match="same number of columns"):
        ji2021.conserved(normal(K, 5), normal(12, 4))
