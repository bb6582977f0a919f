"""How much memory `nclib.measure_model` takes on data that does not fit in it; prints a table, asserts the bound.

Each case is a process of its own: its peak of resident memory, less the peak after torch and nclib were loaded
and the model was built. How long small batches of many classes take, gathered and as they come, stands beside it.
`README.md` here holds the figures.
"""

import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest
import torch

from nclib.stats import ClassStats
from nclib.streams import FEWEST_ROWS, gathered, sums

BOUND = 1000
"""MB: what a laptop has to spare."""

MEASURE = """
import sys, time
from pathlib import Path
import torch
import nclib
from nclib.own.measuring import reading

torch.set_num_threads(1)
N, d, K = map(int, sys.argv[1:])

class Generated:  # class means and scatter, drawn anew in every pass
    def __iter__(self):
        g = torch.Generator().manual_seed(0)
        means = torch.randn(K, d, generator=g)
        for _ in range(N // 1000):
            y = torch.randint(K, (1000,), generator=g)
            yield means[y] + torch.randn(1000, d, generator=g), y

def peak():  # a child's ru_maxrss begins with its parent's: this one is its own
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(d, K))
before, begun = peak(), time.process_time()
with reading(model, Generated()) as data:
    values, stats, _ = data.measure()
print(int(stats.N), values["nc1_trace_ratio"], peak() - before, time.process_time() - begun)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize(("N", "d", "K"), [(1_000_000, 512, 10), (10_000, 2048, 1000)])
def test_the_peak_of_memory_stays_below_the_bound(N, d, K, capsys):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(N), str(d), str(K)], capture_output=True, text=True, check=True
    )
    measured, ratio, megabytes, seconds = map(float, done.stdout.split())
    with capsys.disabled():
        print(f"\nN = {N}, d = {d}, K = {K}, features of {N * d * 4 / 1e6:.0f} MB: ", end="")
        print(f"{megabytes:.0f} MB, {seconds:.0f} CPU seconds")
    assert measured == N
    # Means and scatter are drawn with the same variance, of which n samples a class leave (n - 1)/n about their own
    # mean and add 1/n to the variance between the means, whose own mean takes one of K degrees of freedom.
    n = N / K
    assert ratio == pytest.approx((n - 1) / (n + 1) * K / (K - 1), rel=0.05)
    assert megabytes < BOUND


def test_small_batches_of_many_classes_are_gathered(capsys):
    N, d, K, batch = 2000, 2048, 1000, 64
    g = torch.Generator().manual_seed(0)
    y = torch.randint(K, (N,), generator=g)
    H = torch.randn(K, d, generator=g)[y] + torch.randn(N, d, generator=g)
    routes = {
        f"gathered to {FEWEST_ROWS}": lambda cut: gathered(cut, FEWEST_ROWS),
        "as they come": lambda cut: cut,
    }
    found, seconds = [], []
    for name, route in routes.items():
        begun = process_time()
        cut = zip(H.split(batch), y.split(batch), strict=True)
        found += sums((ClassStats.of(h, labels, K),) for h, labels in route(cut))
        seconds.append(process_time() - begun)
        with capsys.disabled():
            print(
                f"\nN = {N}, d = {d}, K = {K}, batches of {batch} {name}: {seconds[-1]:.2f} CPU seconds",
                end="",
            )
    with capsys.disabled():
        print(f", {seconds[1] / seconds[0]:.1f} times as many")
    torch.testing.assert_close(found[0].mu, found[1].mu, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[0].S_W, found[1].S_W, rtol=1e-10, atol=1e-10)
