"""Squared error with two and with three factors: closed minima, their rank, a threshold and a jump."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal

from nclib.geometry import simplex_gram
from nclib.theory import tirer2022, tirer2022_extended

SMALL = {"num_classes": 4, "per_class": 3, "lambda_W": 5e-3, "lambda_H": 2e-2}
STRONG = {"num_classes": 3, "per_class": 2, "lambda_W": 0.9, "lambda_H": 0.4}
BEYOND = {"num_classes": 3, "per_class": 2, "lambda_W": 1.3, "lambda_H": 0.9}
EXTENDED = {"num_classes": 4, "per_class": 3, "lambda_W2": 0.1, "lambda_W1": 0.5, "lambda_H": 0.4}


def within(rel, value):
    return pytest.approx(value, rel=rel, abs=0)


def decays(problem):
    return {name: value for name, value in problem.items() if name.startswith("lambda")}


def labels(problem):
    return torch.arange(problem["num_classes"]).repeat_interleave(problem["per_class"])


def norm(parts):
    return math.sqrt(sum(part.square().sum().item() for part in parts if part is not None))


def draw(problem, d, seed, bias):
    K, N = problem["num_classes"], problem["num_classes"] * problem["per_class"]
    b = normal(K, seed=3 * seed + 2) if bias else None
    return normal(K, d, seed=3 * seed), normal(N, d, seed=3 * seed + 1), b


def descend(objective, point):
    """The end of L-BFGS: an optimiser that knows no closed form."""
    point = [part.clone().requires_grad_() for part in point if part is not None]
    optimizer = torch.optim.LBFGS(
        point, max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = objective(*point)
        value.backward()
        return value

    optimizer.step(closure)
    return closure().item()


# --- two factors ---


@pytest.mark.parametrize("problem", [SMALL, STRONG, BEYOND])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_minimum_is_what_descent_finds_in_any_dimension(problem, bias, d):
    minimum = tirer2022.global_minimum(**problem, bias=bias, d=d)
    y = labels(problem)

    def objective(W, H, b=None):
        return tirer2022.objective(W, H, b, y, **decays(problem))

    for seed in range(2):
        found = descend(objective, draw(problem, d, seed, bias))
        assert found == within(1e-10, minimum.value)


@pytest.mark.parametrize("problem", [SMALL, STRONG, BEYOND])
@pytest.mark.parametrize(("bias", "d"), [(False, 4), (False, 7), (False, 2), (True, 3), (True, 5), (True, 1)])
def test_constructed_minimiser_attains_the_value_where_the_gradient_vanishes(problem, bias, d):
    minimum, y = tirer2022.global_minimum(**problem, bias=bias, d=d), labels(problem)
    point = minimum.construct(d, generator())
    assert tirer2022.objective(*point, y, **decays(problem)).item() == within(1e-13, minimum.value)
    assert_vanishes(norm(tirer2022.gradient(*point, y, **decays(problem))))
    W, H, b = point
    assert W.square().sum().item() == within(1e-13, minimum.W_norm_squared)
    assert H.square().sum().item() == within(1e-13, minimum.H_norm_squared)
    assert (b is None) is not bias
    if minimum.collapsed:
        wrong = decays(problem) | {"lambda_W": 1.01 * problem["lambda_W"]}
        assert norm(tirer2022.gradient(*point, y, **wrong)) > 1e-6


def test_means_are_an_orthogonal_frame_without_and_a_simplex_with_a_bias():
    c = math.sqrt(5e-3 * 2e-2)
    rho = (1 - c) * math.sqrt(5e-3 / 2e-2)
    free = tirer2022.global_minimum(**SMALL)
    without = tirer2022.global_minimum(**SMALL, bias=False)
    assert without.rho == within(1e-14, rho) and free.rho == within(1e-14, rho)
    eye = torch.eye(4, dtype=torch.float64)
    means = without.construct(5, generator())[1][::3]
    torch.testing.assert_close(means @ means.T, rho * eye)
    centred = means - means.mean(0)
    torch.testing.assert_close(centred @ centred.T, rho * 0.75 * simplex_gram(4))
    W, H, b = free.construct(5, generator())
    torch.testing.assert_close(H[::3] @ H[::3].T, rho * 0.75 * simplex_gram(4))
    torch.testing.assert_close(W, 2 * H[::3])  # sqrt(lambda_H / lambda_W)
    torch.testing.assert_close(b, torch.full((4,), 0.25, dtype=torch.float64))


def test_value_of_the_test_vectors():
    # c = 0.01: (2c - c^2) / 2 without a bias, three quarters of it with one.
    assert tirer2022.global_minimum(**SMALL, bias=False).value == within(1e-14, 0.00995)
    assert tirer2022.global_minimum(**SMALL).value == within(1e-14, 0.0074625)
    # One direction of K lost costs the whole error along it, 1 / (2K).
    lost = tirer2022.global_minimum(**SMALL, bias=False, d=3)
    assert lost.value == within(1e-14, 0.75 * 0.00995 + 0.125) and lost.rank == 3
    # K - 1 dimensions cost nothing where a bias stands for the K-th.
    assert tirer2022.global_minimum(**SMALL, d=3).value == tirer2022.global_minimum(**SMALL).value
    assert tirer2022.global_minimum(**SMALL, d=2).value > 0.1


@pytest.mark.parametrize(("lambda_W", "lambda_H"), [(2.0, 0.5), (1.0, 1.0), (4.0, 0.25 * (1 + 1e-15))])
def test_minimiser_is_zero_from_a_product_of_one_on(lambda_W, lambda_H):
    constants = {"num_classes": 5, "per_class": 2, "lambda_W": lambda_W}
    zero = tirer2022.global_minimum(**constants, lambda_H=lambda_H)
    assert not zero.collapsed and zero.value == 0.4 and zero.W_norm_squared == 0
    assert norm(zero.construct(4)[:2]) == 0
    assert tirer2022.global_minimum(**constants, lambda_H=lambda_H, bias=False).value == 0.5
    below = tirer2022.global_minimum(**constants, lambda_H=lambda_H * (1 - 1e-9))
    assert below.collapsed and below.value == pytest.approx(0.4, abs=1e-15)


@pytest.mark.parametrize(
    ("lambda_W", "lambda_H"),
    [(0.25 * (1 - 1e-13), 4.0), (1 - 2**-53, 1.0), (1e-40, 1e-60), (1e-3, 1e-12), (1e150, 1e-151)],
)
def test_signal_and_value_keep_their_digits_at_the_threshold_and_far_from_it(lambda_W, lambda_H):
    minimum = tirer2022.global_minimum(num_classes=7, per_class=2, lambda_W=lambda_W, lambda_H=lambda_H)
    with localcontext() as context:
        context.prec = 80
        c = (Decimal(lambda_W) * Decimal(lambda_H)).sqrt()
        value = 6 * c * (2 - c) / 14
        rho = (1 - c) * (Decimal(lambda_W) / Decimal(lambda_H)).sqrt()
        H_norm_squared = 2 * 6 * rho
    assert minimum.signal == within(1e-14, float(1 - c))
    assert minimum.value == within(1e-14, float(value))
    assert minimum.H_norm_squared == within(1e-13, float(H_norm_squared))
    assert minimum.W_norm_squared == within(1e-13, float(H_norm_squared / 2) * (lambda_H / lambda_W))


def test_huge_decays_leave_the_zero_solution():
    assert not tirer2022.global_minimum(num_classes=3, per_class=1, lambda_W=1e300, lambda_H=1e300).collapsed


@pytest.mark.parametrize(("bias", "d"), [(False, 4), (True, 3), (True, 6)])
def test_certificate_accepts_the_minimum_and_rejects_what_lacks_a_direction(bias, d):
    y = labels(SMALL)
    found = tirer2022.certificate(
        *tirer2022.global_minimum(**SMALL, bias=bias).construct(d, generator()), y, **decays(SMALL)
    )
    assert found.is_global
    assert found.threshold == within(1e-14, math.sqrt(5e-3 * 2e-2 / 3) / 4)
    assert found.spectral_norm == within(1e-11, found.threshold)
    saddle = tirer2022.global_minimum(**SMALL, bias=bias, d=2).construct(d)
    found = tirer2022.certificate(*saddle, y, **decays(SMALL))
    assert found.gradient_norm < 1e-14 and not found.is_global
    assert found.spectral_norm > 10 * found.threshold


@pytest.mark.parametrize("decay", [1e-9, 1e-8])
def test_the_certificate_holds_a_gradient_against_the_pull_of_the_decays(decay):
    problem = SMALL | {"lambda_W": decay, "lambda_H": decay}
    W, H, b = tirer2022.global_minimum(**problem).construct(6, generator())
    far = tirer2022.certificate((1 + 2 * decay) * W, H, b, labels(SMALL), **decays(problem))
    assert far.gradient_norm < 1e-6 and not far.is_global
    # Control: the minimiser itself.
    assert tirer2022.certificate(W, H, b, labels(SMALL), **decays(problem)).is_global


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("stack", [(), (3,)])
def test_gradient_agrees_with_autograd(with_bias, stack):
    y, constants = labels(SMALL), {"lambda_W": 0.3, "lambda_H": 0.7}
    point = [normal(*stack, 4, 5), normal(*stack, 12, 5, seed=1)]
    point += [normal(*stack, 4, seed=2)] if with_bias else []
    none = [] if with_bias else [None]
    leaves = [part.clone().requires_grad_() for part in point]
    tirer2022.objective(*leaves, *none, y, **constants).sum().backward()
    ours = tirer2022.gradient(*point, *none, y, **constants)
    for part, leaf in zip(ours[: len(point)], leaves, strict=True):
        torch.testing.assert_close(part, leaf.grad, rtol=1e-12, atol=1e-14)
    assert (ours[2] is None) is not with_bias


def test_objective_of_a_case_by_hand():
    one = torch.ones(1, 1, dtype=torch.float64)
    W, H, y = torch.cat([one, -one]), torch.cat([one, 2 * one]), torch.arange(2)
    # Logits (1, -1), (2, -2) against (1, 0), (0, 1): squared errors 1 and 4 + 9.
    value = tirer2022.objective(W, H, None, y, lambda_W=0.4, lambda_H=0.8).item()
    assert value == within(1e-15, 14 / 4 + 0.4 / 4 * 2 + 0.8 / 4 * 5)


# --- three factors ---


def test_extended_minimum_of_the_test_vectors():
    minimum = tirer2022_extended.global_minimum(**EXTENDED)
    assert minimum.value == pytest.approx(0.365977, abs=5e-7)
    assert minimum.signal == pytest.approx(0.69331, abs=5e-6)


@pytest.mark.parametrize("product", [1e-9, 1e-3, 0.02, 0.05, 0.0624, 0.0626, 0.1, 1.0])
def test_extended_minimum_agrees_with_a_search_along_one_direction(product):
    minimum = tirer2022_extended.global_minimum(
        num_classes=3, per_class=2, lambda_W2=1.0, lambda_W1=product, lambda_H=1.0
    )
    x = torch.linspace(0, 1, 2_000_001, dtype=torch.float64)
    f = ((1 - x).square() + 3 * product ** (1 / 3) * x ** (2 / 3)) / 2
    assert minimum.value <= f.min().item() + 1e-15
    assert minimum.value == pytest.approx(f.min().item(), abs=1e-11)
    assert minimum.signal == pytest.approx(x[f.argmin()].item(), abs=1e-6)


def test_extended_minimiser_jumps_from_a_half_to_zero():
    def at(product):
        return tirer2022_extended.global_minimum(
            num_classes=3, per_class=2, lambda_W2=0.25, lambda_W1=0.25, lambda_H=product * 16
        )

    below, above = at((1 - 1e-9) / 16), at(1 / 16)
    assert below.signal == pytest.approx(0.5, abs=1e-8) and above.signal == 0
    assert below.value == pytest.approx(0.5, abs=1e-8) and above.value == 0.5
    # Control: with two factors the signal falls to zero without a jump.
    two = tirer2022.global_minimum(num_classes=3, per_class=2, lambda_W=1.0, lambda_H=1 - 1e-9)
    assert 0 < two.signal < 1e-8


@pytest.mark.parametrize("product", ["1e-300", "1e-30", "1e-6", "0.02", "0.0624999999999"])
def test_extended_value_keeps_its_digits(product):
    decay = {"lambda_W2": 1.0, "lambda_W1": float(product), "lambda_H": 1.0}
    minimum = tirer2022_extended.global_minimum(num_classes=3, per_class=2, **decay)
    with localcontext() as context:
        context.prec = 60
        q = Decimal(float(product)) ** (Decimal(1) / 3)
        u = Decimal(1)
        for _ in range(200):
            u -= (u - u**4 - q) / (1 - 4 * u**3)
        value = ((1 - u**3) ** 2 + 3 * q * u * u) / 2
    assert minimum.value == within(1e-14, float(value))
    assert minimum.signal == within(1e-14, float(u**3))


@pytest.mark.parametrize(
    "change", [{}, {"lambda_W2": 1e-4}, {"lambda_W2": 1e-70, "lambda_W1": 1e-70, "lambda_H": 1e-70}]
)
@pytest.mark.parametrize("d", [4, 6])
def test_extended_minimiser_attains_the_value_where_the_gradient_vanishes(change, d):
    problem = EXTENDED | change
    minimum, y = tirer2022_extended.global_minimum(**problem), labels(problem)
    point = minimum.construct(d, generator())
    value = tirer2022_extended.objective(*point, y, **decays(problem)).item()
    assert value == pytest.approx(minimum.value, rel=1e-12, abs=1e-15)
    # The gradient by one factor carries the others' size.
    size = max(1.0, norm(point) ** 2)
    assert_vanishes(norm(tirer2022_extended.gradient(*point, y, **decays(problem))) / size)
    wrong = decays(problem) | {"lambda_W1": 10 * problem["lambda_W1"]}
    if not change:
        assert_far_from_zero(norm(tirer2022_extended.gradient(*point, y, **wrong)))


def test_extended_descent_finds_the_minimum_and_nothing_below_it():
    minimum, y = tirer2022_extended.global_minimum(**EXTENDED), labels(EXTENDED)

    def objective(W2, W1, H):
        return tirer2022_extended.objective(W2, W1, H, y, **decays(EXTENDED))

    ends = []
    for seed in range(8):
        start = (normal(4, 6, seed=seed), normal(6, 6, seed=seed + 20), normal(12, 6, seed=seed + 40))
        ends.append(descend(objective, start))
    assert min(ends) == within(1e-10, minimum.value)
    assert min(ends) > minimum.value - 1e-13


def test_zero_is_a_spurious_local_minimum_of_the_extended_model_and_a_saddle_of_the_plain_one():
    y = labels(EXTENDED)
    minimum = tirer2022_extended.global_minimum(**EXTENDED)
    assert minimum.value < 0.4
    for seed in range(20):
        step = [0.05 * part for part in (normal(4, 6, seed=seed), normal(6, 6, seed=90), normal(12, 6))]
        near = tirer2022_extended.objective(*step, y, **decays(EXTENDED)).item()
        assert near > 0.5
    plain = tirer2022.global_minimum(**SMALL, bias=False)
    downhill = [0.05 * part for part in plain.construct(4)[:2]]
    assert tirer2022.objective(*downhill, None, labels(SMALL), **decays(SMALL)).item() < 0.5


def test_extended_gradient_agrees_with_autograd():
    y = labels(EXTENDED)
    point = [normal(4, 5).requires_grad_(), normal(5, 6, seed=1).requires_grad_()]
    point.append(normal(12, 6, seed=2).requires_grad_())
    tirer2022_extended.objective(*point, y, **decays(EXTENDED)).backward()
    ours = tirer2022_extended.gradient(*(part.detach() for part in point), y, **decays(EXTENDED))
    for part, leaf in zip(ours, point, strict=True):
        torch.testing.assert_close(part, leaf.grad, rtol=1e-12, atol=1e-14)


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2"),
        ({"per_class": 2.5}, "per_class must be a whole number"),
        ({"lambda_H": 0.0}, "lambda_H must be positive"),
        ({"lambda_H": math.nan}, "lambda_H must be positive"),
    ],
)
def test_bad_constants_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        tirer2022.global_minimum(**SMALL | change)
    with pytest.raises(ValueError, match=message):
        tirer2022_extended.global_minimum(**EXTENDED | change)


def test_bad_shapes_and_dimensions_are_refused():
    for d in (0, 2.5):
        with pytest.raises(ValueError, match=f"d must be a whole number of at least 1, got {d}"):
            tirer2022.global_minimum(**SMALL, d=d)
    for bias, rank in ((True, 3), (False, 4)):
        with pytest.raises(ValueError, match=f"needs d >= {rank} dimensions, got d=2"):
            tirer2022.global_minimum(**SMALL, bias=bias).construct(2)
    with pytest.raises(ValueError, match="needs d >= 4 dimensions, got d=3"):
        tirer2022_extended.global_minimum(**EXTENDED).construct(3)
    with pytest.raises(ValueError, match=r"got H \(12, 4\)"):
        tirer2022.objective(normal(4, 5), normal(12, 4), None, labels(SMALL), lambda_W=0.1, lambda_H=0.1)
    with pytest.raises(ValueError, match=r"W1 must be \(m, d\) and H \(N, d\)"):
        tirer2022_extended.objective(
            normal(4, 5), normal(5, 6), normal(12, 5), labels(EXTENDED), **decays(EXTENDED)
        )
    with pytest.raises(ValueError, match="lambda_W must be positive"):
        tirer2022.certificate(normal(4, 5), normal(12, 5), None, labels(SMALL), lambda_W=0.0, lambda_H=0.1)
