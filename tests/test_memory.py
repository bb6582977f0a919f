"""Peak memory of a training step: closed forms of one linear layer, and what the batch and frozen weights change."""

import os

import pytest
import torch
from samplers import generator
from torch import nn

from nclib import models
from nclib.memory import peak_memory
from nclib.models import initialise
from nclib.training import make_optimizer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SCALARS = 32
"""Bytes of a loss, of its gradient and the like."""


def linear(d, K):
    layer = initialise.blank(nn.Linear, d, K, bias=False)
    initialise.torch_default(layer, generator())
    return layer


def measured(model, n, *, optimizer="sgd", device="cpu", **options):
    """Of the loss sum(z * y), whose one saved tensor is the batch's own y; everything float32."""
    d, K = model.in_features, model.out_features
    x, y = (torch.randn(n, width, generator=generator(width)).to(device) for width in (d, K))
    optimizer = make_optimizer(model.to(device), optimizer, lr=1e-3, weight_decay=0.0, **options)
    return peak_memory(model, x, y, optimizer, loss=lambda z, y: (z * y).sum())


def assert_bytes(measured, expected):
    assert expected <= measured <= expected + SCALARS


def least(n, d, K):
    """The batch, and the most of: output and product; output's gradient and the weight's."""
    return 4 * n * (d + K) + 4 * max(2 * n * K, n * K + d * K)


@pytest.mark.parametrize(("n", "d", "K"), [(400, 30, 20), (3, 300, 200), (50, 50, 50)])
@pytest.mark.parametrize(
    ("optimizer", "options", "copies"), [("sgd", {"momentum": 0.0}, 1), ("sgd", {}, 2), ("adam", {}, 3)]
)
def test_one_linear_layer_needs_what_can_be_worked_out_by_hand(n, d, K, optimizer, options, copies):
    peak = measured(linear(d, K), n, optimizer=optimizer, **options)
    assert_bytes(peak.held, copies * 4 * d * K)
    assert_bytes(peak.passing, least(n, d, K))
    assert peak.total == peak.held + peak.passing


def test_twice_the_batch_is_twice_the_activations_and_not_twice_the_gradients():
    many, more = (measured(linear(30, 20), n) for n in (400, 800))
    assert many.held == more.held
    assert more.passing == pytest.approx(2 * many.passing, abs=SCALARS)
    few, some = (measured(linear(300, 200), n) for n in (3, 6))
    assert some.passing < 1.1 * few.passing, "the gradient of the weights does not grow"


def test_every_layer_keeps_one_activation_for_the_way_back_unless_nothing_before_it_is_trained():
    n, width = 500, 10

    def passing(depth, frozen=False):
        model = nn.Sequential(*[nn.Sequential(linear(width, width), nn.ReLU()) for _ in range(depth)])
        model[:-1].requires_grad_(not frozen)
        optimizer = make_optimizer(model, "sgd", lr=1e-3, weight_decay=0.0)
        x, y = torch.ones(n, width), torch.ones(n, width)
        return peak_memory(model, x, y, optimizer, loss=nn.functional.mse_loss).passing

    assert passing(6) - passing(5) == pytest.approx(4 * n * width, abs=SCALARS)
    assert passing(6, frozen=True) == passing(5, frozen=True)


def test_a_frozen_classifier_is_held_without_momentum_and_a_narrow_one_is_hardly_held():
    x, y = torch.randn(4, 1, 12, 12, generator=generator(1)), torch.arange(4)
    held = {}
    for name, d, frozen in (("learned", None, False), ("fixed", None, True), ("d = K", 10, True)):
        model = models.build("resnet18", num_classes=10, width=4, feature_dim=d, generator=generator())
        model.head.weight.requires_grad_(not frozen)
        optimizer = make_optimizer(model, "sgd", lr=1e-3, weight_decay=0.0)
        held[name] = peak_memory(model, x, y, optimizer).held
        trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        rest = sum(t.nbytes for t in model.state_dict().values()) - trained
        assert held[name] == 2 * trained + rest
    assert held["learned"] - held["fixed"] == 4 * 10 * 32
    assert held["fixed"] - held["d = K"] > 4 * 10 * 32


def test_what_was_there_before_changes_nothing():
    model = nn.Sequential(linear(30, 20), nn.Dropout(0.5))
    x, y = torch.ones(100, 30), torch.arange(100) % 20
    optimizer = make_optimizer(model, "adam", lr=1e-3, weight_decay=0.0)
    before, weights = torch.get_rng_state(), model[0].weight.clone()
    first = peak_memory(model, x, y, optimizer)
    assert model[0].weight.grad is not None and not torch.equal(weights, model[0].weight)
    assert peak_memory(model, x, y, optimizer) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_measured_is_refused_before_any_step():
    model, x, y = linear(3, 2), torch.ones(5, 3), torch.arange(5) % 2
    weights = model.weight.clone()
    sgd, lbfgs = (make_optimizer(model, name, lr=0.1, weight_decay=0.0) for name in ("sgd", "lbfgs"))
    for batch, optimizer, message in (
        ((x, y), lbfgs, "a step of L-BFGS is many forward and backward passes: measure another optimizer"),
        ((x, y[:4]), sgd, "x and y must have one row a sample, got 5 and 4"),
        ((x, y.to("meta")), sgd, "model and batch must be on one device, got cpu, meta"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            peak_memory(model, *batch, optimizer)
    assert torch.equal(model.weight, weights)


@needs_gpu
def test_on_a_gpu_the_same_is_measured_up_to_blocks_and_workspaces():
    n, d, K = 4000, 300, 200
    peak = measured(linear(d, K), n, device="cuda")
    assert peak.held == 2 * 4 * d * K
    workspaces = 64 * 2**20
    assert least(n, d, K) <= peak.passing <= least(n, d, K) + workspaces


def test_nothing_is_said_on_stderr_and_it_works_afterwards(capfd):
    model = torch.nn.Linear(3, 2)
    peak_memory(model, torch.zeros(4, 3), torch.zeros(4).long(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert capfd.readouterr().err == ""
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
