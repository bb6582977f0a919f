"""The sum of a classifier's rows: SGD shrinks it as the recurrence says, whatever the data; other losses do not."""

import math

import pytest
import torch
from torch.nn import functional

from nclib.theory.zhao2026 import row_sum_factors

RATES = [0.1] * 20 + [0.01] * 20
DECAY = 0.05


def row_sums(optimizer, loss=functional.cross_entropy, rates=RATES, **options):
    """W^T 1 before training and after each step on a small problem, in float64."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 6, generator=draw, dtype=torch.float64), torch.arange(30) % 4
    W = torch.randn(4, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    stepper, sums = optimizer([W], lr=1.0, weight_decay=DECAY, **options), [W.detach().sum(0)]
    for rate in rates:
        stepper.param_groups[0]["lr"] = rate
        stepper.zero_grad()
        loss(x @ W.T, y).backward()
        stepper.step()
        sums.append(W.detach().sum(0))
    return sums[0], torch.stack(sums[1:])


def squared_error(logits, y):
    return functional.mse_loss(logits, functional.one_hot(y, 4).double())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_on_cross_entropy_shrinks_the_sum_of_rows_by_the_recurrence(momentum):
    start, sums = row_sums(torch.optim.SGD, momentum=momentum)
    factors = row_sum_factors(RATES, DECAY, momentum)
    torch.testing.assert_close(sums, factors[:, None] * start, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("optimizer", "loss"),
    [
        (torch.optim.Adam, functional.cross_entropy),
        (torch.optim.AdamW, functional.cross_entropy),
        (torch.optim.SGD, squared_error),
    ],
)
def test_another_optimiser_or_loss_does_not(optimizer, loss):
    start, sums = row_sums(optimizer, loss)
    assert (sums - row_sum_factors(RATES, DECAY)[:, None] * start).norm(dim=1).max() > 0.1 * start.norm()


def test_without_momentum_it_is_a_product():
    expected = [math.prod(1 - rate * DECAY for rate in RATES[: t + 1]) for t in range(len(RATES))]
    assert row_sum_factors(RATES, DECAY).tolist() == pytest.approx(expected, rel=1e-14)


def test_two_steps_with_momentum_by_hand():
    # v1 = 0.5, s1 = 1 - 0.05; v2 = 0.25 + 0.475, s2 = 0.95 - 0.0725
    assert row_sum_factors([0.1, 0.1], 0.5, 0.5).tolist() == pytest.approx([0.95, 0.8775])


def test_without_decay_it_stays():
    assert row_sum_factors(RATES, 0.0, 0.9).tolist() == [1.0] * len(RATES)


@pytest.mark.parametrize(
    "bad", [([-0.1], 0.1, 0.0), ([0.1], math.nan, 0.0), ([0.1], 0.1, -0.9), ([math.inf], 0.1, 0.0)]
)
def test_what_is_no_rate_decay_or_momentum_is_refused(bad):
    with pytest.raises(ValueError, match=r"at least 0"):
        row_sum_factors(*bad)
