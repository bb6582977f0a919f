"""Kinds of critical points where they are hard to tell: next to the collapse threshold, and beside a weak direction."""

import pytest
import torch
from samplers import generator

from nclib.geometry import simplex_etf
from nclib.theory import landscape, solver, unconstrained
from nclib.theory.batched import Balanced, Points, Problem


def at_threshold(singular_values=(), slack=0.0):
    """The kind of W = H with these singular values at four classes of one sample, at a strength of 1 - slack."""
    decay = (1 - slack) / 4
    problem = Problem(num_classes=4, per_class=1, feature_dim=6, lambda_W=decay, lambda_H=decay)
    sizes = torch.zeros(6, dtype=torch.float64)
    sizes[: len(singular_values)] = torch.tensor(singular_values, dtype=torch.float64)
    W = (3 / 4) ** 0.5 * simplex_etf(4, 6) * sizes  # the simplex's three columns are of one length
    points = Points(W[None], W[None].clone(), torch.zeros(1, 4, dtype=torch.float64))
    function = Balanced(problem, points)
    value, _, norm = function.evaluate(function.encode(points))
    solutions = solver.Solutions(
        points=points, value=value, gradient_norm=norm, iterations=torch.zeros(1, dtype=torch.int64),
        converged=norm <= 1e-6,
    )  # fmt: skip
    (point,) = landscape.classify(problem, solutions)
    return point


@pytest.mark.parametrize(
    ("slack", "kind"), [(0.0, "global minimum"), (1e-7, "global minimum"), (1e-4, "saddle")]
)
def test_curvature_within_the_tolerance_makes_no_saddle(slack, kind):
    point = at_threshold(slack=slack)
    # The origin's curvature is -(|grad g| - sqrt(lambda_W lambda_H)) = -slack / 4 in three directions.
    assert point.eigenvalue == pytest.approx(-slack / 4, rel=1e-6, abs=1e-12)
    assert point.kind == kind
    assert point.negative == (3 if kind == "saddle" else 0)


def test_a_gradient_is_held_against_the_weakest_direction_that_counts():
    weak = at_threshold([1e-2, 2e-4])
    assert weak.rank == 2 and weak.certificate.gradient_norm < 1e-7
    assert weak.kind == "not critical", "so small a gradient may be all that keeps 2e-4 from zero"
    # Controls: without that direction, or where it is below what counts, the same gradient decides.
    for strong in (at_threshold([1e-2]), at_threshold([1e-2, 5e-5])):
        assert strong.certificate.gradient_norm == pytest.approx(weak.certificate.gradient_norm, rel=1e-6)
        assert strong.rank == 1 and strong.kind == "global minimum"


@pytest.mark.parametrize(("lambda_b", "zero_modes"), [(0.0, 4), (0.02, 3), (None, 3)])
def test_zero_modes_are_three_rotations_and_the_shift_of_a_bias_that_is_free(lambda_b, zero_modes):
    problem = Problem(
        num_classes=3, per_class=2, feature_dim=3, lambda_W=2e-2, lambda_H=1e-2, lambda_b=lambda_b
    )
    found = solver.descend(problem, problem.draw(1, generator(), scale=0.5))
    parts = [part[0] for part in found.points if part is not None]
    y, sizes = torch.arange(3).repeat_interleave(2), [part.numel() for part in parts]

    def f(flat):
        W, H, *b = (q.view_as(p) for q, p in zip(flat.split(sizes), parts, strict=True))
        return unconstrained.objective(W, H, b[0] if b else None, y, **problem.lambdas_of(0))

    flat = torch.cat([part.flatten() for part in parts])
    spectrum = torch.linalg.eigvalsh(torch.autograd.functional.hessian(f, flat))
    (point,) = landscape.classify(problem, found)
    assert point.zero_modes == zero_modes == (spectrum.abs() < 1e-6).sum()
    assert spectrum[zero_modes].item() == pytest.approx(point.eigenvalue, rel=1e-6)
