"""How long an epoch of an MNIST-1D network takes, against the obvious script; prints a table, asserts agreement.

A benchmark, not a timed test: a busy machine must not fail it. `README.md` here holds the figures.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import exp, log
from multiprocessing import get_context
from statistics import median
from time import perf_counter

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nclib.stacking import side_by_side
from nclib.studies import generator, mnist1d, pool
from nclib.studies.jobs import plan
from nclib.training import make_optimizer, train

WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
SEEDS, WORKERS = 4, 2
SECONDS = 1.0
"""Of timed epochs for each route and shape, at least; and never fewer than three epochs."""
SHAPES = [(a, w) for a in ("resnet1d", "cnn1d") for w in WIDTHS]


class Block(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(w, w, 3, padding=1, bias=False), nn.BatchNorm1d(w)
        self.conv2, self.bn2 = nn.Conv1d(w, w, 3, padding=1, bias=False), nn.BatchNorm1d(w)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


def plain_network(architecture, w):
    """The network as one would write it."""

    def convolution(i, o):
        return [nn.Conv1d(i, o, 3, padding=1, bias=False), nn.BatchNorm1d(o), nn.ReLU()]

    if architecture == "resnet1d":
        body, d = [*convolution(1, w), Block(w), Block(w)], w
    else:
        halve, d = nn.MaxPool1d(2), 2 * w
        body = [*convolution(1, w), halve, *convolution(w, w), halve, *convolution(w, d), *convolution(d, d)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(d, 10, bias=False))


def script_epochs(params):
    """Seconds of every epoch of the obvious script: one model, DataLoader, eager, both cores."""
    data, model = mnist1d.noisy_training_set(params), plain_network(params.architecture, params.width)
    loader = DataLoader(TensorDataset(data.x, data.y), batch_size=128, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    seconds = []
    while len(seconds) < 4 or sum(seconds[1:]) < SECONDS:
        begun = perf_counter()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        seconds.append(perf_counter() - begun)
    return seconds[1:]


def one_run(params, stamps):
    """What a study does between its measurements."""
    data, model = mnist1d.noisy_training_set(params), mnist1d.network(params, params.seed, params.width)
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, weight_decay=params.weight_decay, momentum=params.momentum
    )
    for _ in train(
        model, data.x, data.y, optimizer=optimizer, schedule="constant", epochs=params.epochs,
        batch_size=params.batch_size, generator=generator("order", params.seed),
        pauses=range(params.epochs + 1),
    ):  # fmt: skip
        stamps.append(perf_counter())


def worker_epochs(job, barrier_seconds):
    """In a worker: seconds of every epoch of one stack, begun at a time that all workers were told."""
    torch.set_num_threads(1)
    stamps = [[] for _ in job]
    while perf_counter() < barrier_seconds:
        pass
    for outcome in side_by_side([partial(one_run, p, s) for (_, p), s in zip(job, stamps, strict=True)]):
        if outcome.error is not None:
            raise outcome.error
    return [b - a for a, b in zip(stamps[0][1:], stamps[0][2:], strict=False)]


def warm(_):
    return perf_counter()


@pytest.fixture(scope="module")
def workers():
    """Processes as `nclib record` starts them."""
    environment = pool.ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    with pool._inheriting(environment), ProcessPoolExecutor(WORKERS, get_context("spawn")) as executor:
        list(executor.map(warm, range(WORKERS)))
        yield executor


def test_an_epoch_against_the_obvious_script(workers, capsys):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    rows = []
    for architecture, width in SHAPES:
        base = {"architecture": architecture, "width": width}
        script = median(script_epochs(mnist1d.Params(**base)))
        epochs = 2 + max(3, round(SECONDS / script))
        cells = [("mnist1d", mnist1d.Params(**base, seed=s, epochs=epochs)) for s in range(SEEDS)]
        jobs = plan(cells, workers=WORKERS, device=torch.device("cpu"))[:WORKERS]
        at = perf_counter() + 0.1
        timed = [workers.submit(worker_epochs, job, at) for job in jobs]
        ours = sum(median(t.result()) for t in timed) / WORKERS / (WORKERS * len(jobs[0]))
        rows.append((architecture, width, len(jobs[0]), script, ours, script / ours))
        agree(architecture, width)
    torch.set_num_threads(threads)
    with capsys.disabled():
        print(
            f"\nseconds per model and epoch, {SEEDS} seeds, {WORKERS} processes against one script on 2 threads"
        )
        print(f"{'network':10}{'width':>6}{'stack':>6}{'script':>9}{'ours':>9}{'ratio':>7}")
        for architecture, width, stack, script, ours, ratio in rows:
            print(f"{architecture:10}{width:6}{stack:6}{script:9.4f}{ours:9.4f}{ratio:7.2f}")
        ratios = [row[-1] for row in rows]
        mean = exp(sum(map(log, ratios)) / len(ratios))
        print(f"geometric mean {mean:.2f}, least {min(ratios):.2f}")


def agree(architecture, width):
    """Both routes train the same function of the same weights."""
    params = mnist1d.Params(architecture=architecture, width=width)
    ours, theirs = mnist1d.network(params, 0, width).eval(), plain_network(architecture, width).eval()
    values = [
        v.squeeze(2) if v.ndim == 4 else v for k, v in ours.state_dict().items() if "num_batches" not in k
    ]
    names = [k for k in theirs.state_dict() if "num_batches" not in k]
    theirs.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    x = torch.randn(16, 1, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
