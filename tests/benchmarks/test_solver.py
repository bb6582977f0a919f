"""How long the batched solver of the unconstrained-feature model takes, also against SGD; prints a table.

A benchmark, not a timed test: it asserts that both routes end where the closed form says. `README.md` here holds
the figures.
"""

from itertools import count
from time import perf_counter, process_time

import pytest
import torch
from torch.nn import functional

from nclib.theory import unconstrained, zhu2021
from nclib.theory.batched import Problem
from nclib.theory.solver import descend

SIZES = {"num_classes": 10, "per_class": 100, "lambda_W": 1e-3, "lambda_H": 1e-3}
RESTARTS, BY_SGD = 200, 8
GAP = 1e-6
SETTINGS = [(lr, momentum) for momentum in (0.0, 0.9) for lr in (1.0, 3.0, 10.0, 30.0)]
"""SGD's, from where it is slow to next to where it diverges (100)."""


def labels(problem):
    return torch.arange(problem.num_classes).repeat_interleave(problem.per_class)


def show(capsys, what, begun, restarts):
    wall, cpu = perf_counter() - begun[0], process_time() - begun[1]
    with capsys.disabled():
        print(f"\n{what}: {wall:.2f} s, {cpu:.2f} CPU s, for {restarts} restarts", end="")
    return cpu / restarts


@pytest.mark.parametrize("averaged", [True, False])
def test_200_restarts_to_a_gradient_norm_of_1e_8(averaged, capsys):
    problem, minimum = Problem(**SIZES, feature_dim=64), zhu2021.global_minimum(**SIZES)
    starts = problem.draw(RESTARTS, torch.Generator().manual_seed(0))
    begun = perf_counter(), process_time()
    found = descend(problem, starts, averaged=averaged)
    show(capsys, "features averaged" if averaged else "every sample its own features", begun, RESTARTS)
    assert found.converged.all()
    torch.testing.assert_close(found.value, torch.full_like(found.value, minimum.value), rtol=1e-12, atol=0)
    for r in range(0, RESTARTS, 20):  # by the closed form of one problem
        point = [part[r] for part in found.points]
        parts = unconstrained.gradient(*point, labels(problem), **problem.lambdas_of(r))
        assert sum(part.square().sum() for part in parts).sqrt() < 1.000001e-8


def sgd(problem, start, goal, lr, momentum, limit=None):
    """Steps of torch's SGD on all samples, by autograd, until f is at most the goal; None when it never is."""
    W, H, b = (part.clone().requires_grad_() for part in start)
    decay = problem.lambda_W  # equal to lambda_H here
    optimizer = torch.optim.SGD(
        [{"params": [W, H], "weight_decay": decay}, {"params": [b]}], lr=lr, momentum=momentum
    )
    y = labels(problem)
    for step in count() if limit is None else range(limit):
        optimizer.zero_grad()
        entropy = functional.cross_entropy(functional.linear(H, W, b), y)
        entropy.backward()
        with torch.no_grad():
            value = float(entropy + decay / 2 * (W.square().sum() + H.square().sum()))
        if value <= goal:
            return step
        optimizer.step()
    return None


def test_the_solver_against_sgd_to_the_same_gap(capsys):
    problem = Problem(**SIZES, feature_dim=64)
    goal = (1 + GAP) * zhu2021.global_minimum(**SIZES).value
    starts = problem.draw(RESTARTS, torch.Generator().manual_seed(0))
    first = [part[0] for part in starts]
    steps = {}
    for lr, momentum in SETTINGS:  # tuned on the first start; what diverges or is slow is cut off
        taken = sgd(problem, first, goal, lr, momentum, limit=min(steps.values(), default=3000))
        if taken is not None:
            steps[lr, momentum] = taken
    lr, momentum = min(steps, key=steps.get)
    begun = perf_counter(), process_time()
    for r in range(BY_SGD):
        assert sgd(problem, [part[r] for part in starts], goal, lr, momentum) is not None
    by_sgd = show(capsys, f"SGD, step {lr}, momentum {momentum}, {steps[lr, momentum]} steps", begun, BY_SGD)
    for averaged in (True, False):
        restarts = RESTARTS if averaged else BY_SGD
        begun = perf_counter(), process_time()
        found = descend(
            problem, type(starts)(*(part[:restarts] for part in starts)), averaged=averaged, goal=goal
        )
        ours = show(
            capsys, "the solver, averaged" if averaged else "the solver, not averaged", begun, restarts
        )
        with capsys.disabled():
            print(f": {by_sgd / ours:.2f} times as fast", end="")
        assert found.converged.all() and (found.value <= goal).all()


def test_a_thousand_classes_to_a_relative_gap_of_1e_6(capsys):
    sizes = {"num_classes": 1000, "per_class": 5, "lambda_W": 1e-5, "lambda_H": 1e-5}
    problem, minimum = Problem(**sizes, feature_dim=1024), zhu2021.global_minimum(**sizes)
    start = problem.draw(1, torch.Generator().manual_seed(0), scale=0.03)
    begun = perf_counter(), process_time()
    found = descend(problem, start, goal=(1 + GAP) * minimum.value)
    show(capsys, f"K = 1000, {int(found.iterations)} steps", begun, 1)
    point = [part[0] for part in found.points]
    value = float(unconstrained.objective(*point, labels(problem), **problem.lambdas_of(0)))
    assert 0 < value / minimum.value - 1 < 1.000001 * GAP
