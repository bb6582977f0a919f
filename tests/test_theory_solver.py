"""Batched solver of the unconstrained-feature model: derivatives, minima, critical points and their kinds."""

import dataclasses
import math

import pytest
import torch

from nclib.geometry import simplex_etf
from nclib.theory import batched, landscape, lbfgs, solver, unconstrained, zhu2021
from nclib.theory.batched import Balanced, Points, Problem

SMALL = {"num_classes": 4, "per_class": 3, "lambda_W": 5e-3, "lambda_H": 5e-3}
UNEQUAL = {"num_classes": 5, "per_class": 4, "lambda_W": 1e-3, "lambda_H": 4e-4}
HEAVY = {"num_classes": 4, "per_class": 3, "lambda_W": 0.1, "lambda_H": 0.3}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labels(problem):
    return torch.arange(problem.num_classes).repeat_interleave(problem.per_class)


def one(points, r):
    return tuple(None if part is None else part[r] for part in points)


def norm(parts):
    return math.sqrt(sum(part.square().sum().item() for part in parts if part is not None))


def gradient_norm(problem, points, r):
    """Measured by the closed forms of one problem, which know nothing of coordinates or batches."""
    return norm(unconstrained.gradient(*one(points, r), labels(problem), **problem.lambdas_of(r)))


def optimum(problem, r=0):
    lambdas = problem.lambdas_of(r)
    del lambdas["lambda_b"]
    return zhu2021.global_minimum(num_classes=problem.num_classes, per_class=problem.per_class, **lambdas)


def rank_one_saddle(noise):
    """Classes 0, 1 against 2, 3 along one axis, in eight slightly moved copies."""
    a = math.sqrt(1 / 3)
    alpha = math.sqrt(math.log(a / 1e-2 - 1) / (2 * a))
    W = torch.zeros(4, 6, dtype=torch.float64)
    W[:, 0] = alpha * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    exact = (W, a * W.repeat_interleave(3, dim=0), torch.zeros(4, dtype=torch.float64))
    moved = Problem(**SMALL, feature_dim=6).draw(8, generator(), scale=noise)
    return Points(*(part + other for part, other in zip(exact, moved, strict=True)))


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("lambda_b", [0.0, 0.02, None])
def test_batched_derivatives_are_those_of_one_problem_at_a_time(averaged, lambda_b):
    lambda_W = torch.tensor([1e-3, 5e-3, 0.2], dtype=torch.float64)
    problem = Problem(
        num_classes=5, per_class=4, feature_dim=7, lambda_W=lambda_W, lambda_H=4e-4, lambda_b=lambda_b
    )
    points, step = (problem.draw(3, generator(seed), scale=1.0) for seed in (0, 1))
    if averaged:  # the coordinates hold class means only
        means = [p.H.unflatten(1, (5, 4)).mean(2).repeat_interleave(4, dim=1) for p in (points, step)]
        points, step = (p._replace(H=H) for p, H in zip((points, step), means, strict=True))
    function = Balanced(problem, points, averaged=averaged)
    x, delta = function.encode(points), function.encode(step)
    value, gradient, norms = function.evaluate(x)
    product = function.hessian_product(x, delta)
    for r in range(3):
        y, lambdas = labels(problem), problem.lambdas_of(r)
        own = unconstrained.gradient(*one(points, r), y, **lambdas)
        by = unconstrained.hessian_vector_product(*one(points, r), y, *one(step, r), **lambdas)
        inner = sum((a * b).sum() for a, b in zip(own, one(step, r), strict=True) if a is not None)
        curvature = sum((a * b).sum() for a, b in zip(by, one(step, r), strict=True) if a is not None)
        expected = unconstrained.objective(*one(points, r), y, **lambdas)
        torch.testing.assert_close(value[r], expected, rtol=1e-13, atol=0)
        # Along any direction the derivatives do not depend on coordinates.
        torch.testing.assert_close(gradient[r] @ delta[r], inner, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(product[r] @ delta[r], curvature, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(function.norm(product)[r].item(), norm(by), rtol=1e-12, atol=0)
        assert norms[r].item() == pytest.approx(norm(own), rel=1e-12, abs=0)
    for back, part in zip(function.decode(x), points, strict=True):
        assert back is part is None or torch.allclose(back, part, rtol=1e-14, atol=0)


def test_some_of_the_restarts_are_evaluated_as_among_all_with_lambdas_of_their_own():
    each = [
        torch.tensor(values, dtype=torch.float64)
        for values in ([1e-3, 0.1, 0.2], [0.3, 2e-3, 0.1], [0, 0.5, 2])
    ]
    names = ("lambda_W", "lambda_H", "lambda_b")
    problem = Problem(num_classes=3, per_class=2, feature_dim=4, **dict(zip(names, each, strict=True)))
    points = problem.draw(3, generator(), scale=1.0)
    function = Balanced(problem, points, averaged=False)
    x, rows = function.encode(points), torch.tensor([2, 1])
    for part, whole in zip(function.take(rows).evaluate(x[rows]), function.evaluate(x), strict=True):
        torch.testing.assert_close(part, whole[rows], rtol=1e-12, atol=1e-14)
        assert (part - whole[:2]).abs().max() > 1e-2, "the control: other restarts have other values"


@pytest.mark.parametrize("margin", [1.0, 60.0])
def test_a_gradient_keeps_its_digits_where_the_fit_is_perfect_but_for_exp_minus_60(margin):
    problem = Problem(num_classes=4, per_class=1, feature_dim=3, lambda_W=1e-90, lambda_H=1e-90)
    W = math.sqrt(margin * 3 / 4) * simplex_etf(4)
    function = Balanced(problem, Points(W[None], W[None], torch.zeros(1, 4, dtype=torch.float64)))
    _, _, found = function.evaluate(torch.cat([W.flatten(), W.flatten(), torch.zeros(4).double()])[None])
    # G = q (J - K I) / K with q the softmax of a wrong class, and J W = 0: both gradients are -q W.
    q = math.exp(-margin) / (1 + 3 * math.exp(-margin))
    assert found.item() == pytest.approx(q * math.sqrt(2) * W.norm().item(), rel=1e-12, abs=0)


def test_averaging_features_never_raises_f_and_differences_within_classes_cost():
    problem = Problem(**UNEQUAL, feature_dim=6)
    points = problem.draw(20, generator(), scale=1.0)
    apart, together = (Balanced(problem, points, averaged=averaged) for averaged in (False, True))
    before, after = apart.evaluate(apart.encode(points))[0], together.evaluate(together.encode(points))[0]
    assert (after < before - 1e-3).all()
    again = together.decode(together.encode(points))
    torch.testing.assert_close(apart.evaluate(apart.encode(again))[0], after, rtol=1e-13, atol=0)


@pytest.mark.parametrize("method", solver.METHODS)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize(("constants", "d"), [(SMALL, 6), (SMALL, 3), (UNEQUAL, 9)])
def test_every_method_ends_at_the_minimum_from_random_starts(method, averaged, constants, d):
    problem = Problem(**constants, feature_dim=d)
    starts = problem.draw(6, generator(), scale=0.5)
    found = solver.descend(problem, starts, method=method, averaged=averaged)
    assert found.converged.all()
    for r in range(6):
        assert found.value[r].item() == pytest.approx(optimum(problem).value, rel=1e-9, abs=0)
        assert gradient_norm(problem, found.points, r) <= 1.000001e-8
        # Control: a start is neither.
        assert unconstrained.objective(*one(starts, r), labels(problem), **problem.lambdas_of(r)) > 0.5
        assert gradient_norm(problem, starts, r) > 1e-3


def test_what_does_not_converge_says_so():
    problem = Problem(**SMALL, feature_dim=6)
    found = solver.descend(problem, problem.draw(4, generator(), scale=0.5), max_evaluations=10)
    assert not found.converged.any()
    assert (found.gradient_norm > 1e-8).all()
    assert found.gradient_norm[0].item() == pytest.approx(gradient_norm(problem, found.points, 0), rel=1e-9)
    beyond = solver.descend(
        problem, problem.draw(2, generator(), scale=0.5), tolerance=1e-30, max_evaluations=300
    )
    assert not beyond.converged.any()
    assert (beyond.gradient_norm < 1e-12).all()  # far below where differences of values have digits


def test_a_goal_ends_a_restart_early():
    problem = Problem(**SMALL, feature_dim=6)
    starts, goal = problem.draw(4, generator(), scale=0.5), 1.01 * optimum(problem).value
    early, late = solver.descend(problem, starts, goal=goal), solver.descend(problem, starts)
    assert early.converged.all()
    assert (early.value <= goal).all() and (early.value > late.value + 1e-6).all()
    exact = solver.descend(problem, starts, goal=early.value.max().item())
    assert (exact.value <= early.value.max()).all()
    assert (early.iterations < late.iterations).all()


def test_a_restart_does_not_depend_on_its_batch_mates():
    problem = Problem(**UNEQUAL, feature_dim=6)
    few, many = problem.draw(2, generator(), scale=0.5), problem.draw(17, generator(), scale=0.5)
    for part, other in zip(few, many, strict=True):
        torch.testing.assert_close(part, other[:2], rtol=0, atol=0)
    alone, together = solver.descend(problem, few), solver.descend(problem, many)
    for part, other in zip(alone.points, together.points, strict=True):
        # Rounding may end the descent elsewhere within the tolerance, which is 1e-8 over the least curvature.
        torch.testing.assert_close(part, other[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.value, together.value[:2], rtol=1e-12, atol=0)
    # Control: two restarts end in different rotations of the same solution.
    assert (together.points.W[0] - together.points.W[1]).norm() > 0.1


def test_every_restart_has_its_own_lambdas():
    lambda_W = torch.tensor([1e-3, 5e-3, 0.5], dtype=torch.float64)
    lambda_H = torch.tensor([2e-3, 1e-4, 0.1], dtype=torch.float64)
    problem = Problem(num_classes=4, per_class=2, feature_dim=5, lambda_W=lambda_W, lambda_H=lambda_H)
    found = solver.descend(problem, problem.draw(3, generator(), scale=0.5))
    expected = [optimum(problem, r).value for r in range(3)]
    assert found.value.tolist() == pytest.approx(expected, rel=1e-9, abs=0)
    assert len({round(value, 6) for value in expected}) == 3


@pytest.mark.parametrize(("constants", "zero"), [(HEAVY, True), (SMALL, False)])
def test_everything_goes_to_zero_beyond_the_threshold_and_only_there(constants, zero):
    problem = Problem(**constants, feature_dim=6, lambda_b=0.01)
    found = solver.descend(problem, problem.draw(5, generator(), scale=1.0))
    assert found.converged.all()
    assert all(bool((part.abs() < 1e-6).all()) == zero for part in found.points[:2])
    kinds = landscape.classify(problem, found)
    assert {point.kind for point in kinds} == {"global minimum"}
    assert {point.rank for point in kinds} == {0 if zero else 3}


@pytest.mark.parametrize("start", ["origin", "rank one"])
def test_known_saddles_are_found_and_told_from_minima(start):
    problem = Problem(**SMALL, feature_dim=6)
    starts = problem.draw(8, generator(), scale=0.01) if start == "origin" else rank_one_saddle(0.01)
    found = solver.critical_points(problem, starts)
    assert found.converged.all()
    for r, point in enumerate(landscape.classify(problem, found)):
        assert point.kind == "saddle"
        assert point.rank == (0 if start == "origin" else 1)
        # The escape direction of the theory has squared norm 2 at equal lambdas.
        assert 2 * point.eigenvalue == pytest.approx(-0.278675, abs=5e-7)
        assert found.points.W[r].norm().item() == pytest.approx(
            0 if start == "origin" else 3.74024, rel=2e-6, abs=1e-5
        )
        assert gradient_norm(problem, found.points, r) <= 1.000001e-8
        assert not point.certificate.is_global
        assert point.excess > 1
    # Control: descent from the very same starts leaves them.
    kinds = landscape.classify(problem, solver.descend(problem, starts))
    assert {point.kind for point in kinds} == {"global minimum"}
    for point in kinds:
        assert abs(point.excess) < 1e-9
        assert point.eigenvalue > 1e-3
        assert point.rank == 3 and point.negative == 0


def test_random_searches_find_saddles_but_no_other_local_minimum():
    problem = Problem(**SMALL, feature_dim=6)
    found = solver.critical_points(problem, problem.draw(30, generator(3), scale=2.0))
    kinds = [point.kind for point in landscape.classify(problem, found)]
    assert {"saddle", "global minimum"} <= set(kinds)
    assert "other local minimum" not in kinds
    # Control: a start is called what it is.
    started = solver.descend(problem, problem.draw(2, generator(), scale=1.0), max_evaluations=1)
    assert {point.kind for point in landscape.classify(problem, started)} == {"not critical"}


@pytest.mark.parametrize("noise", [0.0, 1e-8, 3e-7])
def test_a_point_next_to_a_minimum_is_one_and_a_minimum_without_room_is_another(noise):
    """The certificate's ratio is off by what is left of the gradient; no minimum in too few dimensions satisfies it."""
    for d, kind in ((6, "global minimum"), (1, "other local minimum")):
        problem = Problem(**SMALL, feature_dim=d)
        found = solver.descend(problem, problem.draw(6, generator(), scale=0.5))
        moved = Points(
            *(
                p + noise * q
                for p, q in zip(found.points, problem.draw(6, generator(1), scale=1.0), strict=True)
            )
        )
        near = dataclasses.replace(found, points=moved)
        points = landscape.classify(problem, near)
        assert {point.kind for point in points} == {kind}
        ratios = [point.certificate.spectral_norm / point.certificate.threshold - 1 for point in points]
        assert (min(ratios) > 0.1) == (d == 1)
        if d == 6 and noise == 3e-7:
            assert max(ratios) > 1e-6, "the control: the plain certificate would miss it"


def test_phase_diagram_follows_the_prediction_on_both_sides_of_the_threshold():
    phases = solver.phase_diagram(
        num_classes=4, feature_dim=6, per_class=[1, 3], lambda_W=[1e-3, 0.3], lambda_H=[1e-2, 0.1, 0.3],
        restarts=2, generator=generator(),
    )  # fmt: skip
    assert [(p.predicted.per_class, p.predicted.lambda_W, p.predicted.lambda_H) for p in phases] == [
        (n, by_W, by_H) for n in (1, 3) for by_W in (1e-3, 0.3) for by_H in (1e-2, 0.1, 0.3)
    ]
    for phase in phases:
        assert phase.converged == 2
        assert phase.value == pytest.approx(phase.predicted.value, rel=1e-9, abs=0)
        assert phase.margin == pytest.approx(phase.predicted.margin, abs=1e-5)
    assert {phase.predicted.collapsed for phase in phases} == {True, False}


@pytest.mark.parametrize("history", [0, 1, 5])
def test_quadratics_of_every_condition_are_minimised_and_one_without_a_minimum_is_not(history):
    class Quadratic:
        def __init__(self, eigenvalues):
            self.eigenvalues = eigenvalues

        def evaluate(self, x):
            gradient = self.eigenvalues * (x - 1)
            return ((x - 1) * gradient).sum(1) / 2, gradient, gradient.norm(dim=1)

        def take(self, rows):
            return Quadratic(self.eigenvalues[rows])

    eigenvalues = torch.logspace(0, 1, 6, dtype=torch.float64) ** torch.tensor([[0.0], [1.0], [3.0], [1.0]])
    eigenvalues[3, 0] = -1
    x = torch.randn(4, 6, generator=generator(), dtype=torch.float64)
    found = lbfgs.minimise(Quadratic(eigenvalues), x, tolerance=1e-9, max_evaluations=2000, history=history)
    assert found.converged.tolist() == [True, True, True, False]
    torch.testing.assert_close(found.x[:3], torch.ones_like(x[:3]), rtol=0, atol=1e-8)


def test_pairs_of_very_different_lengths_leave_a_direction_that_a_general_solver_does_not_find():
    """A history along axes, s_i and y_i the unit vector e_i times size_i: the inverse Hessian is 1 on their span."""
    sizes = torch.tensor([1e-200, 1.0, 1e-120, 1e150], dtype=torch.float64)
    steps, gradient = torch.diag(sizes)[None], torch.tensor([[1.0, -2.0, 3.0, -4.0]], dtype=torch.float64)
    ones = torch.ones(1, dtype=torch.float64)
    products = torch.diag(sizes**2)[None]
    state = lbfgs._State(
        x=gradient, value=ones, gradient=gradient, residual=ones, iterations=torch.tensor([6]), direction=gradient,
        step=ones, low=ones, high=ones, tries=torch.tensor([0]), gamma=ones, S=steps, Y=steps, SY=products,
        YY=products, born=torch.tensor([[4, 5, 2, 3]]),
    )  # fmt: skip
    torch.testing.assert_close(state._newton(), -gradient, rtol=1e-12, atol=0)


def test_a_search_that_runs_into_the_origin_does_not_end_in_a_singular_system():
    constants = {"num_classes": 5, "per_class": 3, "lambda_W": 5e-3, "lambda_H": 5e-3}
    problem = Problem(**constants, feature_dim=8)
    starts = problem.draw(60, generator(7885824881599989479), scale=1.0)
    found = solver.critical_points(problem, starts)
    assert found.converged.sum() >= 50
    assert bool(found.value.isfinite().all())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2, got 1"),
        ({"per_class": 2.5}, "per_class must be a whole number of at least 1, got 2.5"),
        ({"feature_dim": 0}, "feature_dim must be a whole number of at least 1, got 0"),
        ({"lambda_W": 0.0}, "lambda_W must be finite and not zero or negative, got 0.0"),
        ({"lambda_H": math.inf}, "lambda_H must be finite"),
        ({"lambda_H": torch.tensor([1e-3, -1.0])}, "lambda_H must be finite and not zero or negative"),
        ({"lambda_b": -1e-9}, "lambda_b must be finite and not negative, got -1e-09"),
    ],
)
def test_constants_that_make_no_problem_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Problem(**{**SMALL, "feature_dim": 6, **wrong})


def test_starts_and_settings_that_do_not_fit_are_refused_in_one_line():
    problem = Problem(**SMALL, feature_dim=6)
    starts = problem.draw(2, generator())
    other = Problem(**SMALL | {"lambda_W": torch.tensor([1e-3] * 3)}, feature_dim=6)
    for fault, call in {
        "method must be one of lbfgs": lambda: solver.descend(problem, starts, method="sgd"),
        "tolerance must be positive": lambda: solver.critical_points(problem, starts, tolerance=0.0),
        "W, H and b must have shapes": lambda: solver.descend(problem, starts._replace(b=None)),
        "starts must be finite": lambda: solver.descend(problem, starts._replace(W=starts.W / 0)),
        r"lambda_W must be a number or of shape \(2,\)": lambda: solver.descend(other, starts),
        "count must be at least 1": lambda: problem.draw(0, generator()),
    }.items():
        with pytest.raises(ValueError, match=fault) as error:
            call()
        assert "\n" not in str(error.value)
    assert batched.Problem is Problem
