"""Fewer than K - 1 dimensions: frames bound the minimum from above, and descent can end in a wrong one."""

import math

import pytest
import torch
from asserts import assert_simplex
from samplers import normal

from nclib.geometry import regular_polygon
from nclib.theory import jiang2023, zhu2021


def problem(K, strength, n=1):
    decay = strength / (K * math.sqrt(n))
    return {"num_classes": K, "per_class": n, "lambda_W": decay, "lambda_H": decay}


def decays(problem):
    return {name: problem[name] for name in ("lambda_W", "lambda_H")}


def descend(start, y, lambdas):
    point = [part.clone().requires_grad_() for part in start]
    optimizer = torch.optim.LBFGS(
        point, max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = zhu2021.objective(*point, None, y, **lambdas)
        value.backward()
        return value

    optimizer.step(closure)
    return closure().item(), [part.detach() for part in point]


def curvatures(W, H, y, lambdas):
    """All eigenvalues of the Hessian by (W, H), ascending."""
    flat = torch.cat([W.flatten(), H.flatten()])

    def objective(flat):
        return zhu2021.objective(
            flat[: W.numel()].view_as(W), flat[W.numel() :].view_as(H), None, y, **lambdas
        )

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(objective, flat))


@pytest.mark.parametrize("d", [4, 9])
def test_bound_is_the_minimum_where_a_simplex_fits(d):
    constants = problem(5, 0.1, n=3) | {"lambda_W": 2e-3}
    bound = jiang2023.upper_bound(**constants, d=d)
    minimum = zhu2021.global_minimum(**constants)
    assert bound.value == minimum.value and bound.gap == 0 and bound.frame == "simplex"
    y = torch.arange(5).repeat_interleave(3)
    value = zhu2021.objective(*bound.construct(), y, **decays(constants)).item()
    assert value == pytest.approx(minimum.value, rel=1e-13)


@pytest.mark.parametrize("strength", [0.5, 0.1, 1e-3, 1e-6])
@pytest.mark.parametrize(("K", "d"), [(3, 1), (4, 2), (5, 2), (5, 3), (10, 4), (10, 3), (7, 6), (7, 5)])
def test_bound_is_attained_and_above_the_minimum_in_more_dimensions(K, d, strength):
    constants = problem(K, strength, n=3)
    constants["lambda_W"], constants["lambda_H"] = 3 * constants["lambda_W"], constants["lambda_H"] / 3
    bound = jiang2023.upper_bound(**constants, d=d)
    y = torch.arange(K).repeat_interleave(3)
    W, H, b = bound.construct()
    assert W.shape == (K, d) and H.shape == (3 * K, d)
    assert zhu2021.objective(W, H, b, y, **decays(constants)).item() == pytest.approx(bound.value, rel=1e-12)
    assert (bound.gap > 1e-9) == (d < K - 1)
    # The best scale: less and more of both factors cost more.
    for factor in (0.99, 1.01):
        assert zhu2021.objective(factor * W, factor * H, b, y, **decays(constants)).item() > bound.value


def test_bound_never_rises_where_frames_of_fewer_dimensions_are_included():
    values = [jiang2023.upper_bound(**problem(6, 0.1), d=d).value for d in (1, 2, 3, 4, 5)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == zhu2021.global_minimum(**problem(6, 0.1)).value


@pytest.mark.parametrize("d", [1, 2, 3])
def test_zero_is_the_bound_from_the_collapse_threshold_on(d):
    bound = jiang2023.upper_bound(**problem(4, 1.001), d=d)
    assert bound.value == pytest.approx(math.log(4), rel=1e-15)
    assert bound.scale == 0 and abs(bound.gap) < 1e-15


def test_a_gap_is_never_negative_though_rounding_leaves_the_zero_solution_below_the_minimum():
    bounds = [jiang2023.upper_bound(**problem(K, 1.0), d=1) for K in range(3, 13)]
    assert min(bound.gap for bound in bounds) == 0
    below = [b.value < zhu2021.global_minimum(**problem(b.num_classes, 1.0)).value for b in bounds]
    assert any(below), "the control: there is something to round"


def test_frames_are_what_their_names_say():
    assert list(jiang2023.frames(5, 4)) == ["simplex"]
    square = jiang2023.frames(4, 2)
    gram = square["orthogonal simplices"] @ square["orthogonal simplices"].T
    opposite = torch.tensor([[1.0, -1], [-1, 1]], dtype=torch.float64)
    torch.testing.assert_close(gram, torch.block_diag(opposite, opposite))
    torch.testing.assert_close(square["harmonic"], regular_polygon(4))
    partial = jiang2023.frames(6, 3)["partial simplex"]
    assert_simplex(partial[:4])
    assert (partial[4:] == 0).all()
    for K, d in ((10, 4), (10, 3), (9, 5), (7, 2)):  # zero-sum, unit norms; tight but for odd d and odd K
        V = jiang2023.frames(K, d)["harmonic"]
        torch.testing.assert_close(V.norm(dim=1), torch.ones(K, dtype=torch.float64))
        assert V.sum(0).abs().max() < 1e-13
        if (K, d) != (9, 5):
            torch.testing.assert_close(V.T @ V, K / d * torch.eye(d, dtype=torch.float64))
    assert "orthogonal simplices" not in jiang2023.frames(5, 2)


@pytest.mark.parametrize(
    ("K", "d", "strength", "slack"),
    [(4, 2, 0.1, 1e-9), (5, 2, 0.1, 1e-9), (6, 3, 0.01, 1e-9), (5, 3, 0.1, 1e-3), (3, 1, 0.01, 0.07)],
)
def test_descent_stays_within_a_stated_distance_below_the_bound(K, d, strength, slack):
    # Measured on these problems, no theorem: descent ends at the polygon's and the orthoplex's bound, and below the
    # others'. None of 5 starts ends above.
    constants, y = problem(K, strength), torch.arange(K)
    bound = jiang2023.upper_bound(**constants, d=d)
    ends = [
        descend((normal(K, d, seed=seed), normal(K, d, seed=seed + 50)), y, decays(constants))[0]
        for seed in range(5)
    ]
    assert max(ends) <= bound.value * (1 + 1e-9)
    assert min(ends) >= bound.value * (1 - slack)
    assert slack < 1e-6 or min(ends) < bound.value * (1 - slack / 10)


@pytest.mark.parametrize("K", [3, 4, 5, 6])
@pytest.mark.parametrize("strength", [0.5, 0.01])
def test_no_descent_was_trapped_in_one_dimension_less_than_classes(K, strength):
    # d = K - 1: W and H may span all dimensions; the chapter of proofs shows that there is no trap even so.
    constants, y = problem(K, strength), torch.arange(K)
    minimum = zhu2021.global_minimum(**constants)
    for seed in range(4):
        scale = 10.0 ** (seed - 2)
        start = scale * normal(K, K - 1, seed=seed), scale * normal(K, K - 1, seed=seed + 50)
        assert descend(start, y, decays(constants))[0] == pytest.approx(minimum.value, rel=1e-9)


def test_a_square_with_a_class_at_the_origin_is_a_spurious_local_minimum_in_the_plane():
    constants, y = problem(5, 0.5), torch.arange(5)
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [0, 0]], dtype=torch.float64)
    value, (W, H) = descend((square, square.clone()), y, decays(constants))
    pentagon = jiang2023.upper_bound(**constants, d=2)
    assert pentagon.frame == "harmonic"
    assert value > pentagon.value + 0.009
    gradients = zhu2021.gradient(W, H, None, y, **decays(constants))[:2]
    assert max(part.abs().max() for part in gradients) < 1e-10
    # One flat direction is the rotation of the plane; all others curve up, by far more than rounding.
    flat, *others = curvatures(W, H, y, decays(constants)).tolist()
    assert abs(flat) < 1e-9 and others[0] > 1e-3
    assert W[4].norm() < 1e-9 and zhu2021.certificate(W, H, None, y, **decays(constants)).is_global is False
    # Control: in the four dimensions that a simplex needs it is a saddle.
    padded = [torch.nn.functional.pad(part, (0, 2)) for part in (W, H)]
    assert curvatures(*padded, y, decays(constants))[0] < -1e-3


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="d must be a whole number of at least 1, got 0"):
        jiang2023.upper_bound(**problem(4, 0.1), d=0)
    with pytest.raises(ValueError, match="lambda_H must be positive"):
        jiang2023.upper_bound(num_classes=4, per_class=1, lambda_W=0.1, lambda_H=0.0, d=2)
