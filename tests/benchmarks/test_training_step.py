"""How long a step of terminal-phase training takes, against a plain eager loop; prints a table, asserts agreement.

A benchmark, not a timed test: a busy machine must not fail it. `README.md` here holds the figures.
"""

from importlib.util import find_spec
from statistics import median
from time import perf_counter

import pytest
import torch
from torch import nn

from nclib import models
from nclib.studies import generator
from nclib.training import make_optimizer, train

BATCH, ROUNDS = 128, 9
"""The first two rounds are not counted: they warm up, and on a GPU capture the graph."""


def network(width):
    return models.build("resnet18", num_classes=10, width=width, generator=generator("init", 0))


def plain_network(width):
    """The same network as one would write it: in torch's own memory order, with torch's own pooling."""
    model = network(width)
    model.trunk.stem[0] = nn.Identity()
    model.trunk.features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return model


def plain_epochs(width, x, y):
    """The obvious loop, epoch by epoch: eager, float32, torch's defaults; the loss is read once an epoch."""
    model = plain_network(width).to(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    order = generator("order", 0)
    while True:
        total = torch.zeros((), device=x.device)
        for batch in torch.randperm(len(x), generator=order).to(x.device).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        yield total.item()


def our_epochs(width, x, y, autocast):
    """What the study does between its measurements."""
    model = network(width).to(x.device)
    optimizer = make_optimizer(model, "sgd", lr=0.01, weight_decay=5e-4)
    yield from train(
        model, x, y, optimizer=optimizer, schedule="constant", epochs=ROUNDS, batch_size=BATCH,
        generator=generator("order", 0), pauses=range(1, ROUNDS + 1), drop_last=True, autocast=autocast,
    )  # fmt: skip


def compiled_epochs(*arguments):
    epochs = our_epochs(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLIB_COMPILE", "1")
        first = next(epochs)
    yield first
    yield from epochs


def compare(capsys, device, width, batches):
    x = torch.randn(batches * BATCH, 1, 28, 28, generator=generator("images", 0)).to(device)
    y = (torch.arange(len(x)) % 10).to(device)
    routes = {
        "plain eager loop, float32": plain_epochs(width, x, y),
        "ours, float32": our_epochs(width, x, y, None),
        "ours, bfloat16": our_epochs(width, x, y, torch.bfloat16),
    }
    if device == "cuda" and find_spec("triton"):
        routes["ours, bfloat16, compiled"] = compiled_epochs(width, x, y, torch.bfloat16)
    seconds = {name: [] for name in routes}
    for _ in range(ROUNDS):  # in turn, so that a busy machine is busy for all
        for name, route in routes.items():
            begun = perf_counter()
            next(route)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((perf_counter() - begun) / batches)
    for route in routes.values():
        route.close()
    steps = {name: median(times[2:]) for name, times in seconds.items()}
    plain = next(iter(steps.values()))
    with capsys.disabled():
        where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        print(f"\nResNet-18, width {width}, batch {BATCH}, 28 x 28, {where}, torch {torch.__version__}")
        print(f"{'':28}{'ms a step':>10}{'images/s':>10}{'ratio':>7}")
        for name, step in steps.items():
            print(f"{name:28}{1e3 * step:10.2f}{BATCH / step:10.0f}{plain / step:7.2f}")


def test_a_step_on_a_cpu(capsys):
    compare(capsys, "cpu", width=16, batches=2)


# The compiler imports modules that warn of their own age.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_step_on_a_gpu(capsys):
    compare(capsys, "cuda", width=64, batches=60)


def test_both_routes_train_the_same_function():
    ours, theirs = network(16), plain_network(16)
    x = torch.randn(16, 1, 28, 28, generator=generator("images", 0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert ours.trunk.stem(x).is_contiguous(memory_format=torch.channels_last)
    assert not theirs.trunk.stem(x).is_contiguous(memory_format=torch.channels_last)
