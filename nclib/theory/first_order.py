"""GD, SGD and Adam on the unconstrained-feature model, from many random starts at once.

The parameters of all restarts stand stacked in one tensor each. The rules of `torch.optim` work on every entry by
itself, so that one optimiser on the stack is one optimiser a restart. Every sample keeps features of its own:
averaging them within classes would be another trajectory.
"""

import math

import torch
from torch import Tensor

from nclib.theory.batched import Balanced, Points, Problem
from nclib.theory.solver import Solutions

METHODS = ("gd", "sgd", "adam")
CACHE = 2**22
"""Bytes of features that are iterated together: every step passes over all of them several times."""


@torch.no_grad()
def iterate(
    problem: Problem,
    starts: Points,
    *,
    method: str,
    lr: float,
    epochs: int,
    generator: torch.Generator,
    momentum: float = 0.9,
    batch_size: int = 0,
    tolerance: float = 1e-8,
) -> Solutions:
    """Where a method leads from every start, with a step size that a cosine takes from `lr` to zero.

    "gd" and "sgd" have `momentum`. Weight decay is on all entries at every step. Only "sgd" uses `batch_size` and
    the `generator`: it passes over the samples in an order of its own for every restart and epoch. Converged are
    those whose gradient norm is at most `tolerance`. ValueError for an unknown method, a step size, a number of
    epochs or a batch that makes no step, lambdas that differ between restarts or starts that do not fit.
    """
    K, N = problem.num_classes, problem.num_classes * problem.per_class
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not (lr > 0 and epochs >= 1):
        raise ValueError(f"lr must be positive and epochs at least 1, got {lr} and {epochs}")
    batch_size = batch_size if method == "sgd" else N
    if not 1 <= batch_size <= N:
        raise ValueError(f"batch_size must be from 1 to {N}, got {batch_size}")
    if any(value.ndim for value in problem.lambdas().values()):
        raise ValueError("each lambda must be one number for all restarts")
    Balanced(problem, starts)  # raises where shapes do not fit

    y = torch.arange(K, device=starts.W.device).repeat_interleave(problem.per_class)
    orders = [
        torch.Generator().manual_seed(int(seed))
        for seed in torch.randint(2**62, (len(starts.W),), generator=generator)
    ]
    ends = []
    for rows in torch.arange(len(starts.W)).split(max(1, CACHE // starts.H[0].nbytes)):
        points = Points(*(None if part is None else part[rows].clone() for part in starts))
        optimizer = _optimizer(problem, points, method, lr, momentum)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            batches = [None]
            if batch_size < N:
                shuffled = torch.stack([torch.randperm(N, generator=orders[r]) for r in rows])
                batches = shuffled.to(y.device).split(batch_size, dim=1)
            for batch in batches:
                _differentiate(points, y, batch)
                optimizer.step()
            schedule.step()
        ends.append(points)
    points = Points(*(None if parts[0] is None else torch.cat(parts) for parts in zip(*ends, strict=True)))
    function = Balanced(problem, points, averaged=False)
    value, _, norm = function.evaluate(function.encode(points))
    steps = torch.full_like(value, epochs * math.ceil(N / batch_size), dtype=torch.int64)
    return Solutions(
        points=points, value=value, gradient_norm=norm, iterations=steps, converged=norm <= tolerance
    )


def _optimizer(
    problem: Problem, points: Points, method: str, lr: float, momentum: float
) -> torch.optim.Optimizer:
    groups = [
        {"params": [part], "weight_decay": float(decay)}
        for part, decay in zip(points, problem.lambdas().values(), strict=True)
        if part is not None
    ]
    if method == "adam":
        return torch.optim.Adam(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def _differentiate(points: Points, y: Tensor, batch: Tensor | None) -> None:
    """Set the gradients of the mean cross-entropy of each restart's own batch; None: of all samples."""
    W, H, b = points
    seen, targets = H, y.expand(len(W), -1)
    if batch is not None:
        rows = batch[:, :, None].expand(-1, -1, H.shape[2])
        seen, targets = H.gather(1, rows), y[batch]
    Z = seen @ W.mT if b is None else torch.baddbmm(b[:, None], seen, W.mT)
    G = Z.softmax(2).scatter_add_(2, targets[:, :, None], -torch.ones_like(Z[:, :, :1])) / Z.shape[1]
    W.grad, by_H = G.mT @ seen, G @ W
    H.grad = by_H if batch is None else torch.zeros_like(H).scatter_(1, rows, by_H)
    if b is not None:
        b.grad = G.sum(1)
