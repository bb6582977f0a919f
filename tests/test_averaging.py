"""Averaged weights: a weighted mean of all epochs, mostly of the last, and normalisation that fits it."""

import math
from itertools import pairwise

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal
from torch import nn

from nclib.averaging import ETA, WeightAverage, calibrated
from nclib.models import build


def network(seed=0):
    return build("cnn1d", num_classes=3, width=2, generator=generator(seed)).double()


def with_weight(model, value):
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    return model


def averaged(values, state=None):
    """The weight that stands in the average of networks with these weights, one an epoch."""
    state = {} if state is None else state
    average, model = WeightAverage(state), network()
    for t, value in enumerate(values, state["average"].get("epoch", 0) + 1):
        average.update(with_weight(model, value), t)
    other = average.network(model, normal(40, 1, 40))
    return next(iter(other.parameters())).flatten()[0].item()


def weights(n):
    """What each of n epochs counts: the average of unit impulses."""
    return [averaged([float(s == t) for t in range(n)]) for s in range(n)]


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_epochs_count_with_weights_that_sum_to_one_and_grow(n):
    w = weights(n)
    assert_vanishes(sum(w) - 1)
    assert all(a < b for a, b in pairwise(w[1:])), "later epochs count for more"


def test_an_epoch_counts_as_the_papers_polynomial_and_its_mean_age_is_a_tenth():
    n, w = 60, weights(60)
    # unrolled: (eta + 1)/(s + eta) times the product of (t - 1)/(t + eta) over the epochs after s
    expected = [
        (ETA + 1) / (s + ETA) * math.prod((t - 1) / (t + ETA) for t in range(s + 1, n + 1))
        for s in range(1, n + 1)
    ]
    assert w == pytest.approx(expected, rel=1e-12)
    age = sum(weight * (n - 1 - s) for s, weight in enumerate(w)) / n
    assert age == pytest.approx(1 / (ETA + 2), rel=0.1)


def test_weights_that_stand_still_are_their_average_and_an_oscillation_is_smoothed():
    assert_vanishes(averaged([0.7] * 20) - 0.7)
    swinging = averaged([(-1.0) ** t for t in range(200)])
    assert abs(swinging) < 0.1


def test_it_goes_on_from_its_state_bit_for_bit_and_refuses_an_epoch_out_of_turn():
    values = [math.sin(t) for t in range(12)]
    state = {}
    averaged(values[:5], state)
    assert averaged(values[5:], state) == averaged(values)
    average = WeightAverage(state)
    with pytest.raises(ValueError, match="epoch 13 is next, got 15"):
        average.update(network(), 15)


def test_the_network_itself_is_left_alone_and_may_be_float32():
    state, model = {}, network().float()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    average = WeightAverage(state)
    average.update(model, 1)
    other = average.network(model, torch.randn(40, 1, 40, generator=generator(1)))
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert state["average"]["head.weight"].dtype == torch.float64


def test_calibrated_normalisation_has_the_datas_statistics_and_the_initial_one_has_not():
    model, x = network(), 3 + 2 * normal(400, 1, 40)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    conv = next(m for m in calibrated(model, x).modules() if isinstance(m, nn.Conv2d))
    seen = conv(x.unsqueeze(2)).detach().transpose(0, 1).flatten(1)
    there = next(m for m in calibrated(model, x).modules() if isinstance(m, nn.BatchNorm2d))
    assert_vanishes((there.running_mean - seen.mean(1)).abs().max(), 1e-9)
    assert_far_from_zero((first.running_mean - seen.mean(1)).abs().max())
    assert not calibrated(model, x).training
    assert model.training, "the network given is left in its mode"
