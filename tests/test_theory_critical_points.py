"""Critical points: gradients vanish there, grouped ones are saddles as high as said, and none is a trap."""

import math

import pytest
import torch
from samplers import generator, labels, normal

from nclib.theory import critical_points, zhu2021

DECAYS = {"lambda_W": 3e-3, "lambda_H": 7e-3}
SIX = {"num_classes": 6, "per_class": 2, **DECAYS}
Y = labels([2] * 6)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("d", [2, 5, 8])
def test_groups_are_strict_saddles_with_the_origins_curvature(groups, d):
    point = critical_points.grouped(**SIX, groups=groups, d=d, generator=generator())
    found = zhu2021.certificate(*point, Y, **DECAYS)
    assert found.gradient_norm < 1e-15 and not found.is_global
    assert found.spectral_norm == pytest.approx(1 / (6 * math.sqrt(2)), rel=1e-13)
    assert int(torch.linalg.matrix_rank(point[0])) == groups - 1
    if d >= groups:
        way = zhu2021.escape_direction(*point, Y, **DECAYS)
        assert way.curvature == pytest.approx(-2 * (1 / (6 * math.sqrt(2)) - math.sqrt(21e-6)), rel=1e-12)


def test_as_many_groups_as_classes_are_the_global_minimum():
    W, H, _ = critical_points.grouped(**SIX, groups=6, d=5)
    best_W, best_H, _ = zhu2021.global_minimum(**SIX).construct(5)
    torch.testing.assert_close(W, best_W, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(H, best_H, rtol=1e-13, atol=1e-14)


def test_more_groups_are_lower():
    points = (critical_points.grouped(**SIX, groups=m, d=5) for m in (1, 2, 3, 6))
    values = [zhu2021.objective(*point, Y, **DECAYS).item() for point in points]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(math.log(6)) and values[2] - values[3] > 0.1


def test_groups_of_another_size_are_not_critical():
    W, H, b = critical_points.grouped(**SIX, groups=2, d=5)
    assert zhu2021.certificate(1.01 * W, 1.01 * H, b, Y, **DECAYS).gradient_norm > 1e-4


@pytest.mark.parametrize("d", [2, 3, 4])
def test_newton_ends_at_critical_points_of_both_kinds_and_each_is_certified_or_escapable(d):
    y, decays = labels([2] * 3), {"lambda_W": 2e-2, "lambda_H": 3e-2}
    kinds = set()
    for seed in range(12):
        W = 2 * normal(3, d, seed=seed)
        start = (W, W[y] / 2 + normal(6, d, seed=seed + 50) / 2, normal(3, seed=seed + 90))
        point = critical_points.nearest(*start, y, **decays)
        assert zhu2021.certificate(*start, y, **decays).gradient_norm > 0.1
        assert point is not None
        found = zhu2021.certificate(*point, y, **decays)
        assert found.gradient_norm < 1e-9
        kinds.add(found.is_global)
        if not found.is_global:
            assert zhu2021.escape_direction(*point, y, **decays).curvature < -1e-2
    assert kinds == {True, False}


def test_without_steps_nothing_is_found():
    start = (normal(3, 4), normal(6, 4, seed=1), normal(3, seed=2))
    assert critical_points.nearest(*start, labels([2] * 3), **DECAYS, steps=1) is None


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="groups must divide num_classes=6, got 4"):
        critical_points.grouped(**SIX, groups=4, d=5)
    with pytest.raises(ValueError, match="needs d >= 2"):
        critical_points.grouped(**SIX, groups=3, d=1)
    for decay in (1.0, 1.01 / (6 * math.sqrt(2))):  # far beyond the threshold K t = 1, and just so
        with pytest.raises(ValueError, match="only the origin is critical"):
            critical_points.grouped(num_classes=6, per_class=2, lambda_W=decay, lambda_H=decay, groups=2, d=5)


def test_the_hessian_is_symmetric_and_that_of_the_objective():
    y, decays = labels([2] * 3), {"lambda_W": 2e-2, "lambda_H": 3e-2}
    shapes = ((3, 4), (6, 4), (3,))
    x = normal(39)

    def f(x):
        parts = [part.view(shape) for part, shape in zip(x.split([12, 24, 3]), shapes, strict=True)]
        return zhu2021.objective(*parts, y, **decays)

    parts = [part.view(shape) for part, shape in zip(x.split([12, 24, 3]), shapes, strict=True)]
    second = critical_points.hessian(*parts, y, **decays)
    torch.testing.assert_close(second, second.T, rtol=0, atol=1e-15)
    torch.testing.assert_close(second, torch.autograd.functional.hessian(f, x), rtol=1e-12, atol=1e-14)
    other = critical_points.hessian(*parts, y, lambda_W=2e-2, lambda_H=4e-2)
    assert (other - second).abs().max() == pytest.approx(1e-2, rel=1e-10)
