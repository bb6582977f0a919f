"""Random instances are within what they promise, and a report tells a true statement from a wrong one."""

import math

import pytest
import torch
from samplers import generator, normal

from nclib.theory import instances, zhu2021


def test_instances_are_within_their_ranges_and_differ():
    drawn = instances.draw(200, generator())
    for p in drawn:
        K, n, d = p.num_classes, p.per_class, p.W.shape[1]
        assert 2 <= K <= 6 and 1 <= n <= 5 and K - 1 <= d <= K + 2
        assert p.W.shape == (K, d) and p.H.shape == (K * n, d) and p.b.shape == (K,)
        assert p.y.bincount().tolist() == [n] * K
        assert 0.01 <= K * p.t <= 3 and 0.01 <= p.lambda_W / p.lambda_H <= 100.1
        assert p.tau == pytest.approx(math.sqrt(p.lambda_W * p.lambda_H), rel=1e-14)
        assert p.W.dtype == p.H.dtype == p.b.dtype == torch.float64
    beyond = [p.num_classes * p.t > 1 for p in drawn]
    assert 20 < sum(beyond) < 180
    assert len({(p.num_classes, p.per_class, p.W.shape[1]) for p in drawn}) > 40


def test_a_seed_gives_the_same_instances_and_another_gives_others():
    one, same, other = (instances.draw(3, generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(p.H, q.H) and p.decays == q.decays for p, q in zip(one, same, strict=True))
    assert one[0].problem != other[0].problem


def test_strengths_are_those_asked_for():
    assert all(p.num_classes * p.t < 0.9 for p in instances.draw(50, generator(), strengths=(0.1, 0.9)))


def test_problem_is_what_the_closed_forms_take():
    (p,) = instances.draw(1, generator())
    assert zhu2021.global_minimum(**p.problem).lambda_H == p.lambda_H
    assert zhu2021.objective(*p.point, **p.decays) > 0
    assert all(a is b for a, b in zip(p.point, (p.W, p.H, p.b, p.y), strict=True))


def test_gaps_are_relative_and_zero_between_zeros():
    assert instances.gap(2.0, 1.0) == instances.gap(1.0, 2.0) == 0.5
    A = normal(3, 2)
    assert instances.gap(A, A) == 0 and instances.gap(0 * A, 0.0 * A) == 0
    assert instances.gap(1e-30, 2e-30) == 0.5  # no absolute floor
    assert math.isnan(instances.gap(float("nan"), 1.0))


def test_an_excess_counts_only_where_an_inequality_is_missed():
    assert instances.excess(1.0, 2.0) == 0
    assert instances.excess(2.0, 1.0) == 1
    assert instances.excess(30.0, 20.0) == 0.5
    assert math.isnan(instances.excess(float("nan"), 1.0))


def test_the_worst_of_some_violations_does_not_hide_what_is_no_number():
    assert instances.worst(0.1, torch.tensor(0.5), 0) == 0.5
    assert math.isnan(instances.worst(0.1, float("nan"), 0.3))
    assert max(0.1, float("nan"), 0.3) == 0.3  # Python's does


def test_a_report_sees_what_is_missed_on_a_single_instance():
    seen = instances.report(lambda x: (1e-15, 0.1 if x == 7 else 0.0), range(10), control="one is off")
    assert seen.splitlines() == [
        "10 instances: largest violation below 1e-12: True",
        "control, one is off: below 1e-12: False",
    ]
    named = instances.report(lambda x: (0.0, 1.0), range(3), control="one is off", of="all saddles")
    assert named.startswith("all saddles: largest violation below 1e-12: True")
    worse = instances.report(lambda x: (float("nan") if x == 3 else 0.0, 1e-14), range(10), control="none")
    assert worse.splitlines()[0].endswith("False") and worse.splitlines()[1].endswith("True")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        instances.draw(0, generator())
    with pytest.raises(ValueError, match="strengths must be positive"):
        instances.draw(1, generator(), strengths=(1.0, 0.5))
    with pytest.raises(ValueError, match="no instances"):
        instances.report(lambda x: (0.0, 1.0), [], control="none")
