"""Stacked layers, networks and optimisers compute what those of torch do."""

import copy
from functools import partial

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal
from stacked_networks import LENGTH, NETWORKS, furthest, largest, network, perturbed, samples, states
from torch import nn

from nclib.models.mnist1d import ResidualBlock1D
from nclib.models.network import SpatialMean
from nclib.stacking.assembly import stacked
from nclib.stacking.batch_norm import RunningStatistics
from nclib.stacking.flat import Flat
from nclib.stacking.network import StackedNetwork, StackedOptimizer
from nclib.training import make_optimizer

# One layer after the other, against autograd of the module it stands for


def convolution(i=2, o=3):
    return nn.Conv2d(i, o, (1, 3), padding=(0, 1), bias=False)


LAYERS = {
    "convolution": convolution,
    "first": partial(convolution, 1),
    "normalisation": lambda: nn.BatchNorm2d(2),
    "relu": nn.ReLU,
    "pool": lambda: nn.MaxPool2d((1, 2)),
    "mean": SpatialMean,
    "linear": lambda: nn.Linear(2, 3, bias=False),
    "pointwise": lambda: nn.Conv2d(2, 3, (1, 1), bias=False),
    "block": lambda: ResidualBlock1D(2),
    "block of other channels": lambda: ResidualBlock1D(2, 3),
    "chain": lambda: nn.Sequential(ResidualBlock1D(2), convolution(), nn.BatchNorm2d(3), nn.ReLU()),
}
PLANTED = {
    "convolution": lambda m: m.weight.copy_(m.weight.flip(3)),
    "first": lambda m: m.weight.copy_(m.weight.flip(3)),
    "normalisation": lambda m: setattr(m, "eps", 1.1e-5),
    "relu": lambda m: m.register_forward_hook(lambda m, x, y: y + 1e-6 * x[0]),
    "pool": lambda m: m.register_forward_hook(lambda m, x, y: nn.functional.avg_pool2d(x[0], (1, 2))),
    "mean": lambda m: m.register_forward_hook(lambda m, x, y: y * (1 + 1e-6)),
    "linear": lambda m: m.weight.mul_(1 + 1e-6),
    "pointwise": lambda m: m.weight.mul_(1 + 1e-6),
    "block": lambda m: setattr(m.bn2, "momentum", 0.11),
    "block of other channels": lambda m: m.shortcut[0].weight.mul_(1 + 1e-6),
    "chain": lambda m: setattr(m[0].bn1, "eps", 1.1e-5),
}


def to_torch(a):
    """(C, L, B) -> (B, C, 1, L); (d, B) -> (B, d)."""
    return a.permute(2, 0, 1).unsqueeze(2) if a.ndim == 3 else a.mT


def to_stack(a):
    return a.squeeze(2).permute(1, 2, 0) if a.ndim == 4 else a.mT


def inputs(kind, E, B, length, seed):
    """For the pool as behind a ReLU and rounded: many of its pairs are tied, at zero and elsewhere."""
    x = normal(E, 1 + (kind != "first"), *(() if kind == "linear" else (length,)), B, seed=seed) + 0.3
    return x.round().relu() if kind == "pool" else x


def by_autograd(module, x, g):
    """The output, the gradients at the input and of the parameters, and the buffers afterwards."""
    x = to_torch(x).clone().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.backward(to_torch(g))
    results = {"y": to_stack(y.detach()), "x": to_stack(x.grad)}
    results |= {f"d {name}": p.grad for name, p in module.named_parameters()}
    return results | dict(module.named_buffers())


def disagreement(kind, E, plant=None, length=LENGTH):
    """Over three batches of two sizes; each network has weights and inputs of its own."""
    each = [perturbed(LAYERS[kind]().double(), seed) for seed in range(E)]
    reference = copy.deepcopy(each)
    if plant is not None:
        with torch.no_grad():
            plant(reference[-1])
    flat = None
    if next(each[0].parameters(), None) is not None:
        flat = Flat([nn.ModuleDict({"m": m}) for m in each])
    layer = stacked(each, "m", flat)
    running = RunningStatistics(layer.norms) if layer.norms else None
    worst = 0.0
    for step, B in enumerate((7, 4, 7)):
        x = inputs(kind, E, B, length, seed=step)
        y = layer.forward(x.clone()).clone()
        g = normal(*y.shape, seed=10 + step)
        h = layer.backward(g.clone())
        if running is not None:
            running.update()
        for e, module in enumerate(each):
            expected = by_autograd(reference[e], x[e], g[e])
            ours = {"y": y[e], "x": h[e]}
            if flat is not None:
                ours |= {f"d {n.removeprefix('m.')}": p for n, p in flat.of(flat.gradients, e).items()}
            if running is not None:
                running.store(e)
            worst = max(worst, largest(ours | dict(module.named_buffers()), expected))
    return worst


@pytest.mark.parametrize("E", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_the_module_it_stands_for_forwards_backwards_and_in_its_statistics(kind, E):
    assert_vanishes(disagreement(kind, E))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_control_another_module_is_told_from_it(kind):
    assert_far_from_zero(disagreement(kind, 3, plant=PLANTED[kind]), 1e-9)


def test_an_odd_position_at_the_end_is_not_pooled():
    assert_vanishes(disagreement("pool", 3, length=9))


@pytest.mark.parametrize("kind", ["convolution", "first"])
def test_a_gradient_that_nobody_wants_is_not_computed_and_those_of_the_weights_are_the_same(kind):
    each = [perturbed(LAYERS[kind]().double(), seed) for seed in range(3)]
    flat = Flat([nn.ModuleDict({"m": m}) for m in each])
    layer = stacked(each, "m", flat)
    gradients = []
    for wanted in (True, False):
        y = layer.forward(inputs(kind, 3, 5, LENGTH, seed=1))
        assert (layer.backward(normal(*y.shape, seed=2), wanted=wanted) is None) == (not wanted)
        gradients.append(flat.view(flat.gradients, "m.weight").clone())
        flat.gradients.fill_(99.0)
    assert torch.equal(*gradients)
    assert_far_from_zero(gradients[0].abs().min(), 1e-6)


def test_batch_normalisation_of_a_batch_without_variance_is_torchs():
    each = [perturbed(nn.BatchNorm2d(2).double(), seed) for seed in range(2)]
    reference = copy.deepcopy(each)
    layer = stacked(each, "m", Flat([nn.ModuleDict({"m": m}) for m in each]))
    running = RunningStatistics(layer.norms)
    x, g = torch.full((2, 2, LENGTH, 3), 5.0).double(), normal(2, 2, LENGTH, 3)
    y, h = layer.forward(x).clone(), layer.backward(g)
    running.update()
    for e, module in enumerate(reference):
        running.store(e)
        expected = by_autograd(module, x[e], g[e])
        assert_vanishes(largest({"y": y[e]}, {"y": expected["y"]}))
        assert_vanishes(largest({"x": h[e]}, {"x": expected["x"]}), 1e-9)  # of numbers as large as 300
        assert_vanishes(largest(dict(each[e].named_buffers()), dict(module.named_buffers())))


# A whole network


@pytest.mark.parametrize("kind", NETWORKS)
def test_loss_and_gradients_of_networks_are_those_of_autograd(kind):
    models = [network(kind, seed) for seed in range(3)]
    stack = StackedNetwork(models)
    x, y = (torch.stack(each) for each in zip(*map(samples, range(3)), strict=True))
    with torch.no_grad():
        losses = stack.losses_and_gradients(x.permute(0, 2, 3, 1), y)
    for e, model in enumerate(models):
        before = copy.deepcopy(model)
        loss = nn.functional.cross_entropy(model(x[e]), y[e])
        loss.backward()
        expected = {name: p.grad for name, p in model.named_parameters()}
        gradients = stack.flat.of(stack.flat.gradients, e)
        assert_vanishes(losses[e] - loss.detach())
        assert_vanishes(largest(gradients, expected))
        assert all(g.abs().max() > 1e-6 for g in gradients.values())
        # and the statistics
        reference = {name: b.clone() for name, b in model.named_buffers()}
        model.load_state_dict(before.state_dict())
        stack.store(e)
        assert_vanishes(largest(dict(model.named_buffers()), reference))
        assert_far_from_zero(largest(dict(before.named_buffers()), reference))


# Optimisers


SETTINGS = [
    ("sgd", 0.1, 0.0),
    ("adam", 0.02, 0.3),
    ("sgd", 0.03, 0.5),
    ("adamw", 0.05, 0.2),
    ("adam", 0.01, 0),
]
"""Kind, learning rate and weight decay of each network."""


def optimised(settings, momentum=0.9):
    models = [network("projector", seed) for seed in range(len(settings))]
    optimizers = [
        make_optimizer(model, kind, lr=lr, weight_decay=decay, momentum=momentum)
        for model, (kind, lr, decay) in zip(models, settings, strict=True)
    ]
    return models, optimizers


def gradients_of(model, step, e):
    g = generator(10_000 + 100 * step + e)
    return {
        n: torch.randn(p.shape, generator=g, dtype=p.dtype) * (0.1 + e) for n, p in model.named_parameters()
    }


def by_torch(models, optimizers, steps):
    for step in steps:
        for e, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            group = optimizer.param_groups[0]
            group["lr"] = group.setdefault("initial", group["lr"]) * (1 + step // 2)
            for name, g in gradients_of(model, step, e).items():
                model.get_parameter(name).grad = g
            optimizer.step()


def by_stack(models, optimizers, steps):
    """Load, update, and store."""
    flat = Flat(models)
    stack = StackedOptimizer(flat, models, optimizers)
    for optimizer in optimizers:
        optimizer.param_groups[0].setdefault("initial", optimizer.param_groups[0]["lr"])
    with torch.no_grad():
        for step in steps:
            stack.set_rates([o.param_groups[0]["initial"] * (1 + step // 2) for o in optimizers])
            flat.pack(flat.gradients, [gradients_of(model, step, e) for e, model in enumerate(models)])
            stack.step()
        for e in range(len(models)):
            flat.store(e)
            stack.store(e)


ALONE = [[("sgd", 0.1, 0.2)], [("adam", 0.1, 0.2)], [("adamw", 0.1, 0.2)]]


@pytest.mark.parametrize("settings", [*ALONE, SETTINGS[1::2], SETTINGS[:3:2], SETTINGS])
def test_updates_and_state_are_torchs_each_with_its_own_kind_rate_and_decay(settings):
    ours, theirs = optimised(settings), optimised(settings)
    by_stack(*ours, range(5))
    by_torch(*theirs, range(5))
    assert_vanishes(furthest(states(*ours), states(*theirs)))


@pytest.mark.parametrize("e", range(len(SETTINGS)))
@pytest.mark.parametrize(("what", "factor"), [(1, 1 + 1e-6), (2, 1.001)])
def test_the_control_another_rate_or_decay_is_another_update(e, what, factor):
    changed = [list(each) for each in SETTINGS]
    changed[e][what] = changed[e][what] * factor + (what == 2) * 1e-3
    ours, theirs = optimised(changed), optimised(SETTINGS)
    by_stack(*ours, range(5))
    by_torch(*theirs, range(5))
    for i, (a, b) in enumerate(zip(states(*ours), states(*theirs), strict=True)):
        assert (largest(a, b) < 1e-12) == (i != e)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_momentum_is_the_optimisers_own(momentum):
    settings = SETTINGS[:3:2]
    ours, theirs, others = (optimised(settings, m) for m in (momentum, momentum, 0.9))
    by_stack(*ours, range(4))
    by_torch(*theirs, range(4))
    by_torch(*others, range(4))
    ours, theirs, others = ([m.state_dict() for m in models] for models, _ in (ours, theirs, others))
    assert_vanishes(furthest(ours, theirs))
    assert_far_from_zero(furthest(ours, others))


def test_state_goes_into_torchs_optimisers_and_from_there_into_another_stack():
    through, broken, alone, torchs = (optimised(SETTINGS) for _ in range(4))
    by_stack(*through, range(6))
    by_stack(*broken, range(3))
    by_stack(*broken, range(3, 6))
    assert furthest(states(*broken), states(*through)) == 0

    by_stack(*alone, range(3))
    by_torch(*alone, range(3, 6))
    assert_vanishes(furthest(states(*alone), states(*through)))

    by_torch(*torchs, range(3))
    forgetful = copy.deepcopy(torchs)
    by_stack(*torchs, range(3, 6))
    assert_vanishes(furthest(states(*torchs), states(*through)))
    for optimizer in forgetful[1]:
        optimizer.state.clear()
    by_stack(*forgetful, range(3, 6))
    assert_far_from_zero(furthest(states(*forgetful), states(*through)))


def test_one_stack_has_one_set_of_adams_own_constants():
    models, optimizers = optimised(SETTINGS)
    optimizers[1].param_groups[0]["eps"] = 1e-7
    with pytest.raises(TypeError, match="share Adam's betas and epsilon"):
        StackedOptimizer(Flat(models), models, optimizers)


@pytest.mark.parametrize(
    "settings",
    [
        {"nesterov": True},
        {"dampening": 0.5},
        {"maximize": True},
        {"amsgrad": True},
    ],
)
def test_other_updates_than_those_written_here_are_declined(settings):
    p = [nn.Parameter(torch.zeros(2))]
    kind = torch.optim.Adam if "amsgrad" in settings else partial(torch.optim.SGD, momentum=0.9)
    assert StackedOptimizer.takes(kind(p, lr=0.1))
    assert not StackedOptimizer.takes(kind(p, lr=0.1, **settings))
    assert not StackedOptimizer.takes(torch.optim.RMSprop(p))


def test_adam_with_decoupled_decay_is_adamw():
    models, optimizers = optimised(ALONE[1])
    theirs, coupled = optimised(ALONE[2]), optimised(ALONE[1])
    optimizers[0].param_groups[0]["decoupled_weight_decay"] = True
    for stack in ((models, optimizers), coupled):
        by_stack(*stack, range(3))
    by_torch(*theirs, range(3))
    assert_vanishes(furthest(states(models, optimizers), states(*theirs)))
    assert_far_from_zero(furthest(states(*coupled), states(*theirs)))
