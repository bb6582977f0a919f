"""How long `measure_features` takes, against accumulating a covariance matrix; prints a table, and asserts agreement.

A benchmark, not a timed test: a busy machine must not fail it. `README.md` here holds the figures.
"""

from statistics import median
from time import perf_counter, process_time

import pytest
import torch

from nclib import measure_features

N, d, K, BATCH, REPEATS = 60_000, 512, 10, 1000, 9
PATIENCE = 20.0  # seconds, after which three repeats are enough


def problem():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(K, (N,), generator=generator)
    H = torch.randn(N, d, generator=generator)
    for batch, labels in zip(H.split(BATCH), y.split(BATCH), strict=True):
        batch += 0.3 * torch.randn(K, d, generator=torch.Generator().manual_seed(1))[labels]
    return H, y, torch.randn(K, d, generator=generator) / d**0.5, torch.randn(K, generator=generator)


def accumulated_covariance(H, y, W, b):
    """The usual route in float32: four passes in batches of 1000, a d x d covariance, the pseudo-inverse of Sigma_B."""
    batches = list(zip(H.split(BATCH), y.split(BATCH), strict=True))
    n, mu = torch.zeros(K), torch.zeros(K, d)
    for h, labels in batches:
        n += torch.bincount(labels, minlength=K)
        mu.index_add_(0, labels, h)
    mu /= n[:, None]
    mu_G = mu.mean(0)
    Sigma_W = torch.zeros(d, d)
    for h, labels in batches:
        X = h - mu[labels]
        Sigma_W += X.T @ X
    Sigma_W /= N
    variance = torch.zeros(K)
    for h, labels in batches:
        variance.index_add_(0, labels, (h - mu[labels]).square().sum(1))
    variance /= n
    mismatches = correct = 0
    for h, labels in batches:
        nearest = torch.cdist(h, mu).argmin(1)
        mismatches += int((nearest != (h @ W.T + b).argmax(1)).sum())
        correct += int((nearest == labels).sum())
    M = mu - mu_G
    Sigma_B = M.T @ M / K
    norms, weight_norms = M.norm(dim=1), W.norm(dim=1)
    simplex = (torch.eye(K) - 1 / K) / (K - 1) ** 0.5
    off_diagonal = ~torch.eye(K, dtype=torch.bool)
    cosines = ((M @ M.T) / torch.outer(norms, norms))[off_diagonal]
    weight_cosines = ((W @ W.T) / torch.outer(weight_norms, weight_norms))[off_diagonal]

    def from_simplex(gram):
        return (gram / gram.norm() - simplex).norm()

    distances = torch.cdist(mu, mu).square()
    values = {
        "nc1_pinv": torch.trace(Sigma_W @ torch.linalg.pinv(Sigma_B, rtol=1e-5, hermitian=True)) / K,
        "nc1_trace_ratio": torch.trace(Sigma_W) / torch.trace(Sigma_B),
        "nc2_norm_cv_means": norms.std() / norms.mean(),
        "nc2_norm_cv_weights": weight_norms.std() / weight_norms.mean(),
        "nc2_cos_dev_means": (cosines + 1 / (K - 1)).abs().mean(),
        "nc2_cos_dev_weights": (weight_cosines + 1 / (K - 1)).abs().mean(),
        "nc2_etf_means": from_simplex(M @ M.T),
        "nc2_etf_weights": from_simplex(W @ W.T),
        "nc3_frobenius": (W / W.norm() - M / M.norm()).norm(),
        "nc3_etf": from_simplex(W @ M.T),
        "nc4_mismatch": mismatches / N,
        "ncc_accuracy": correct / N,
        "cdnv": ((variance[:, None] + variance) / (2 * distances))[off_diagonal].mean(),
    }
    return {name: float(value) for name, value in values.items()}


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_measure_features_against_an_accumulated_covariance(threads, capsys):
    sample = problem()
    routes = {"measure_features": measure_features, "accumulated covariance": accumulated_covariance}
    values = {name: route(*sample) for name, route in routes.items()}  # and a warm-up
    seconds, cpu = {name: [] for name in routes}, {name: [] for name in routes}
    begun = perf_counter()
    for repeat in range(REPEATS):  # in turn, so that a busy machine is busy for both
        if repeat >= 3 and perf_counter() - begun > PATIENCE:
            break
        for name, route in routes.items():
            start, cpu_start = perf_counter(), process_time()
            route(*sample)
            seconds[name].append(perf_counter() - start)
            cpu[name].append(process_time() - cpu_start)
    figures = {name: (min(seconds[name]), median(seconds[name]), min(cpu[name])) for name in routes}
    ours, theirs = figures.values()
    repeats = len(seconds["measure_features"])
    with capsys.disabled():
        print(f"\n{N} x {d} float32, K = {K}, {threads} thread(s), {repeats} repeats in turn, seconds")
        print(f"{'':24}{'minimum':>9}{'median':>9}{'CPU':>9}")
        for name, row in figures.items():
            print(f"{name:24}" + "".join(f"{value:9.3f}" for value in row))
        print(f"{'ratio':24}" + "".join(f"{a / b:9.2f}" for a, b in zip(ours, theirs, strict=True)))
    for name, value in values["accumulated covariance"].items():
        assert values["measure_features"][name] == pytest.approx(value, rel=1e-3), name
