"""Closed forms and certificates of Zhu et al. (2021): values, optimality, saddles, wrong constants caught."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch.nn import functional

from nclib.geometry import simplex_gram
from nclib.theory import solver, unconstrained, zhu2021
from nclib.theory.batched import Problem

SMALL = {"num_classes": 4, "per_class": 3, "lambda_W": 5e-3, "lambda_H": 5e-3}
UNEQUAL = {"num_classes": 10, "per_class": 5, "lambda_W": 1e-3, "lambda_H": 1e-4}
HEAVY = {"num_classes": 4, "per_class": 3, "lambda_W": 0.1, "lambda_H": 0.3}
each_problem = pytest.mark.parametrize(
    ("problem", "d"), [(SMALL, 6), (SMALL, 3), (UNEQUAL, 9), (UNEQUAL, 12)]
)


def within(rel, value):
    """Relative only: approx's own absolute tolerance of 1e-12 would hide errors in small margins."""
    return pytest.approx(value, rel=rel, abs=0)


def decays(problem):
    return {name: problem[name] for name in ("lambda_W", "lambda_H")}


def labels(problem):
    return torch.arange(problem["num_classes"]).repeat_interleave(problem["per_class"])


def draw(problem, d, scale, seed=0):
    generator, K = torch.Generator().manual_seed(seed), problem["num_classes"]
    shapes = ((K, d), (K * problem["per_class"], d), (K,))
    return tuple(scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)


def zero(problem, d):
    return tuple(0 * part for part in draw(problem, d, 1.0))


def rank_one_saddle(problem, d):
    """Classes 0, 1 against 2, 3 along one axis: alpha solves the stationarity condition of that family."""
    n, lambda_W, lambda_H = problem["per_class"], problem["lambda_W"], problem["lambda_H"]
    a = math.sqrt(lambda_W / (n * lambda_H))
    alpha = math.sqrt(math.log(a / (2 * lambda_W) - 1) / (2 * a))
    W = torch.zeros(4, d, dtype=torch.float64)
    W[:, 0] = alpha * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    return W, a * W.repeat_interleave(n, dim=0), torch.zeros(4, dtype=torch.float64)


def norm(parts):
    return math.sqrt(sum(part.square().sum().item() for part in parts))


def curvature(point, y, direction, **constants):
    by_W, by_H, _ = zhu2021.hessian_vector_product(*point, y, *direction, **constants)
    return ((by_W * direction[0]).sum() + (by_H * direction[1]).sum()).item()


@pytest.mark.parametrize(
    ("problem", "value", "W_norm_squared"),
    [(SMALL, 0.149023231546, 24.5398), (UNEQUAL, 0.052509934164, 46.12564), (HEAVY, math.log(4), 0.0)],
)
def test_global_minimum_of_the_test_vectors(problem, value, W_norm_squared):
    minimum = zhu2021.global_minimum(**problem)
    assert minimum.value == within(1e-11, value)
    assert minimum.W_norm_squared == within(3e-7, W_norm_squared)
    assert minimum.collapsed == (problem is not HEAVY)


def test_norms_are_balanced_by_the_weight_decays():
    minimum = zhu2021.global_minimum(**UNEQUAL)
    assert minimum.H_norm_squared == within(1e-13, 10 * minimum.W_norm_squared)


@pytest.mark.parametrize("problem", [SMALL, UNEQUAL])
def test_minimum_agrees_with_a_search_over_the_size_of_the_simplex(problem):
    K, n, lambda_W, lambda_H = problem.values()

    def along(w, h):  # unit simplex scaled by w in W and h in H: K rows each in W, n K in H
        margin = w * h * K / (K - 1)
        return math.log1p((K - 1) * math.exp(-margin)) + lambda_W / 2 * K * w**2 + lambda_H / 2 * n * K * h**2

    w, h, step = 1.0, 1.0, 0.5
    best = along(w, h)
    while step > 1e-9:  # pattern search: knows neither the closed form nor the balance of norms
        trials = [(w * f, h * g) for f in (1 - step, 1, 1 + step) for g in (1 - step, 1, 1 + step)]
        value, candidate = min((along(*t), t) for t in trials)
        if value < best:
            best, (w, h) = value, candidate
        else:
            step /= 2
    minimum = zhu2021.global_minimum(**problem)
    assert minimum.value == within(1e-12, best)
    assert minimum.W_norm_squared == within(1e-6, K * w**2)
    assert minimum.H_norm_squared == within(1e-6, n * K * h**2)


@pytest.mark.parametrize(
    ("K", "n", "lambda_W", "lambda_H"),
    [
        (4, 1, 0.25 * (1 - 1e-9), 0.25),
        (4, 3, 1 / 48 * (1 - 1e-13), 1.0),
        (1000, 1300, 7.6e-7 * (1 - 1e-6), 1e-3 / 1300 / 0.76),
        (1_000_000, 1, 1e-6 * (1 - 1e-6), 1e-6),
        (1000, 1, 1e-9, 1e-9),
        (2, 1, 1e-40, 1e-60),
        (10, 5000, 5e-4, 1e-5),
    ],
)
def test_margin_and_value_keep_their_digits_at_the_threshold_and_far_from_it(K, n, lambda_W, lambda_H):
    minimum = zhu2021.global_minimum(num_classes=K, per_class=n, lambda_W=lambda_W, lambda_H=lambda_H)
    with localcontext() as context:
        context.prec = 80
        t = (n * Decimal(lambda_W) * Decimal(lambda_H)).sqrt()
        assert K * t < 1
        x = (1 / t - (K - 1)).ln()
        value = (1 + (K - 1) * (-x).exp()).ln() + (K - 1) * t * x
        W_norm_squared = (K - 1) * t * x / Decimal(lambda_W)
    assert minimum.margin == within(1e-13, float(x))
    assert minimum.value == within(1e-13, float(value))
    assert minimum.W_norm_squared == within(1e-13, float(W_norm_squared))


def test_minimiser_is_zero_from_the_collapse_threshold_on():
    threshold = zhu2021.collapse_threshold(num_classes=4, per_class=3)
    assert threshold == within(1e-15, 1 / (4 * math.sqrt(3)))
    for factor, collapsed in ((1 - 1e-6, True), (1 + 1e-6, False)):
        lam = factor * threshold
        minimum = zhu2021.global_minimum(num_classes=4, per_class=3, lambda_W=lam, lambda_H=lam)
        assert minimum.collapsed == collapsed
        assert (minimum.W_norm_squared > 0) == collapsed
        assert minimum.value == within(1e-9, math.log(4))
    W, H, b = zhu2021.global_minimum(**HEAVY).construct(6)
    assert norm((W, H, b)) == 0


@each_problem
def test_constructed_minimiser_attains_the_value_where_the_gradient_vanishes(problem, d):
    minimum, y = zhu2021.global_minimum(**problem), labels(problem)
    point = minimum.construct(d, torch.Generator().manual_seed(0))
    assert zhu2021.objective(*point, y, **decays(problem)).item() == within(1e-13, minimum.value)
    assert norm(zhu2021.gradient(*point, y, **decays(problem))) < 1e-14
    W, H, _ = point
    assert W.square().sum().item() == within(1e-13, minimum.W_norm_squared)
    assert H.square().sum().item() == within(1e-13, minimum.H_norm_squared)
    gram = minimum.W_norm_squared / problem["num_classes"] * simplex_gram(problem["num_classes"])
    torch.testing.assert_close(W @ W.T, gram, rtol=1e-12, atol=1e-12)
    logits = W @ W.T * (problem["lambda_W"] / problem["per_class"] / problem["lambda_H"]) ** 0.5
    assert (logits[0, 0] - logits[0, 1]).item() == within(1e-12, minimum.margin)
    # Control: the same point under slightly other constants is neither critical nor of that value.
    wrong = decays(problem) | {"lambda_W": 1.01 * problem["lambda_W"]}
    assert norm(zhu2021.gradient(*point, y, **wrong)) > 1e-6


@pytest.mark.parametrize("scale_H", ["without n", "without the root", "n inverted"])
def test_wrong_constants_of_the_minimiser_are_told_apart(scale_H):
    n, lambda_W, lambda_H = UNEQUAL["per_class"], UNEQUAL["lambda_W"], UNEQUAL["lambda_H"]
    wrong = {
        "without n": math.sqrt(lambda_W / lambda_H),
        "without the root": lambda_W / (n * lambda_H),
        "n inverted": math.sqrt(n * lambda_W / lambda_H),
    }[scale_H]
    minimum, y = zhu2021.global_minimum(**UNEQUAL), labels(UNEQUAL)
    W, _, b = minimum.construct(9)
    H = wrong * W.repeat_interleave(n, dim=0)
    assert zhu2021.objective(W, H, b, y, **decays(UNEQUAL)).item() > 1.01 * minimum.value
    assert norm(zhu2021.gradient(W, H, b, y, **decays(UNEQUAL))) > 1e-4


def test_wrong_constants_of_the_value_are_told_apart():
    right = zhu2021.global_minimum(**UNEQUAL)
    assert abs(zhu2021.global_minimum(**UNEQUAL | {"per_class": 1}).value / right.value - 1) > 0.1
    assert abs(zhu2021.global_minimum(**UNEQUAL | {"per_class": 25}).value / right.value - 1) > 0.1
    K, n, lambda_W, lambda_H = UNEQUAL.values()
    t = n * lambda_W * lambda_H  # the root forgotten
    x = math.log(1 / t - (K - 1))
    assert abs((math.log1p((K - 1) * math.exp(-x)) + (K - 1) * t * x) / right.value - 1) > 0.1


@each_problem
@pytest.mark.parametrize("lambda_b", [0.0, 0.01])
def test_no_point_is_below_the_minimum(problem, d, lambda_b):
    minimum, y = zhu2021.global_minimum(**problem), labels(problem)
    constants = decays(problem) | {"lambda_b": lambda_b}
    best = minimum.construct(d)
    for seed in range(40):
        for scale in (0.01, 0.3, 1.0, 3.0):
            noise = draw(problem, d, scale, seed)
            assert zhu2021.objective(*noise, y, **constants) > minimum.value
            near = [p + 0.05 * q for p, q in zip(best, noise, strict=True)]
            assert zhu2021.objective(*near, y, **constants) > minimum.value


def test_descent_from_a_random_start_ends_at_the_value():
    point, y = [p.requires_grad_() for p in draw(SMALL, 6, 0.5)], labels(SMALL)
    optimizer = torch.optim.LBFGS(
        point, max_iter=500, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = zhu2021.objective(*point, y, **decays(SMALL))
        value.backward()
        return value

    optimizer.step(closure)
    found = [p.detach() for p in point]
    minimum = zhu2021.global_minimum(**SMALL)
    assert closure().item() == within(1e-11, minimum.value)
    assert found[0].square().sum().item() == within(1e-6, minimum.W_norm_squared)
    assert zhu2021.certificate(*found, y, **decays(SMALL)).is_global
    assert found[2].std() < 1e-6  # b is constant


@each_problem
def test_lower_bound_holds_for_every_c1_and_is_tight_at_the_simplex(problem, d):
    y, best = labels(problem), zhu2021.global_minimum(**problem)
    for seed in range(20):
        for rho in (0.1, 1.0, 10.0, best.W_norm_squared, 200.0):
            W, H, b = draw(problem, d, 1.0, seed)
            H = H + 3 * W.repeat_interleave(problem["per_class"], dim=0)  # near the bound, not only far above
            W = W * math.sqrt(rho) / W.norm()
            H = H * math.sqrt(rho * problem["lambda_W"] / problem["lambda_H"]) / H.norm()
            entropy = functional.cross_entropy(H @ W.T + b, y).item()
            assert entropy > zhu2021.lower_bound(rho, **problem).item()
            for c1 in (0.01, 1.0, 50.0):
                assert entropy > zhu2021.lower_bound(rho, c1=c1, **problem).item()
    W, H, b = best.construct(d)
    attained = functional.cross_entropy(H @ W.T + b, y).item()
    assert zhu2021.lower_bound(best.W_norm_squared, **problem).item() == within(1e-12, attained)
    for wrong in (1, problem["per_class"] ** 2):  # n forgotten, or squared
        other = zhu2021.lower_bound(best.W_norm_squared, **problem | {"per_class": wrong}).item()
        assert abs(other / attained - 1) > 0.1


def test_lower_bound_is_best_at_its_own_c1():
    K, n, lambda_W, lambda_H = UNEQUAL.values()
    rho = 30.0
    c1 = math.exp(math.sqrt(lambda_W / (n * lambda_H)) * rho / (K - 1)) / (K - 1)
    best = zhu2021.lower_bound(rho, **UNEQUAL).item()
    assert zhu2021.lower_bound(rho, c1=c1, **UNEQUAL).item() == within(1e-12, best)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert zhu2021.lower_bound(rho, c1=factor * c1, **UNEQUAL).item() < best - 1e-6
    grid = zhu2021.lower_bound(torch.tensor([0.0, rho, 1e6], dtype=torch.float64), **UNEQUAL)
    assert grid[0].item() == within(1e-14, math.log(10))
    assert grid[1].item() == best
    assert 0 <= grid[2] < 1e-300


@each_problem
def test_certificate_is_an_equality_at_the_minimum(problem, d):
    found = zhu2021.certificate(
        *zhu2021.global_minimum(**problem).construct(d), labels(problem), **decays(problem)
    )
    assert found.threshold == within(1e-14, math.sqrt(problem["lambda_W"] * problem["lambda_H"]))
    assert found.spectral_norm == within(1e-12, found.threshold)
    assert found.is_global


def test_certificate_rejects_saddles_and_points_that_are_not_critical():
    y = labels(SMALL)
    for saddle in (zero(SMALL, 6), rank_one_saddle(SMALL, 6)):
        found = zhu2021.certificate(*saddle, y, **decays(SMALL))
        assert found.gradient_norm < 1e-14
        assert found.spectral_norm == within(1e-12, 1 / (4 * math.sqrt(3)))
        assert found.spectral_norm > 10 * found.threshold
        assert not found.is_global
    assert rank_one_saddle(SMALL, 6)[0].norm().item() == within(2e-6, 3.74024)
    # Twice the minimiser has a smaller spectral norm than the threshold, but is not critical.
    W, H, b = zhu2021.global_minimum(**SMALL).construct(6)
    found = zhu2021.certificate(2 * W, 2 * H, b, y, **decays(SMALL))
    assert found.spectral_norm < found.threshold
    assert not found.is_global


@pytest.mark.parametrize("decay", [1e-9, 1e-8, 1e-3])
def test_the_certificate_holds_a_gradient_against_the_pull_of_the_decays(decay):
    problem = UNEQUAL | {"lambda_W": decay, "lambda_H": decay}
    W, H, b = zhu2021.global_minimum(**problem).construct(12, torch.Generator().manual_seed(0))
    y = labels(problem)
    for factor in (1.2, 2.0):  # a fit as good as perfect: what is left of the gradient is the pull itself
        value = zhu2021.objective(factor * W, factor * H, b, y, **decays(problem)).item()
        assert value > 1.05 * zhu2021.global_minimum(**problem).value
        far = zhu2021.certificate(factor * W, factor * H, b, y, **decays(problem))
        assert far.spectral_norm < far.threshold and far.gradient_norm < 100 * decay
        assert not far.decides and not far.is_global
    # Control: at the minimiser, where the loss cancels that pull.
    found = zhu2021.certificate(W, H, b, y, **decays(problem))
    assert found.decides and found.is_global and found.blur < 1e-9


@pytest.mark.parametrize("lambda_H", [1e-4, 1e-3])
def test_the_certificate_passes_an_end_of_descent_and_blurs_by_the_gradient_left(lambda_H):
    problem = UNEQUAL | {"lambda_H": lambda_H}
    descended = Problem(feature_dim=12, **problem)
    ends = solver.descend(descended, descended.draw(5, torch.Generator().manual_seed(0)))
    ratios = []
    for W, H, b in zip(*ends.points, strict=True):
        found = zhu2021.certificate(W, H, b, labels(problem), **decays(problem))
        assert found.is_global and found.rank == 9 and 0 < found.blur < 1e-4
        ratios.append(found.spectral_norm / found.threshold - 1)
        # Control: a step of a hundredth away is not critical.
        assert not zhu2021.certificate(W, 1.01 * H, b, labels(problem), **decays(problem)).decides
    assert lambda_H == 1e-3 or max(ratios) > 1e-6, "without the blur some would be turned down"


def test_the_certificate_passes_what_descent_makes_of_zero_beyond_the_threshold():
    descended = Problem(feature_dim=6, **HEAVY)
    ends = solver.descend(descended, descended.draw(3, torch.Generator().manual_seed(0)))
    for W, H, b in zip(*ends.points, strict=True):
        assert W.norm() > 0
        found = zhu2021.certificate(W, H, b, labels(HEAVY), **decays(HEAVY))
        assert found.rank == 0 and found.is_global
        # Control: so near to zero below the threshold it is a saddle's neighbour.
        assert not zhu2021.certificate(W, H, b, labels(HEAVY), **decays(SMALL)).is_global


def test_certificate_accepts_zero_beyond_the_threshold():
    found = zhu2021.certificate(*zero(HEAVY, 6), labels(HEAVY), **decays(HEAVY))
    assert found.is_global
    assert found.spectral_norm == pytest.approx(
        zhu2021.collapse_threshold(num_classes=4, per_class=3), rel=1e-12
    )


@pytest.mark.parametrize("saddle", [zero, rank_one_saddle])
def test_curvature_at_a_saddle_is_the_predicted_one(saddle):
    point, y = saddle(SMALL, 6), labels(SMALL)
    way = zhu2021.escape_direction(*point, y, **decays(SMALL))
    assert way.curvature == pytest.approx(-0.278675, abs=5e-7)
    assert way.curvature == within(1e-12, -2 * (1 / (4 * math.sqrt(3)) - 5e-3))
    direction = (way.delta_W, way.delta_H)
    assert curvature(point, y, direction, **decays(SMALL)) == within(1e-12, way.curvature)
    eps = 1e-3
    f = [
        zhu2021.objective(point[0] + s * eps * direction[0], point[1] + s * eps * direction[1], point[2], y,
                          **decays(SMALL)).item()
        for s in (-1, 0, 1)
    ]  # fmt: skip
    assert (f[0] - 2 * f[1] + f[2]) / eps**2 == within(1e-5, way.curvature)
    assert f[0] < f[1] > f[2]


def test_escape_direction_balances_unequal_weight_decays():
    point, y = zero(UNEQUAL, 12), labels(UNEQUAL)
    way = zhu2021.escape_direction(*point, y, **decays(UNEQUAL))
    expected = -2 * (1 / (10 * math.sqrt(5)) - math.sqrt(1e-7))
    assert way.curvature == within(1e-12, expected)
    found = curvature(point, y, (way.delta_W, way.delta_H), **decays(UNEQUAL))
    assert found == within(1e-12, expected)
    # Control: the fourth root forgotten costs curvature.
    swapped = curvature(point, y, (way.delta_W * 10**0.25, way.delta_H / 10**0.25), **decays(UNEQUAL))
    assert swapped > expected + 1e-5


def test_escape_direction_exists_with_fewer_samples_than_dimensions():
    problem = {"num_classes": 2, "per_class": 1, "lambda_W": 0.01, "lambda_H": 0.02}
    way = zhu2021.escape_direction(*zero(problem, 9), labels(problem), **decays(problem))
    assert way.curvature == within(1e-12, -2 * (0.5 - math.sqrt(2e-4)))


def test_escape_direction_takes_the_one_dimension_that_is_free():
    W, H, b = draw(SMALL, 5, 0.1)
    random = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=random))
    # Of rank 5, and critical nowhere.
    point, y = (*(torch.nn.functional.pad(part, (0, 1)) @ turn for part in (W, H)), b), labels(SMALL)
    way = zhu2021.escape_direction(*point, y, **decays(SMALL))
    assert (point[0] @ way.delta_W.T).abs().max() < 1e-12 and (point[1] @ way.delta_H.T).abs().max() < 1e-12
    assert way.curvature < 0
    assert curvature(point, y, (way.delta_W, way.delta_H), **decays(SMALL)) == within(1e-12, way.curvature)
    # Control: a dimension in use curves differently.
    used = (way.delta_W @ turn.T).roll(1, 1) @ turn, (way.delta_H @ turn.T).roll(1, 1) @ turn
    assert curvature(point, y, used, **decays(SMALL)) != pytest.approx(way.curvature, rel=1e-3)


def test_nothing_to_escape_from_at_the_minimum_or_without_a_free_dimension():
    with pytest.raises(ValueError, match="nothing to escape from"):
        zhu2021.escape_direction(
            *zhu2021.global_minimum(**SMALL).construct(6), labels(SMALL), **decays(SMALL)
        )
    with pytest.raises(ValueError, match="span all 6 dimensions"):
        zhu2021.escape_direction(*draw(SMALL, 6, 1.0), labels(SMALL), **decays(SMALL))


@pytest.mark.parametrize("with_bias", [True, False])
def test_derivatives_agree_with_autograd(with_bias):
    y, constants = labels(UNEQUAL), decays(UNEQUAL) | {"lambda_b": 0.03}
    point, direction = draw(UNEQUAL, 7, 1.0), draw(UNEQUAL, 7, 1.0, seed=1)
    count = 3 if with_bias else 2
    point, direction = point[:count], direction[:count]
    none = () if with_bias else (None,)

    def f(*parts):
        return zhu2021.objective(*parts, *none, y, **constants)

    _, by_autograd = torch.autograd.functional.vjp(f, point)
    _, second = torch.autograd.functional.hvp(f, point, direction)
    ours = zhu2021.gradient(*point, *none, y, **constants)
    ours_second = zhu2021.hessian_vector_product(*point, *none, y, *direction, **constants)
    for a, b in zip((*ours[:count], *ours_second[:count]), (*by_autograd, *second), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert (ours[2] is None) == (not with_bias)


def test_logit_gradient_keeps_its_digits_at_a_perfect_fit():
    Z = 45 * torch.eye(3, dtype=torch.float64)
    G, _ = unconstrained.logit_gradient(torch.eye(3, dtype=torch.float64), Z, None, torch.arange(3))
    expected = -2 * math.exp(-45) / (1 + 2 * math.exp(-45)) / 3
    assert G[0, 0].item() == within(1e-12, expected)  # p - 1 rounds to 0 here
    assert G.sum().abs() < 1e-30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2"),
        ({"per_class": 0}, "per_class must be a whole number of at least 1"),
        ({"per_class": 2.5}, "per_class must be a whole number"),
        ({"lambda_W": 0.0}, "lambda_W must be positive"),
        ({"lambda_H": -1e-3}, "lambda_H must be positive"),
        ({"lambda_H": math.nan}, "lambda_H must be positive"),
        ({"lambda_W": math.inf}, "lambda_W must be positive"),
    ],
)
def test_bad_constants_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        zhu2021.global_minimum(**SMALL | change)
    with pytest.raises(ValueError, match=message):
        zhu2021.lower_bound(1.0, **SMALL | change)


def test_bad_shapes_and_dimensions_are_refused():
    with pytest.raises(ValueError, match="d >= 3"):
        zhu2021.global_minimum(**SMALL).construct(2)
    W, H, b = draw(SMALL, 6, 1.0)
    with pytest.raises(ValueError, match=r"got H \(12, 5\)"):
        unconstrained.objective(W, H[:, :5], b, labels(SMALL), **decays(SMALL))
    with pytest.raises(ValueError, match="lambda_W must be positive"):
        zhu2021.certificate(W, H, b, labels(SMALL), lambda_W=-1.0, lambda_H=1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        zhu2021.lower_bound(-1.0, **SMALL)
    with pytest.raises(ValueError, match="c1 must be positive"):
        zhu2021.lower_bound(1.0, c1=0.0, **SMALL)


@pytest.mark.parametrize("decay", [1e160, 1e300])
def test_huge_decays_leave_the_zero_solution(decay):
    minimum = zhu2021.global_minimum(num_classes=4, per_class=3, lambda_W=decay, lambda_H=decay)
    assert minimum.value == math.log(4) and not minimum.collapsed


# Features without negative entries


def lowest_non_negative(K, n, d, lambda_W, lambda_H, seed):
    """The least value that descent over H = A^2, which has no negative entries, finds from one random start."""
    draw = torch.Generator().manual_seed(seed)
    W, A = (torch.randn(rows, d, generator=draw, dtype=torch.float64) for rows in (K, K * n))
    b, y = torch.zeros(K, dtype=torch.float64), torch.arange(K).repeat_interleave(n)
    parameters = [p.requires_grad_() for p in (W, A, b)]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=2000, tolerance_grad=1e-11, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = zhu2021.objective(W, A.square(), b, y, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=1e-3)
        value.backward()
        return value

    optimizer.step(closure)
    return float(closure().detach())


@pytest.mark.parametrize(
    ("K", "n", "d", "lambda_W", "lambda_H"),
    [(3, 2, 4, 1e-2, 1e-2), (4, 3, 4, 5e-3, 5e-3), (5, 1, 9, 2e-3, 2e-2), (2, 4, 2, 1e-2, 3e-3)],
)
def test_no_start_ends_below_the_non_negative_minimum_and_some_reach_it(K, n, d, lambda_W, lambda_H):
    problem = {"num_classes": K, "per_class": n, "lambda_W": lambda_W, "lambda_H": lambda_H}
    bound, free = zhu2021.non_negative_minimum(**problem), zhu2021.global_minimum(**problem).value
    ends = [lowest_non_negative(K, n, d, lambda_W, lambda_H, seed) for seed in range(5)]
    assert min(ends) >= bound - 1e-9
    assert min(ends) == pytest.approx(bound, rel=1e-6)
    assert bound > free * (1 + 1e-3), "the control: with negative entries one gets lower"


def test_in_fewer_dimensions_the_non_negative_minimum_is_a_lower_bound():
    K, n, lambda_W, lambda_H = 4, 2, 5e-3, 5e-3
    bound = zhu2021.non_negative_minimum(num_classes=K, per_class=n, lambda_W=lambda_W, lambda_H=lambda_H)
    assert min(lowest_non_negative(K, n, K - 1, lambda_W, lambda_H, seed) for seed in range(5)) > bound * (
        1 + 1e-3
    )


def test_the_minimum_knows_the_size_of_classes_and_the_decay_of_features_by_their_product():
    for lowest in (zhu2021.non_negative_minimum, lambda **of: zhu2021.global_minimum(**of).value):
        few = lowest(num_classes=10, per_class=1, lambda_W=5e-4, lambda_H=5e-4)
        many = lowest(num_classes=10, per_class=390, lambda_W=5e-4, lambda_H=5e-4 / 390)
        assert many == pytest.approx(few, rel=1e-12)
        assert lowest(num_classes=10, per_class=390, lambda_W=5e-4, lambda_H=5e-4) > 2 * few


def test_unit_vectors_attain_the_non_negative_minimum():
    K, n, lambda_W, lambda_H = 4, 3, 5e-3, 5e-3
    problem = {"num_classes": K, "per_class": n, "lambda_W": lambda_W}
    centred = zhu2021.global_minimum(**problem, lambda_H=lambda_H * K / (K - 1))
    J = torch.eye(K, dtype=torch.float64) - 1 / K
    W = (centred.W_norm_squared / (K - 1)) ** 0.5 * J
    H = (centred.H_norm_squared / (n * (K - 1))) ** 0.5 * torch.eye(K, dtype=torch.float64)
    y = torch.arange(K).repeat_interleave(n)
    value = zhu2021.objective(W, H[y], torch.zeros(K).double(), y, lambda_W=lambda_W, lambda_H=lambda_H)
    assert float(value) == pytest.approx(
        zhu2021.non_negative_minimum(**problem, lambda_H=lambda_H), rel=1e-12
    )
