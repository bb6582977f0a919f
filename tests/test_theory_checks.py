"""True statements survive a thousand instances to rounding; with a wrong constant the same check sees it."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from samplers import generator

from nclib import theory
from nclib.theory import checks

FAST = sorted(set(checks.PAPERS) - {"zhu2021_descent"})


@pytest.mark.parametrize("paper", FAST)
def test_no_statement_is_violated_on_a_thousand_instances(paper):
    found = checks.violations(paper, generator())
    assert max(found.values()) < 1e-9, found


def test_descent_confirms_the_landscape_to_what_its_gradient_allows():
    found = checks.violations("zhu2021_descent", generator(), instances=20)
    assert found["no point below"] < 1e-13
    assert found["descent reaches the value"] < 1e-12
    assert max(found["balance"], found["certificate"]) < 1e-5


def given(name, constant):
    """The function at another constant, chosen from what it is called with."""
    return lambda right: lambda *args, **c: right(*args, **c | {name: constant(c)})


def believed(name, constant):
    """The same, with a result that claims to be for the constant asked for."""
    return lambda right: lambda **c: replace(right(**c | {name: constant(c)}), **{name: c[name]})


def result(name, number):
    """The function with one number of its result replaced."""

    def make(right):
        def changed(*args, **c):
            made = right(*args, **c)
            return replace(made, **{name: number(made)})

        return changed

    return make


def times(factor):
    """The function with its number multiplied."""
    return lambda right: lambda *args, **c: right(*args, **c) * factor(c)


def n(c):
    return c["per_class"]


def cube(m):
    return (m.lambda_W2 * m.lambda_W1 * m.lambda_H) ** (1 / 3)


ERRORS = {
    # what is wrong: the module and the name in it, the wrong version, the statement that must see it
    "minimum without n": ("zhu2021.global_minimum", believed("per_class", lambda c: 1), "value"),
    "minimum with n squared": ("zhu2021.global_minimum", believed("per_class", lambda c: n(c) ** 2), "value"),
    "minimum without the root": (
        "zhu2021.global_minimum",
        believed("lambda_H", lambda c: n(c) * c["lambda_W"] * c["lambda_H"] ** 2),
        "value",
    ),
    "K for K - 1 in the norm": (
        "zhu2021.global_minimum",
        result("W_norm_squared", lambda m: m.W_norm_squared * m.num_classes / (m.num_classes - 1)),
        "stationarity",
    ),
    "norms of H without n": (
        "zhu2021.global_minimum",
        result("H_norm_squared", lambda m: m.H_norm_squared / m.per_class),
        "norms",
    ),
    "minimum a percent too high": (
        "zhu2021.global_minimum",
        result("value", lambda m: 1.01 * m.value),
        "no point below",
    ),
    "threshold without n": ("zhu2021.collapse_threshold", times(lambda c: math.sqrt(n(c))), "threshold"),
    "threshold without the root": ("zhu2021.collapse_threshold", times(lambda c: n(c) ** -0.5), "threshold"),
    "bound without n": ("zhu2021.lower_bound", given("per_class", lambda c: 1), "lower bound attained"),
    "bound with n squared": (
        "zhu2021.lower_bound",
        given("per_class", lambda c: n(c) ** 2),
        "lower bound",
    ),
    "certificate without the root": (
        "zhu2021.certificate",
        result("threshold", lambda c: c.threshold**2),
        "certificate",
    ),
    "curvature without its 2": (
        "zhu2021.escape_direction",
        result("curvature", lambda way: way.curvature / 2),
        "curvature",
    ),
    "direction with a square root for the fourth": (
        "zhu2021.escape_direction",
        result("delta_W", lambda way: way.delta_W * way.delta_W.norm()),
        "curvature",
    ),
    "nuclear norm twice": (
        "zhu2021.convex_partner",
        given("lambda_W", lambda c: 4 * c["lambda_W"]),
        "partner below f",
    ),
    "nuclear norm without the root": (
        "zhu2021.convex_partner",
        given("lambda_W", lambda c: c["lambda_W"] ** 2 * c["lambda_H"]),
        "partner above minimum",
    ),
    "c without the root": (
        "tirer2022.global_minimum",
        believed("lambda_H", lambda c: c["lambda_W"] * c["lambda_H"] ** 2),
        "value",
    ),
    "rho without the root": (
        "tirer2022.global_minimum",
        result("rho", lambda m: m.signal * m.lambda_W / m.lambda_H),
        "stationarity",
    ),
    "features without n": (
        "tirer2022.global_minimum",
        result("H_norm_squared", lambda m: m.H_norm_squared / m.per_class),
        "norms",
    ),
    "squared error a percent too high": (
        "tirer2022.global_minimum",
        result("value", lambda m: 1.01 * m.value),
        "no point below",
    ),
    "nuclear norm without 1/K": (
        "tirer2022.certificate",
        result("threshold", lambda c: 2 * c.threshold),
        "partner below f",
    ),
    "2 for 3 in the mean of penalties": (
        "tirer2022_extended.global_minimum",
        result("value", lambda m: m.value - cube(m) * m.signal ** (2 / 3) / 2),
        "value",
    ),
    "product without the cube root": (
        "tirer2022_extended.global_minimum",
        believed("lambda_H", lambda c: (c["lambda_W2"] * c["lambda_W1"]) ** 2 * c["lambda_H"] ** 3),
        "value",
    ),
    "transition too late": ("tirer2022_extended.TRANSITION", lambda right: 27 / 256, "no point below"),
    "transition too early": ("tirer2022_extended.TRANSITION", lambda right: 1 / 27, "no point below"),
    "margin without n": ("ji2021.margin_bound", times(lambda c: math.sqrt(n(c))), "bound attained"),
    "margin without the root": ("ji2021.margin_bound", times(lambda c: n(c) ** -0.5), "margin bound"),
    "K for K - 1 in the margin": (
        "ji2021.margin_bound",
        times(lambda c: (c["num_classes"] - 1) / c["num_classes"]),
        "margin bound",
    ),
    "a sum conserved for a difference": (
        "ji2021.conserved",
        lambda right: lambda W, H: W.T @ W + H.T @ H,
        "conservation",
    ),
    "strong collapse with n for its root": (
        "mixon2020.strong_collapse",
        lambda right: (
            lambda **c: [n(c) ** power * p for power, p in zip((0.25, 0.25, 0), right(**c), strict=True)]
        ),
        "no loss",
    ),
    "strong collapse without a bias": (
        "mixon2020.strong_collapse",
        lambda right: lambda **c: [power * p for power, p in zip((1, 1, 0), right(**c), strict=True)],
        "distances",
    ),
}


@cache
def of_true_statements(paper):
    return checks.violations(paper, generator(), instances=100)


@pytest.mark.parametrize("error", ERRORS)
def test_a_wrong_constant_raises_the_violation_by_orders_of_magnitude(error, monkeypatch):
    name, make, statement = ERRORS[error]
    paper, _, name = name.partition(".")
    right = of_true_statements(paper)
    module = getattr(theory, paper)
    monkeypatch.setattr(module, name, make(getattr(module, name)))
    found = checks.violations(paper, generator(), instances=100)
    assert found[statement] > 1e6 * max(right[statement], 1e-11)


SADDLES = {
    "curvature without its 2": (
        theory.zhu2021,
        "escape_direction",
        result("curvature", lambda way: way.curvature / 2),
        "curvature at saddles",
    ),
    "threshold without n": (
        theory.zhu2021,
        "collapse_threshold",
        times(lambda c: math.sqrt(n(c))),
        "threshold at saddles",
    ),
    "the saddles of another decay": (
        theory.critical_points,
        "grouped",
        given("lambda_H", lambda c: 1.01 * c["lambda_H"]),
        "stationarity at saddles",
    ),
}


@pytest.mark.parametrize("error", SADDLES)
def test_a_wrong_constant_is_seen_at_saddles_too(error, monkeypatch):
    module, name, make, statement = SADDLES[error]
    right = of_true_statements("zhu2021_saddles")
    monkeypatch.setattr(module, name, make(getattr(module, name)))
    found = checks.violations("zhu2021_saddles", generator(), instances=100)
    assert found[statement] > 1e6 * max(right[statement], 1e-11)


def test_a_violation_that_is_no_number_is_not_overlooked(monkeypatch):
    def nan(c):
        return math.nan

    monkeypatch.setattr(theory.ji2021, "margin_bound", times(nan)(theory.ji2021.margin_bound))
    found = checks.violations("ji2021", generator(), instances=3)
    assert math.isnan(found["bound attained"]) and math.isnan(found["margin bound"])


def test_instances_are_those_of_the_generator():
    one, again = (checks.violations("zhu2021", generator(5), instances=10) for _ in range(2))
    assert one == again
    assert one != checks.violations("zhu2021", generator(6), instances=10)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"no statements of 'papyan'; there are ji2021, mixon2020"):
        checks.violations("papyan", torch.Generator())
    with pytest.raises(ValueError, match="instances must be at least 1, got 0"):
        checks.violations("ji2021", torch.Generator(), instances=0)
