"""What closed forms and objectives take: numbers of every library; labels of every width; nothing that is neither."""

import math

import numpy as np
import pytest
import torch
from samplers import labels, normal

from nclib.theory import (
    arguments,
    critical_points,
    ji2021,
    mixon2020,
    tirer2022,
    tirer2022_extended,
    unconstrained,
    zhu2021,
)
from nclib.theory.batched import Problem

TWO = {"lambda_W": 5e-3, "lambda_H": 1e-2}
THREE = {"lambda_W2": 0.1, "lambda_W1": 0.2, "lambda_H": 0.3}
CLOSED_FORMS = {
    # a function of the sizes and decays, and the decays it takes
    "zhu2021.global_minimum": (zhu2021.global_minimum, TWO),
    "zhu2021.non_negative_minimum": (zhu2021.non_negative_minimum, TWO),
    "zhu2021.collapse_threshold": (zhu2021.collapse_threshold, {}),
    "zhu2021.lower_bound": (lambda **c: zhu2021.lower_bound(2.0, **c).item(), TWO),
    "tirer2022.global_minimum": (tirer2022.global_minimum, TWO),
    "tirer2022_extended.global_minimum": (tirer2022_extended.global_minimum, THREE),
    "ji2021.margin_bound": (ji2021.margin_bound, {}),
    "ji2021.collapsed_direction": (lambda **c: ji2021.collapsed_direction(d=6, **c)[0].norm().item(), {}),
    "mixon2020.strong_collapse": (lambda **c: mixon2020.strong_collapse(d=6, **c)[1].norm().item(), {}),
    "critical_points.grouped": (
        lambda **c: critical_points.grouped(groups=2, d=6, **c)[0].norm().item(),
        TWO,
    ),
}
each_closed_form = pytest.mark.parametrize("name", CLOSED_FORMS)


@each_closed_form
@pytest.mark.parametrize("whole", [np.int64, np.uint8, torch.tensor])
@pytest.mark.parametrize("real", [np.float64, np.array, lambda x: torch.tensor(x, dtype=torch.float64)])
def test_scalars_of_numpy_and_torch_give_what_numbers_give(name, whole, real):
    form, decays = CLOSED_FORMS[name]
    expected = form(num_classes=4, per_class=3, **decays)
    cast = {key: real(value) for key, value in decays.items()}
    assert form(num_classes=whole(4), per_class=whole(3), **cast) == expected
    assert form(num_classes=whole(4), per_class=whole(2), **cast) != expected  # the control: they are read


@each_closed_form
@pytest.mark.parametrize(
    "wrong", [True, np.True_, torch.tensor(True), 2.0, "3", None, torch.tensor([2, 3]), 0]
)
def test_what_is_no_size_is_refused_by_name_and_value(name, wrong):
    form, decays = CLOSED_FORMS[name]
    with pytest.raises(
        ValueError, match=r"num_classes must be a whole number of at least 2, got .*"
    ) as error:
        form(num_classes=wrong, per_class=3, **decays)
    assert repr(wrong) in str(error.value)


@pytest.mark.parametrize("wrong", ["1e-3", b"1", None, torch.ones(2), math.nan, math.inf, -1.0, 0, 10**400])
def test_what_is_no_decay_is_refused_by_name_and_value(wrong):
    with pytest.raises(ValueError) as error:
        zhu2021.global_minimum(num_classes=4, per_class=3, lambda_W=wrong, lambda_H=1e-2)
    assert str(error.value) == f"lambda_W must be positive, got {wrong!r}"


def test_a_problem_for_many_starts_takes_the_same_sizes():
    problem = Problem(num_classes=np.int64(4), per_class=torch.tensor(3), feature_dim=np.int32(5), **TWO)
    assert problem == Problem(num_classes=4, per_class=3, feature_dim=5, **TWO)
    with pytest.raises(ValueError, match=r"feature_dim must be a whole number of at least 1, got 5.0"):
        Problem(num_classes=4, per_class=3, feature_dim=5.0, **TWO)


Y = labels([3] * 4)
OF_A_POINT = {
    "objective": lambda W, H, b, y, **c: unconstrained.objective(W, H, b, y, **c),
    "gradient": lambda W, H, b, y, **c: unconstrained.gradient(W, H, b, y, **c)[1].norm(),
    "hessian": lambda W, H, b, y, **c: unconstrained.hessian_vector_product(W, H, b, y, W, H, **c)[1].norm(),
    "certificate": lambda W, H, b, y, **c: torch.tensor(zhu2021.certificate(W, H, b, y, **c).spectral_norm),
}
each_function = pytest.mark.parametrize("name", OF_A_POINT)


def point():
    return {"W": normal(4, 5), "H": normal(12, 5, seed=1), "b": normal(4, seed=2)}


@each_function
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_width_are_the_same_labels(name, dtype):
    value = OF_A_POINT[name](**point(), y=Y, **TWO)
    assert OF_A_POINT[name](**point(), y=Y.to(dtype), **TWO) == value
    assert OF_A_POINT[name](**point(), y=Y.flip(0).to(dtype), **TWO) != value  # the control: they are read


@each_function
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.where(Y == 1, -100, Y), "labels must be from 0 to 3, got -100"),
        (Y + 1, "labels must be from 0 to 3, got 4"),
        (Y.double(), "y must hold integers, got torch.float64"),
        (Y > 0, "y must hold integers, got torch.bool"),
    ],
)
def test_what_is_no_label_is_refused(name, y, message):
    with pytest.raises(ValueError) as error:
        OF_A_POINT[name](**point(), y=y, **TWO)
    assert str(error.value) == message


@each_function
@pytest.mark.parametrize("which", "WHb")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_entries_that_are_not_finite_are_refused(name, which, value):
    spoilt = point()
    spoilt[which].view(-1)[3] = value
    with pytest.raises(ValueError, match=f"^{which} has entries that are not finite$"):
        OF_A_POINT[name](**spoilt, y=Y, **TWO)


@each_function
def test_a_decay_of_the_bias_below_zero_is_refused(name):
    with pytest.raises(ValueError, match=r"lambda_b must be at least 0, got -0.1"):
        OF_A_POINT[name](**point(), y=Y, lambda_b=-0.1, **TWO)
    OF_A_POINT[name](**point(), y=Y, lambda_b=0.0, **TWO)  # the control: zero leaves the bias free


def test_a_point_without_samples_is_refused():
    with pytest.raises(ValueError, match=r"y must be \(N,\) with N >= 1, got \(0,\)"):
        arguments.point(normal(4, 5), normal(0, 5), None, Y[:0])
