"""GD, SGD and Adam on stacked restarts: each restart is a run of its own, by torch's rules and autograd's gradients."""

import math

import pytest
import torch

from nclib.theory import first_order, unconstrained, zhu2021
from nclib.theory.batched import Points, Problem

DECAYS = {"lambda_W": 2e-2, "lambda_H": 1e-2}
PROBLEM = Problem(num_classes=3, per_class=4, feature_dim=5, lambda_b=3e-3, **DECAYS)
Y = torch.arange(3).repeat_interleave(4)
RULES = {"gd": {"lr": 0.5}, "sgd": {"lr": 0.2, "momentum": 0.8, "batch_size": 5}, "adam": {"lr": 0.05}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_autograd(start, method, epochs, order, *, lr, momentum=0.9, batch_size=12):
    """One restart with torch's optimiser, its loss written as `nclib.theory.unconstrained` has it."""
    W, H, b = (part.clone().requires_grad_() for part in start)
    groups = [
        {"params": [p], "weight_decay": decay}
        for p, decay in ((W, 2e-2), (H, 1e-2), (b, 3e-3))
        if p is not None
    ]
    optimizer = torch.optim.Adam(groups) if method == "adam" else torch.optim.SGD(groups, momentum=momentum)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        batches = (
            torch.randperm(12, generator=order).split(batch_size) if method == "sgd" else [torch.arange(12)]
        )
        for rows in batches:
            optimizer.zero_grad()
            unconstrained.objective(W, H[rows], b, Y[rows], lambda_W=0.0, lambda_H=0.0).backward()
            optimizer.step()
    return W.detach(), H.detach(), b.detach()


@pytest.mark.parametrize("method", first_order.METHODS)
def test_a_stack_is_one_run_of_torchs_optimiser_a_restart(method, monkeypatch):
    starts = PROBLEM.draw(3, generator(), scale=0.5)
    monkeypatch.setattr(first_order, "CACHE", 2 * starts.H[0].nbytes)  # two parts
    found = first_order.iterate(
        PROBLEM, starts, method=method, epochs=7, generator=generator(1), **RULES[method]
    )
    seeds = torch.randint(2**62, (3,), generator=generator(1))
    for r in range(3):
        expected = by_autograd(
            [part[r] for part in starts], method, 7, generator(int(seeds[r])), **RULES[method]
        )
        for part, other, begun in zip(found.points, expected, starts, strict=True):
            torch.testing.assert_close(part[r], other, rtol=1e-10, atol=1e-12)
            assert (part[r] - begun[r]).norm() > 1e-2, "the control: it moved"
        lambdas = PROBLEM.lambdas_of(r)
        value = unconstrained.objective(*(part[r] for part in found.points), Y, **lambdas)
        assert found.value[r].item() == pytest.approx(value.item(), rel=1e-13)
        parts = unconstrained.gradient(*(part[r] for part in found.points), Y, **lambdas)
        norm = torch.cat([part.flatten() for part in parts]).norm()
        assert found.gradient_norm[r].item() == pytest.approx(norm.item(), rel=1e-10)
    assert not found.converged.any()
    assert found.iterations.tolist() == [21 if method == "sgd" else 7] * 3


@pytest.mark.parametrize("method", first_order.METHODS)
def test_every_method_ends_at_the_closed_form_and_a_short_run_does_not(method):
    starts = PROBLEM.draw(4, generator(), scale=0.5)
    best = zhu2021.global_minimum(num_classes=3, per_class=4, **DECAYS).value

    def gap(epochs):
        found = first_order.iterate(
            PROBLEM, starts, method=method, epochs=epochs, generator=generator(), **RULES[method]
        )
        return float((found.value / best - 1).abs().max()), found.converged

    near, converged = gap(1500)
    far, early = gap(20)
    assert near < (1e-3 if method == "sgd" else 1e-12)
    assert converged.all() == (method != "sgd"), "the noise of sampling is left"
    assert far > 1e-2 and not early.any()


def test_the_tolerance_asked_for_says_what_has_converged():
    def ends(**tolerance):
        return first_order.iterate(
            PROBLEM, PROBLEM.draw(3, generator(), scale=0.5), method="gd", epochs=30, generator=generator(),
            **RULES["gd"], **tolerance,
        )  # fmt: skip

    middle = ends().gradient_norm.median().item()
    assert not ends().converged.any()
    assert ends(tolerance=middle).converged.sum() == 2
    assert ends(tolerance=middle * (1 - 1e-9)).converged.sum() == 1


def test_full_batches_keep_equal_samples_equal_and_random_ones_do_not():
    starts = PROBLEM.draw(2, generator(), scale=0.5)
    means = starts.H.unflatten(1, (3, 4)).mean(2).repeat_interleave(4, dim=1)

    def spread(method, start):
        found = first_order.iterate(
            PROBLEM, start, method=method, epochs=10, generator=generator(), **RULES[method]
        )
        return float(found.points.H.unflatten(1, (3, 4)).std(2).max())

    for method in ("gd", "adam"):
        assert spread(method, starts._replace(H=means)) < 1e-12
        assert spread(method, starts) > 1e-2
    assert spread("sgd", starts._replace(H=means)) > 1e-2


def test_without_a_bias_there_is_none():
    problem = Problem(num_classes=3, per_class=2, feature_dim=4, lambda_b=None, **DECAYS)
    found = first_order.iterate(
        problem,
        problem.draw(2, generator(), scale=0.5),
        method="gd",
        lr=1.0,
        epochs=800,
        generator=generator(),
    )
    best = zhu2021.global_minimum(num_classes=3, per_class=2, **DECAYS)
    assert found.points.b is None
    assert found.value.tolist() == pytest.approx([best.value] * 2, rel=1e-10)


def test_what_makes_no_step_is_refused_in_one_line():
    starts = PROBLEM.draw(2, generator())
    rule = {"method": "gd", "lr": 0.1, "epochs": 1, "generator": generator()}
    each = torch.tensor([1e-2, 1e-2])
    several = Problem(num_classes=3, per_class=4, feature_dim=5, lambda_W=each, lambda_H=1e-2)
    for fault, (problem, start, changed) in {
        "method must be one of gd, sgd, adam": (PROBLEM, starts, {"method": "lbfgs"}),
        "lr must be positive": (PROBLEM, starts, {"lr": 0.0}),
        "epochs at least 1": (PROBLEM, starts, {"epochs": 0}),
        "batch_size must be from 1 to 12, got 0": (PROBLEM, starts, {"method": "sgd"}),
        "batch_size must be from 1 to 12, got 13": (PROBLEM, starts, {"method": "sgd", "batch_size": 13}),
        "each lambda must be one number": (several, starts, {}),
        "W, H and b must have shapes": (PROBLEM, Points(starts.W, starts.H, None), {}),
    }.items():
        with pytest.raises(ValueError, match=fault) as error:
            first_order.iterate(problem, start, **(rule | changed))
        assert "\n" not in str(error.value)
